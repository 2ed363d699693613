"""Tells the model's own variables from those of its optimizer."""
import re

from ec_estimator.core import tf_private
from ec_estimator.core.state import is_state
from ec_estimator.graph.op_types import APPLIES, SPARSE_APPLIES
from ec_estimator.graph.walk import descendants, origin


def owner(name, names):
    """The variable among `names`, a set or dict, that `name` belongs to, or None.

    TensorFlow names what belongs to a variable `.../<variable>/<what>`, under whatever
    scope it was made in; the longest match is the owner. A variable of the same name in
    another scope (a teacher's `teacher/dense/kernel`) belongs to nobody.
    """
    pieces = name.split("/")
    inside = (
        "/".join(pieces[start:end])
        for end in range(1, len(pieces))
        for start in range(end)
    )
    return max((n for n in inside if n in names), key=len, default=None)


def model_variables(graph):
    """The variables that a model needs to predict, of a complete training graph.

    All global variables but ours and the optimizer's: its slots (owned by a trainable
    variable; moving averages of weights are kept, models are served from them) and the
    powers and rates that feed its Apply ops. What gradients are taken through is no
    slot, whatever its name: spectral normalization keeps `<kernel>/.../u`.
    """
    variables = graph.get_collection("variables")
    names = {v.op.name for v in variables}
    trainable = {v.op.name for v in variables if v.trainable}
    feeds_optimizer = _optimizer_inputs(graph) - {"global_step"}
    differentiated = {tf_private.forward_op(op) for op in graph.get_operations()}

    def belongs_to_model(variable):
        name = variable.op.name
        if is_state(name):
            return False
        if name in trainable or name.endswith("/ExponentialMovingAverage"):
            return True
        if owner(name, names) in trainable:
            return not differentiated.isdisjoint(descendants([variable.op]))
        return name not in feeds_optimizer

    return [variable for variable in variables if belongs_to_model(variable)]


def is_optimizers(name, shapes):
    """Whether an entry of a checkpoint is the optimizer's, as far as that tells.

    Slots, and what Adam counts its steps with: they must start together. A slot lies
    under its variable's name and has its shape, but for the rows and columns that
    Adafactor sums; moving averages of weights are the model's.

    Args:
      shapes: {name: shape} of all entries of the checkpoint.
    """
    if re.search(r"(^|/)beta[12]_power(_\d+)?$", name):
        return True
    variable = owner(name, shapes)
    if variable is None or name.endswith("/ExponentialMovingAverage"):
        return False
    is_sum = re.search(r"/(Adafactor|adafactor_v[rc]?|vr|vc)(_\d+)?$", name)
    return bool(is_sum) or list(shapes[name]) == list(shapes[variable])


def checkpoint_name(variable):
    """The name a Saver stores a variable under: partitions share their whole's."""
    info = slice_info(variable)
    return info.full_name if info else variable.op.name


def slice_info(variable):
    """Which part of a partitioned variable this is (full_name, full_shape,
    var_offset), or None for a whole one."""
    return tf_private.slice_info(variable)


def _optimizer_inputs(graph):
    """Names of the variables that Apply ops take, or read, as they are."""
    names = set()
    for op in graph.get_operations():
        if op.type.startswith((*APPLIES, *SPARSE_APPLIES)):
            names.update(origin(tensor).name for tensor in op.inputs)
    return names


def initializers(graph):
    """The ops that give variables their first values."""
    found = [v.initializer for v in graph.get_collection("variables")]
    # tf.train.init_from_checkpoint makes an initializer a Tensor.
    return {getattr(initializer, "op", initializer) for initializer in found}
