"""A frozen graph with marks becomes an ONNX model with QuantizeLinear and
DequantizeLinear, by tf2onnx."""
import logging

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.export.format import EngineMissing, ExportError
from ec_estimator.export.onnx_kernels import write_kernels
from ec_estimator.export.onnx_marks import mark, marked, output_name
from ec_estimator.quantization.lsq import SMALLEST_STEP

# The first with per-channel scales, and the one that all engines take.
OPSET = 13
_HELP = (
    "build it of other ops, or leave it out of what is exported, such as parsing or "
    "decoding by a serving_input_receiver_fn that takes features as they are"
)


def convert(model, signature, outputs):
    """Converts one signature of a model.

    Args:
      model: frozen_model.FrozenModel.
      signature: frozen_model.Signature.
      outputs: those of model.outputs that are rounded in the ONNX model, too.

    Returns:
      onnx.ModelProto whose inputs and outputs are named as `onnx_names` says.

    Raises:
      EngineMissing: onnx or tf2onnx is not installed.
      ExportError: ONNX cannot hold the model.
    """
    onnx, tf2onnx = _libraries()
    _check_inputs(signature)
    graph_def, kernels = mark(model, signature, outputs)
    inputs, names = onnx_names(signature)
    names = {f"{output_name(signature, key)}:0": name for key, name in names.items()}
    inputs = {signature.inputs[key].tensor: name for key, name in inputs.items()}
    handlers = {"Print": (_handler(model.scales), [])}
    try:
        optimized = tf2onnx.tf_loader.tf_optimize(
            [*inputs, *kernels], list(names), graph_def
        )
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(optimized, name="")
            converted = tf2onnx.tfonnx.process_tf_graph(
                graph,
                opset=OPSET,
                custom_op_handlers=handlers,
                input_names=[*inputs, *kernels],
                output_names=list(names),
                tensors_to_rename={**inputs, **names},
            )
            converted = tf2onnx.optimizer.optimize_graph(converted)
            made = converted.make_model("ec_estimator")
    # Its errors are of all types.
    except Exception as error:
        unknown = _unknown_ops(onnx, graph_def, tf2onnx)
        what = f"ops {', '.join(unknown)} have no ONNX form; {_HELP}"
        raise ExportError(
            f"tf2onnx cannot convert the model: {what if unknown else error}"
        ) from error
    _check_ops(onnx, made)
    write_kernels(made, kernels)
    return made


def onnx_names(signature):
    """What inputs and outputs are called in the file: ({key: name}, {key: name}).

    The keys themselves, but for an output with the key of an input.
    """
    inputs = {key: key for key in signature.inputs}
    outputs = {k: f"{k}{OUTPUT}" if k in inputs else k for k in signature.outputs}
    return inputs, outputs


OUTPUT = ":output"


def _libraries():
    # tf2onnx sets the level of the root logger as it is imported.
    root = logging.getLogger()
    level = root.level
    try:
        import onnx
        import tf2onnx
    except ImportError as error:
        raise EngineMissing(
            f"an ONNX export needs onnx and tf2onnx ({error}); "
            "pip install 'ec_estimator[onnx]'"
        ) from error
    finally:
        root.setLevel(level)
    return onnx, tf2onnx


def _check_inputs(signature):
    for key, port in signature.inputs.items():
        if port.dtype == tf.string:
            raise ExportError(
                f"input {key!r} ({port.tensor!r}) takes strings, which ONNX engines do "
                "not parse; export with a serving_input_receiver_fn that takes the "
                "features themselves as numbers"
            )


def _check_ops(onnx, made):
    known = {(s.domain, s.name) for s in onnx.defs.get_all_schemas()}
    unknown = {
        n.op_type for n in _all_nodes(made.graph) if (n.domain, n.op_type) not in known
    }
    if unknown:
        raise ExportError(
            f"ops {', '.join(sorted(unknown))} have no ONNX form; {_HELP}"
        )


def _all_nodes(graph):
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _all_nodes(attribute.g)


def _unknown_ops(onnx, graph_def, tf2onnx):
    known = tf2onnx.handler.tf_op.create_mapping(OPSET, [])
    return sorted({n.op for n in graph_def.node if n.op not in known} - _ALSO_KNOWN)


# tf2onnx's rewriters take them.
_ALSO_KNOWN = {
    *("Const", "Print", "NoOp", "Assert"),
    *("Enter", "Exit", "Switch", "Merge", "NextIteration", "LoopCond"),
}


def _handler(scales):
    """Puts ONNX's ops where a Print is: for tf2onnx's custom_op_handlers."""

    def handle(ctx, node, name, args):
        if marked(node.type, name):
            _round(ctx, node, scales[node.get_attr_str("message")])
        else:
            _replace(ctx, node, "Identity", node.input[:1])

    return handle


def _round(ctx, node, scale):
    """Q and DQ, and before them what they cannot do: clips to fewer integers than an
    int8 has, and the signs of one bit."""

    def constant(name, value):
        return ctx.make_const(f"{node.name}/{name}", value).output[0]

    x = node.input[0]
    shape, dtype = ctx.get_shape(x), ctx.get_dtype(x)
    step = np.maximum(np.float32(scale.steps), np.float32(SMALLEST_STEP))
    kind = np.int8 if scale.low < 0 else np.uint8
    like = {"shapes": [shape], "dtypes": [dtype]}
    if scale.bits == 1 and scale.low < 0:
        zero = constant("zero", np.float32(0))
        signs = ctx.make_node("GreaterOrEqual", [x, zero], shapes=[shape])
        ends = constant("high", step), constant("low", -step)
        x = ctx.make_node("Where", [signs.output[0], *ends], **like).output[0]
    elif (scale.low, scale.high) != (np.iinfo(kind).min, np.iinfo(kind).max):
        ends = constant("low", step * scale.low), constant("high", step * scale.high)
        x = ctx.make_node("Clip", [x, *ends], **like).output[0]
    grid = constant("step", step), constant("zero_point", kind(0))
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
