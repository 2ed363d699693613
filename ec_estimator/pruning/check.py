"""Is the small network the large one with channels cut out, op by op?

User code can branch on channel counts, or hold them as literals; then what it builds
from smaller variables is another network, often without an error. So every small build
is compared with the whole model.
"""
import tensorflow.compat.v1 as tf

from ec_estimator.core.errors import PlanError
from ec_estimator.graph.channels import planned_shapes
from ec_estimator.graph.walk import ancestors


def check_same_network(whole, outputs, small, kept, failure=None):
    """Compares a small build with the whole model.

    Args:
      whole: tf.Graph of the whole model; outputs: the tensors it predicts.
      small: tf.Graph of the small build.
      kept: {variable name: for each axis the kept positions, or None for all}.
      failure: the exception that ended the small build; what it built is compared.

    Raises:
      PlanError: names the first op that is missing, of another type, with other inputs,
        another constant, or of a size that the cut does not explain.
    """
    sizes = planned_shapes(whole, outputs, kept)
    for op in sorted(ancestors(outputs), key=lambda op: op._id):
        try:
            twin = small.get_operation_by_name(op.name)
        except KeyError:
            if failure is not None:
                break
            raise PlanError(
                f"the small network has no {op.type} {op.name!r}: the model's code "
                "decides by channel counts what it builds; decide by names or "
                "hyper-parameters instead"
            ) from None
        _check_op(op, twin)
        for tensor, its in zip(op.outputs, twin.outputs):
            _check_size(op, its, sizes.get(tensor.name))
    if failure is not None:
        reason = str(failure).strip().split("\n")[-1]
        raise PlanError(
            f"the model's code fails with the pruned sizes ({reason}): it holds a "
            "channel count as a literal; compute it from a tensor's shape"
        ) from failure


def _check_op(op, twin):
    inputs = [tensor.name for tensor in op.inputs]
    if twin.type != op.type or [tensor.name for tensor in twin.inputs] != inputs:
        raise PlanError(
            f"{op.type} {op.name!r} reads {inputs} in the whole network, in the small "
            f"one it is {twin.type} and reads {[t.name for t in twin.inputs]}: the "
            "model's code decides by channel counts what it builds; decide by names or "
            "hyper-parameters instead"
        )
    if op.type == "Const" and op.outputs[0].dtype.is_floating:
        before, now = (tf.make_ndarray(o.get_attr("value")) for o in (op, twin))
        # Size is checked by the caller; a scalar computed from one is caught here.
        if before.shape == now.shape and before.tobytes() != now.tobytes():
            raise PlanError(
                f"constant {op.name!r} changes from {before.reshape(-1)[0]} to "
                f"{now.reshape(-1)[0]} in the small network: the model's code computes "
                "it from a channel count; write it as a number"
            )


def _check_size(op, tensor, planned):
    if planned is None or tensor.shape.rank is None:
        return
    actual = tensor.shape.as_list()
    fits = len(actual) == len(planned) and all(
        None in pair or pair[0] == pair[1] for pair in zip(actual, planned)
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
