"""Tensors that this package puts in place of others, such as a quantized kernel."""
from ec_estimator.core.memory import table

_STAND_INS = "stand_ins"


def stand_in(tensor, original):
    """Notes that readers of `original` get `tensor` instead, of the same shape.

    What a stand-in is computed by is of no concern to who looks for a layer's kernel.
    """
    table(tensor.graph, _STAND_INS)[tensor.name] = original


def original_of(tensor):
    """What a tensor stands for, or itself."""
    originals = table(tensor.graph, _STAND_INS)
    while originals and tensor.name in originals:
        tensor = originals[tensor.name]
    return tensor
