"""A frozen graph with marks becomes an ONNX model with QuantizeLinear and
DequantizeLinear, by tf2onnx."""
import tensorflow.compat.v1 as tf

from ec_estimator.export.format import EngineMissing, ExportError
from ec_estimator.export.onnx_kernels import write_kernels
from ec_estimator.export.onnx_marks import mark, output_op
from ec_estimator.export.onnx_round import handler

# The first with per-channel scales, and the one that all engines take.
OPSET = 13
# All of tf2onnx's but the one for QuantizeLinear, in its order.
_OPTIMIZERS = (
    *("TransposeOptimizer", "UpsampleOptimizer", "ConstFoldOptimizer"),
    *("LoopOptimizer", "MergeDuplicatedNodesOptimizer", "ReshapeOptimizer"),
    *("GlobalPoolOptimizer", "IdentityOptimizer", "BackToBackOptimizer"),
    "EinsumOptimizer",
)
# The end of the name of an output whose key is an input's, too.
OUTPUT = ":output"
_HELP = (
    "build it of other ops, or leave it out of what is exported, such as parsing or "
    "decoding by a serving_input_receiver_fn that takes features as they are"
)


def convert(model, signature, layout):
    """Converts one signature of a model.

    Args:
      model: frozen_model.FrozenModel.
      signature: frozen_model.Signature.
      layout: onnx_targets.Layout.

    Returns:
      onnx.ModelProto whose inputs and outputs are named as `onnx_names` says.

    Raises:
      EngineMissing: onnx or tf2onnx is not installed.
      ExportError: ONNX cannot hold the model.
    """
    onnx, tf2onnx = _libraries()
    _check_ends(signature)
    graph_def, kernels = mark(model, signature, layout.outputs)
    input_names, output_names = onnx_names(signature)
    renamed = {signature.inputs[k].tensor: name for k, name in input_names.items()}
    ends = [*renamed, *kernels]
    made = {output_op(signature, k) + ":0": name for k, name in output_names.items()}
    try:
        optimized = tf2onnx.tf_loader.tf_optimize(ends, list(made), graph_def)
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(optimized, name="")
            converted = tf2onnx.tfonnx.process_tf_graph(
                graph,
                opset=OPSET,
                custom_op_handlers={"Print": (handler(model.scales, layout), [])},
                input_names=ends,
                output_names=list(made),
                use_default=_switches(graph, renamed),
                tensors_to_rename={**renamed, **made},
            )
            steps = _steps(tf2onnx, layout)
            converted = tf2onnx.optimizer.optimize_graph(converted, optimizers=steps)
            converted = converted.make_model("ec_estimator")
    # Its errors are of all types.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        unknown = _unknown_ops(graph_def, tf2onnx)
        if unknown:
            reason += f"; ops {', '.join(unknown)} have no ONNX form; {_HELP}"
        raise ExportError(f"tf2onnx cannot convert the model: {reason}") from error
    _check_ops(onnx, converted)
    write_kernels(converted, kernels)
    return converted


def _steps(tf2onnx, layout):
    names = (*_OPTIMIZERS, *(["QDQOptimizer"] if layout.moves_integers else []))
    return {name: getattr(tf2onnx.optimizer, name) for name in names}


def onnx_names(signature):
    """What inputs and outputs are called in the file: ({key: name}, {key: name}).

    The keys themselves, but for an output with the key of an input. Outputs that are
    strings are not in the file: engines do not make them.
    """
    inputs = {key: key for key in signature.inputs}
    outputs = {
        key: f"{key}{OUTPUT}" if key in inputs else key
        for key, port in signature.outputs.items()
        if port.dtype != tf.string
    }
    return inputs, outputs


def _libraries():
    try:
        import onnx
        import tf2onnx
    except ImportError as error:
        raise EngineMissing(
            f"an ONNX export needs onnx and tf2onnx ({error}); "
            "pip install 'ec_estimator[onnx]'"
        ) from error
    return onnx, tf2onnx


def _switches(graph, inputs):
    """The placeholders with a default that are no inputs."""
    return [
        op.name
        for op in graph.get_operations()
        if op.type == "PlaceholderWithDefault" and op.outputs[0].name not in inputs
    ]


def _check_ends(signature):
    for key, port in signature.inputs.items():
        if port.dtype == tf.string:
            raise ExportError(
                f"input {key!r} ({port.tensor!r}) takes strings, which ONNX engines do "
                "not parse; export with a serving_input_receiver_fn that takes the "
                "features themselves as numbers"
            )
    strings = sorted(k for k, p in signature.outputs.items() if p.dtype == tf.string)
    if len(strings) == len(signature.outputs):
        raise ExportError(
            f"outputs {', '.join(strings)} are strings, which ONNX engines do not "
            "make; choose a signature that has numbers among its outputs"
        )
    if strings:
        tf.logging.warning(
            "ONNX: outputs %s are strings and left out.", ", ".join(strings)
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


def _unknown_ops(graph_def, tf2onnx):
    known = tf2onnx.handler.tf_op.create_mapping(OPSET, [])
    return sorted(
        {n.op for n in graph_def.node if n.op not in known or n.op.startswith(_TABLES)}
        - _ALSO_KNOWN
    )


# What they hold is not in the graph.
_TABLES = ("HashTable", "MutableHashTable", "LookupTable")
# tf2onnx's rewriters take them.
_ALSO_KNOWN = {
    *("Const", "Print", "NoOp", "Assert"),
    *("Enter", "Exit", "Switch", "Merge", "NextIteration", "LoopCond"),
}
