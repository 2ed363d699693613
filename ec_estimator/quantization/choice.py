"""Which layers are quantized, and why the others are not."""
import difflib

import tensorflow.compat.v1 as tf

from ec_estimator.core.errors import ConfigError
from ec_estimator.graph.decisions import TRAINS_ONLY, choose_layers
from ec_estimator.graph.layers import TWO_ACTIVATIONS
from ec_estimator.graph.walk import ancestors
from ec_estimator.quantization.operands import operands

# Ops with a place for a quantized operand.
_QUANTIZABLE = (
    "Conv2D",
    "DepthwiseConv2dNative",
    "Conv2DBackpropInput",
    "MatMul",
    "BatchMatMul",
    "BatchMatMulV2",
)


def choose(config, model):
    """Decides for each layer.

    Args:
      config: QuantizerConfig.
      model: graph.decisions.Model.

    Returns:
      For each layer COMPRESSED or why not.

    Raises:
      ConfigError: fp32_layers that name no layer.
    """
    _check_names(config, model.layers)
    served = None
    if model.outputs is not None:
        served = {op.name for op in ancestors(model.outputs)}
    reasons = []
    for layer, reason in zip(model.layers, model.reasons):
        if layer.kernel and reason.endswith("is not trainable"):
            reason = ""  # What is frozen is served all the same.
        if reason == TWO_ACTIVATIONS:
            reason = "" if served is None or layer.op in served else TRAINS_ONLY
        reasons.append(reason)
    return choose_layers(
        config,
        model._replace(reasons=reasons),
        lambda layer: _refusal(config, model.graph, layer),
    )


def _check_names(config, layers):
    known = [layer.op for layer in layers]
    for name in config.fp32_layers:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, 3, 0.3) or known[:3]
            raise ConfigError(
                f"QuantizerConfig.fp32_layers: {name!r} is no layer; nearest: "
                f"{', '.join(nearest)}"
            )


def _refusal(config, graph, layer):
    """Why a layer stays in float32, or ""."""
    if layer.op in config.fp32_layers:
        return "is in fp32_layers"
    if layer.op_type not in _QUANTIZABLE:
        return f"{layer.op_type} is not quantized by any engine that is served"
    op = graph.get_operation_by_name(layer.op)
    if any(tensor.dtype.base_dtype != tf.float32 for tensor in operands(op)):
        return f"works on {op.outputs[0].dtype.name}; only float32 is quantized"
    if layer.kernel and layer.kernel.size == 0:
        return "its kernel is empty"
    return ""
