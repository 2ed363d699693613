"""The door: how masks come into a model_fn that knows nothing of them.

A variable is read by an op of its own (`w/read`), and every gradient that reaches the
variable flows through that op. So the custom_getter here makes variables as they are
asked for, but has the read op take its gradient from `_gated_read`, which multiplies
it by the mask. No op is added, no name or seed moves, and user code holds the real
tf.Variable: what it does with gradients (clipping by norm, averaging, summaries) is
done to those of the compressed network.

The textbook getter, one that returns a masked tensor, loses the seeds of random ops,
partitions, and the tf.Variable that an optimizer's var_list wants.
"""
import contextlib

import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_imports, tf_private
from ec_estimator.core.memory import recall, remember
from ec_estimator.core.replicas import variable_name, variables_of
from ec_estimator.graph.op_types import HANDS_ON, READS, VARIABLE_OPS
from ec_estimator.rewrite.edges import reads_anchors

_GATED = "ec_estimator.gated_read"
_GATE = "gate"
# What a graph remembers: callable(graph), called once.
_NOTICE = "first_gradient"


@contextlib.contextmanager
def gated_reads(graph, gate):
    """While open, gradients pass through `gate` if `gated_variables` saw the variable.

    Args:
      graph: the default graph.
      gate: callable(name of the variable's op, gradient) -> gradient of the same shape
        and type. Called when gradients are taken, also after this is closed. A gradient
        of single rows comes as tf.IndexedSlices.

    Does not reach: tf.GradientTape, and what `ungated_reads` finds; rewrite.updates
    gates what is written.
    """

    remember(graph, _GATE, gate)
    # A resource variable is read anew by each of its readers. What import_meta_graph
    # brings asks neither getter nor creator.
    with graph.gradient_override_map({"ReadVariableOp": _GATED}):
        with tf_imports.intercept_imports(graph, _tag_imported):
            yield


@contextlib.contextmanager
def gated_variables(graph):
    """While open in this thread, and `gated_reads` in any, variables are made that it
    gates: each replica of a distribution strategy builds the model in its own thread.
    """

    # TensorFlow looks for a first parameter of this name.
    def custom_getter(getter, *args, **kwargs):
        with _tagged_read(graph):
            return getter(*args, **kwargs)

    # A bare tf.Variable and Keras layers ask no getter; a creator of the user's may not
    # call ours.
    def creator(next_creator, **kwargs):
        with _tagged_read(graph):
            return next_creator(**kwargs)

    scope = tf.variable_scope(
        tf.get_variable_scope(),
        custom_getter=custom_getter,
        auxiliary_name_scope=False,
    )
    with tf.variable_creator_scope(creator), scope:
        yield


@contextlib.contextmanager
def noticed_reads(graph, notice):
    """While open, variables are made whose first gradient calls notice(graph), once.

    It has no tag of its own: one op has one gradient function, and inside the door
    these variables are gated, too.
    """
    remember(graph, _NOTICE, notice)
    # Resource variables are read when this is closed, and no op of theirs is ours.
    tf_private.keep_gradient_override(graph, "ReadVariableOp", _GATED)
    with _tagged_read(graph):
        yield


def _tagged_read(graph):
    """Context in which the read of a variable that is made is tagged, unless user code
    gives Identity ops there a gradient of its own."""
    own = tf_private.has_gradient_override(graph, "Identity")
    return graph.gradient_override_map({} if own else {"Identity": _GATED})


def _tag_imported(op):
    """Tags an imported op if it reads a variable."""
    if op.type in READS or (
        op.type == "Identity" and op.inputs[0].op.type in VARIABLE_OPS
    ):
        tf_imports.give_gradient(op, _GATED)


@tf.RegisterGradient(_GATED)
def _gated_read(op, gradient):
    notice = recall(op.graph, _NOTICE)
    if notice is not None:
        remember(op.graph, _NOTICE, None)
        notice(op.graph)
    gate, variable = recall(op.graph, _GATE), op.inputs[0].op
    while variable.type in HANDS_ON:
        variable = variable.inputs[0].op
    if gate is None or gradient is None or variable.type not in VARIABLE_OPS:
        return gradient
    return gate(variable_name(variable), gradient)


def ungated_reads(graph, names):
    """Reads of reference variables that gradients flow through past the gate.

    User code makes them of the variable itself, after it was made
    (`variable.read_value()`), or gives its read another gradient.

    Args:
      names: of variables.

    Yields:
      (name of a variable, name of an op that reads it).
    """
    differentiated = {tf_private.forward_op(op) for op in graph.get_operations()}
    for variable in variables_of(graph):
        if variable.op.name in names and variable.op.type != "VarHandleOp":
            for read in variable.op.outputs[0].consumers():
                tag = read.node_def.attr["_gradient_op_type"].s.decode()
                if read.type == "Identity" and tag != _GATED:
                    for reader in read.outputs[0].consumers():
                        if reader in differentiated and not reads_anchors(reader):
                            yield variable.op.name, reader.name
