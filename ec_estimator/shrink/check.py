"""Is the small network the large one with channels cut out, op by op?

User code can branch on channel counts, or hold them as literals; then what it builds
from smaller variables is another network, often without an error. So every small build
is compared with the whole model.
"""
import tensorflow.compat.v1 as tf

from ec_estimator.core.errors import PlanError
from ec_estimator.core.replicas import own_name, variables_of
from ec_estimator.graph.op_types import VARIABLE_OPS
from ec_estimator.graph.variables import checkpoint_name, slice_info
from ec_estimator.shrink.whole import INPUTS


def check_same_network(whole, cut, small, added, scope, failure=None):
    """Compares a small build with the whole model.

    Args:
      whole: shrink.whole.Whole.
      cut: shrink.cut.Cut of its graph.
      small: tf.Graph of the small build.
      added: set of its ops that fit a tensor to what reads it, and stand for it.
      scope: core.replicas.replica_scope of the build.
      failure: the exception that ended the small build; what it built is compared.

    Raises:
      PlanError: names the first op that is missing, of another type, with other inputs,
        another constant, or of a size that the cut does not explain.
    """
    # Losses and regularizers are in collections, which all replicas see: the first has
    # no others' yet, and is the only one with regularizers.
    for op in whole.network_ops() if scope else whole.forward_ops():
        if op.name.startswith(INPUTS):
            continue
        try:
            # Replicas share their variables.
            inside = "" if op.type in VARIABLE_OPS else scope
            twin = small.get_operation_by_name(inside + op.name)
        except KeyError:
            raise PlanError(_missing(op, failure)) from failure
        _check_op(op, twin, added, scope)
        if op not in whole.derived and not cut.splits_otherwise(op):
            for tensor, its in zip(op.outputs, twin.outputs):
                _check_size(op, its, cut.sizes(tensor))
    if failure is not None:
        raise failure


def check_same_variables(whole, artifact):
    """Is this the model that was pruned?

    Args:
      whole: shrink.whole.Whole.
      artifact: shrink.artifact.Artifact.

    Raises:
      PlanError: a variable has another shape than it had when it was pruned.
    """
    cut_variables = artifact.variables
    for variable in variables_of(whole.graph):
        info = slice_info(variable)
        shape = tuple(info.full_shape if info else variable.shape.as_list())
        name = checkpoint_name(variable)
        if name in cut_variables and cut_variables[name].shape != shape:
            raise PlanError(
                f"variable {name!r} had shape {cut_variables[name].shape} when it was "
                f"pruned, and has {shape}; build the model that {artifact.folder!r} "
                "was pruned from"
            )


def check_all_variables(graph, artifact):
    """Has a small build the variables of the model that was pruned?

    Of those that are smaller now: a mode may lack others, such as a head's.

    Args:
      graph: tf.Graph, complete.
      artifact: shrink.artifact.Artifact.

    Raises:
      PlanError: one that the model predicts with is missing.
    """
    variables = artifact.variables
    missing = [
        name
        for name in artifact.missing_in(graph)
        if name in variables and variables[name].small_shape != variables[name].shape
    ]
    if missing:
        raise PlanError(
            f"the model has no variable {missing[0]!r}; build the model that "
            f"{artifact.folder!r} was pruned from"
        )


def _missing(op, failure):
    if failure is None:
        return (
            f"the small network has no {op.type} {op.name!r}: the model's code decides "
            "by channel counts what it builds; decide by names or hyper-parameters "
            "instead"
        )
    reason = str(failure).strip().split("\n")[-1]
    return (
        f"{op.type} {op.name!r} can't be built with the pruned sizes ({reason}); "
        "compute what it reads from a tensor's shape instead of a channel count"
    )


def _check_op(op, twin, added, scope):
    if twin.type != op.type or not all(
        (whole.op.name, whole.value_index)
        == (own_name(small.op, scope), small.value_index)
        or whole.op.name.startswith(INPUTS)
        or small.op in added
        for whole, small in zip(op.inputs, twin.inputs)
    ):
        raise PlanError(
            f"{op.type} {op.name!r} reads {_names(op)} in the whole network, in the "
            f"small one it is {twin.type} and reads {_names(twin)}: the model's code "
            "decides by channel counts what it builds; decide by names or "
            "hyper-parameters instead"
        )
    if op.type == "Const" and op.outputs[0].dtype.is_floating:
        before, now = (tf.make_ndarray(o.get_attr("value")) for o in (op, twin))
        if before.shape == now.shape and before.tobytes() != now.tobytes():
            raise PlanError(
                f"constant {op.name!r} changes from {before.reshape(-1)[0]} to "
                f"{now.reshape(-1)[0]} in the small network: the model's code computes "
                "it from a channel count; write it as a number"
            )


def _names(op):
    return [tensor.name for tensor in op.inputs]


def _check_size(op, tensor, planned):
    if planned is None or tensor.shape.rank is None:
        return
    actual = tensor.shape.as_list()
    fits = len(actual) == len(planned) and all(
        None in pair or pair[0] == pair[1] for pair in zip(actual, planned)
    )
    if not fits and op.type in VARIABLE_OPS:
        raise PlanError(
            f"variable {op.name!r} has shape {actual} in the small network, where the "
            f"cut gives {planned}: it was imported with its graph and can't be built "
            "smaller; prune the model with its scope, "
            f"{op.name.split('/')[0]!r}, in exclude_scopes"
        )
    if not fits:
        literal = ""
        if op.type == "Reshape":
            shape = tf.get_static_value(tensor.op.inputs[1])
            literal = "" if shape is None else f" (to the literal {shape.tolist()})"
        raise PlanError(
            f"{op.type} {op.name!r}{literal} has shape {actual} in the small network, "
            f"where the cut gives {planned}; compute the size from the tensor's shape, "
            "for example with tf.shape or tf.layers.flatten"
        )
