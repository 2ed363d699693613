"""Loss scales: gradients of a loss times a variable, divided by it again."""
import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.core.memory import table
from ec_estimator.core.replicas import variables_of
from ec_estimator.core.state import is_state
from ec_estimator.graph.op_types import (
    APPLIES,
    CASTS,
    HANDS_ON,
    SPARSE_APPLIES,
    VARIABLE_OPS,
)
from ec_estimator.graph.variables import first_writes
from ec_estimator.graph.walk import origin, run_with, takers
from ec_estimator.rewrite.updates import GRADIENT_INPUTS

_INVERSES = "inverse_loss_scales"


def unscaled(gradient, losses):
    """A gradient of losses as that of what they were before they were scaled.

    Args:
      gradient: tensor.
      losses: tensors. If they are scaled differently, or by no variable, the gradient
        is theirs as they are.
    """
    scales = {_scale(loss) for loss in losses}
    if len(scales) != 1 or None in scales:
        return gradient
    return gradient * tf.cast(_inverse(scales.pop()), gradient.dtype)


def _scale(loss):
    """The tensor that a loss is multiplied with at last, if it is a variable that is
    not trained; or None."""
    op = loss.op
    while op.type in ("Identity", *CASTS):
        op = op.inputs[0].op
    if op.type != "Mul" or loss.shape.rank != 0:
        return None
    for tensor in op.inputs:
        variable = _variable(tensor)
        if variable is not None and not variable.trainable:
            return tensor
    return None


def _variable(tensor):
    """The variable that a tensor is the value of, in whatever precision, or None."""
    op = origin(tensor)
    while op.type in CASTS:
        op = origin(op.inputs[0])
    if op.type not in VARIABLE_OPS:
        return None
    variables = variables_of(tensor.graph)
    return next((v for v in variables if v.op is op), None)


def _inverse(scale):
    """1 / scale as the step's gradients have it: read before the step changes it."""
    inverses = table(scale.graph, _INVERSES)
    if scale.name not in inverses:
        inverses[scale.name] = 1.0 / tf.cast(scale, tf.float32)
    return inverses[scale.name]


def gradients_of_scaled_losses(graph):
    """The gradients that optimizers are given, in a graph with a loss scale; else [].

    The graph has to be complete. Whatever changes a loss scale is made to wait until it
    was read here.
    """
    inverses = table(graph, _INVERSES)
    for name, inverse in inverses.items():
        variable = _variable(graph.get_tensor_by_name(name))
        # What is read after an update has the new value.
        before = first_writes(variable) | run_with([inverse.op])
        for op, _ in takers(variable.op):
            if op not in before:
                tf_private.wait_for(op, inverse.op)
    return list(_applied(graph)) if inverses else []


def _applied(graph):
    for op in graph.get_operations():
        if op.type.startswith((*APPLIES, *SPARSE_APPLIES)) and not is_state(op.name):
            arguments = [argument.name for argument in op.op_def.input_arg]
            for gradient in set(arguments).intersection(GRADIENT_INPUTS):
                tensor = op.inputs[arguments.index(gradient)]
                # Into the branch where all gradients are finite.
                while tensor.op.type in HANDS_ON:
                    tensor = tensor.op.inputs[0]
                if tf_private.is_outside(tensor.op):
                    yield tensor
