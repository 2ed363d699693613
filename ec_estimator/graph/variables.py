"""Tells the model's own variables from those of its optimizer."""
import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.core.replicas import variables_of
from ec_estimator.core.state import is_state
from ec_estimator.graph.backward_pass import backward_ops
from ec_estimator.graph.op_types import (
    APPLIES,
    CALLS,
    SENDS_GRADIENTS,
    SPARSE_APPLIES,
    TAKES_GRADIENTS,
)
from ec_estimator.graph.walk import descendants, is_alias, origin, takers


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

    All global variables but ours and the optimizer's: moving averages of weights are
    kept, models are served from them.
    """
    others = optimizer_variables(graph)
    return [
        variable
        for variable in variables_of(graph)
        if not is_state(variable.op.name) and variable.op.name not in others
    ]


def optimizer_variables(graph):
    """Names of the variables that optimizers keep for themselves: slots, powers, rates.

    Names tell nothing: a user's layer may be called Adam, and spectral normalization
    keeps `<kernel>/.../u`. These are untrained and either taken or read, as they are,
    by an Apply op, or written with what is computed from gradients; and no gradient is
    taken through what reads them. What only a function writes is not among them.

    Args:
      graph: a training graph, also one that was imported.
    """
    backward = backward_ops(graph)
    from_gradients = _computed_from_gradients(backward)
    taken = _optimizer_inputs(graph)
    steps = {step.op for step in variables_of(graph, tf.GraphKeys.GLOBAL_STEP)}

    def is_optimizers(variable):
        op = variable.op
        if variable.trainable or op in steps or is_state(op.name):
            return False
        return (
            op in taken
            or any(
                taker in from_gradients
                for taker, _ in takers(op)
                if taker.type not in CALLS
            )
        ) and not any(reader.name in backward for reader in descendants([op]))

    variables = variables_of(graph)
    return {variable.op.name for variable in variables if is_optimizers(variable)}


def _computed_from_gradients(backward):
    """The ops that values of the gradients that train reach.

    Not those of a gradient that is part of the forward pass, as in a penalty on it; and
    not through conditions, such as that all gradients be finite, or a variable.
    """
    seen = set()
    stack = list(backward.ops)
    while stack:
        op = stack.pop()
        if op in seen or op.name in backward:
            continue
        seen.add(op)
        for output in op.outputs:
            if output.dtype.is_floating and not is_alias(output):
                stack.extend(output.consumers())
        if op.type in SENDS_GRADIENTS:
            readers = op.inputs[0].consumers()
            stack.extend(take for take in readers if take.type in TAKES_GRADIENTS)
    return seen


def _optimizer_inputs(graph):
    """The variables' ops that Apply ops take, or read, as they are."""
    return {
        origin(tensor)
        for op in graph.get_operations()
        if op.type.startswith((*APPLIES, *SPARSE_APPLIES))
        for tensor in op.inputs
    }


def optimizer_entries(path):
    """Names of a checkpoint's entries that are its optimizer's, as its graph tells.

    A Saver writes the graph beside the checkpoint, in `<path>.meta`, and which variable
    it stores under which name is in there. Without that file nothing tells a slot from
    a variable of the model's that is named like one: no entry is taken for a slot.

    Args:
      path: of the checkpoint.
    """
    meta = f"{path}.meta"
    if not tf.gfile.Exists(meta):
        return set()
    with tf.Graph().as_default() as graph:
        try:
            tf.train.import_meta_graph(meta, clear_devices=True)
        # An op that is not loaded, or a damaged file.
        except (OSError, tf.errors.OpError, ValueError, KeyError) as error:
            reason = str(error).split("\n")[0]
            tf.logging.warning(
                "%s cannot be read (%s), so all that the checkpoint holds counts as "
                "the model's, optimizer slots too.",
                meta,
                reason,
            )
            return set()
        optimizers = optimizer_variables(graph)
        entries, models = set(), set()
        for op in graph.get_operations():
            for name, variable in _saved(op):
                (entries if variable in optimizers else models).add(name)
    return entries - models


def _saved(op):
    """(name in the checkpoint, name of the variable) of what an op saves."""
    if op.type != "SaveV2":
        return
    names = tf.get_static_value(op.inputs[1])
    for name, tensor in zip(() if names is None else names, op.inputs[3:]):
        yield name.decode(), origin(tensor).name


def checkpoint_name(variable):
    """The name a Saver stores a variable under: partitions share their whole's."""
    info = slice_info(variable)
    return info.full_name if info else variable.op.name


def slice_info(variable):
    """Which part of a partitioned variable this is (full_name, full_shape,
    var_offset), or None for a whole one."""
    return tf_private.slice_info(variable)


def initializers(graph):
    """The ops that give variables their first values."""
    return {op for v in variables_of(graph) for op in first_writes(v)}


def first_writes(variable):
    """The ops that give a variable its first value.

    tf.train.init_from_checkpoint and others make a variable another initializer, and
    the one that it was made with stays in the graph. That was the first op in the
    variable's own name scope, so no other op can have its name.
    """
    # tf.train.init_from_checkpoint makes an initializer a Tensor.
    found = {getattr(variable.initializer, "op", variable.initializer)}
    name = f"{variable.op.name}/Assign"
    return found.union(op for op, _ in takers(variable.op) if op.name == name)
