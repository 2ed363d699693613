"""QuantizeLinear and DequantizeLinear in place of the marks of activations."""
import numpy as np

from ec_estimator.export.onnx_marks import marked
from ec_estimator.quantization.lsq import SMALLEST_STEP


def handler(scales, layout):
    """Puts ONNX's ops where a Print is: for tf2onnx's custom_op_handlers.

    Args:
      scales: {quantizer name: frozen_model.Scale}.
      layout: onnx_targets.Layout.
    """

    def handle(ctx, node, name, args):
        if marked(node.type, name):
            _round(ctx, node, scales[node.get_attr_str("message")], layout)
        else:
            _replace(ctx, node, "Identity", node.input[:1])

    return handle


def _round(ctx, node, scale, layout):
    """Q and DQ, and before them what they cannot do: clips to fewer integers than an
    int8 has, and the signs of one bit."""

    def constant(name, value):
        return ctx.make_const(f"{node.name}/{name}", value).output[0]

    x = node.input[0]
    shape, dtype = ctx.get_shape(x), ctx.get_dtype(x)
    step = np.maximum(np.float32(scale.steps), np.float32(SMALLEST_STEP))
    zero_point = layout.signed_zero if scale.low < 0 else np.uint8(0)
    like = {"shapes": [shape], "dtypes": [dtype]}
    if scale.bits == 1 and scale.low < 0:
        zero = constant("zero", np.float32(0))
        signs = ctx.make_node("GreaterOrEqual", [x, zero], shapes=[shape])
        ends = constant("high", step), constant("low", -step)
        x = ctx.make_node("Where", [signs.output[0], *ends], **like).output[0]
    elif scale.high - scale.low < 255:
        low, high = (step * np.float32(end) for end in (scale.low, scale.high))
        ends = constant("low", low), constant("high", high)
        x = ctx.make_node("Clip", [x, *ends], **like).output[0]
    grid = constant("step", step), constant("zero_point", zero_point)
    x = ctx.make_node("QuantizeLinear", [x, *grid], shapes=[shape]).output[0]
    _replace(ctx, node, "DequantizeLinear", [x, *grid])


def _replace(ctx, node, op_type, inputs):
    shapes, dtypes = node.output_shapes, node.output_dtypes
    ctx.remove_node(node.name)
    ctx.make_node(
        op_type,
        inputs,
        outputs=node.output,
        shapes=shapes,
        dtypes=dtypes,
        name=node.name,
    )
