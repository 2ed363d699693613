"""What an operand is beside its labels: a filler, or zero with a variable."""
import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.core.replicas import variable_name
from ec_estimator.graph.op_types import (
    CASTS,
    FAKE_QUANTIZES,
    HANDS_ON,
    READS,
    RESHAPES,
    VARIABLE_OPS,
)

# Constants of one value, and what is drawn entry by entry, fit any channels.
_FITS_ANYTHING = ("Fill", "RandomUniform", "RandomStandardNormal", "TruncatedNormal")
# A slice of what these put out is zero where that of all, or of any, of some of their
# inputs is.
_FIRST, _EVERY = (all, slice(0, 1)), (all, slice(None))
_ZERO_KEEPING = {
    **dict.fromkeys([*HANDS_ON, *READS, *CASTS, *FAKE_QUANTIZES], _FIRST),
    **dict.fromkeys([*RESHAPES, "Transpose"], _FIRST),
    **dict.fromkeys(["StopGradient", "Neg", "Abs", "Sign", "Tanh", "RealDiv"], _FIRST),
    **dict.fromkeys(["Add", "AddV2", "AddN", "Sub", "Merge"], _EVERY),
    "Mul": (any, slice(None)),
    "Split": (all, slice(1, 2)),
    "ConcatV2": (all, slice(0, -1)),
}


class Fillers:
    """Tells tensors whose entries are all alike, or drawn alike: any may be left out.

    A constant is unpacked once, however many ops read it.
    """

    def __init__(self):
        self._constants = {}

    def fit(self, tensor):
        """Whether a tensor fits any channels."""
        op = tensor.op
        if op.type in _FITS_ANYTHING or tensor.shape.num_elements() == 1:
            return True
        if op.type != "Const":
            return False
        if op.name not in self._constants:
            value = tf.make_ndarray(op.get_attr("value"))
            alike = value.size > 0 and bool(np.all(value == value.flat[0]))
            self._constants[op.name] = alike
        return self._constants[op.name]


def is_zero_with(tensor, names):
    """Whether a slice of a kernel is zero where the variables of these names are."""
    # Each op once: weights that are added to themselves make paths without number.
    known = {}

    def is_zero(op):
        if op.type in VARIABLE_OPS:
            return variable_name(op) in names
        if op.type not in _ZERO_KEEPING:
            return False
        if op not in known:
            known[op] = False  # Ends the recursion in loops.
            which, inputs = _ZERO_KEEPING[op.type]
            known[op] = which(is_zero(t.op) for t in list(op.inputs)[inputs])
        return known[op]

    return is_zero(tensor.op)
