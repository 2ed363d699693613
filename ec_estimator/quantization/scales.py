"""scales.json: what an engine needs to know of each quantized tensor."""
import json

from ec_estimator.graph.op_types import SHAPE_OPS, VARIABLE_OPS
from ec_estimator.graph.walk import ancestors, origin
from ec_estimator.quantization.operands import source_of

FORMAT_VERSION = 1
_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")


def scales(layers, quantizers, quantized, steps):
    """The content of scales.json.

    Args:
      layers: {op: placement.QuantizedLayer} of the graph that predicts.
      quantizers: {quantizer name: lsq.Quantizer}.
      quantized: {quantizer name: the float tensors that are quantized with it}.
      steps: {quantizer name: array of its step sizes}.

    Returns:
      Text. For each quantizer its `kind` (kernel, activation or Winograd), `tensors`
      (TensorFlow names of the float tensors it quantizes), `bits`, `signed`, `low` and
      `high` (the integers), `step_sizes` and `range`; and for each layer its op, its
      kernel and operands' quantizers, and the batch norm that folds into it.
    """
    kernels = {layer.weights.quantizer for layer in layers.values() if layer.weights}
    tables = {
        name: {
            "kind": _kind(name, kernels),
            "tensors": sorted({t.name for t in quantized.get(name, [])}),
            **_integers(quantizer, steps[name]),
        }
        for name, quantizer in quantizers.items()
    }
    rows = [
        {
            "op": op.name,
            "op_type": op.type,
            "kernel": layer.kernel or None,
            "activations": [operand.quantizer for operand in layer.activations],
            "winograd": layer.winograd,
            "batch_norm": _batch_norm(op),
        }
        for op, layer in layers.items()
    ]
    content = {
        "format_version": FORMAT_VERSION,
        "quantizers": tables,
        "layers": rows,
    }
    return json.dumps(content, indent=1) + "\n"


def _integers(quantizer, steps):
    sizes = [float(size) for size in steps.reshape(-1)]
    return {
        "bits": quantizer.bits,
        "signed": quantizer.low < 0,
        "low": quantizer.low,
        "high": quantizer.high,
        "step_sizes": sizes,
        "range": [
            [quantizer.low * size for size in sizes],
            [quantizer.high * size for size in sizes],
        ],
    }


def _kind(name, kernels):
    if name in kernels:
        return "kernel"
    return "winograd" if "/winograd_" in name else "activation"


def _batch_norm(op):
    """The batch norm that a layer's output goes through first, or None."""
    tensor = op.outputs[0]
    while True:
        readers = [r for r in tensor.consumers() if r.type not in SHAPE_OPS]
        if len(readers) != 1:
            return None
        (reader,) = readers
        if reader.type in _NORMS:
            names = ("gamma", "beta", "mean", "variance")
            found = {n: _variable(t) for n, t in zip(names, reader.inputs[1:5])}
            return {"op": reader.name, "epsilon": reader.get_attr("epsilon"), **found}
        if reader.type == "Mul":
            return _unfused(reader, tensor)
        if reader.type not in ("BiasAdd", "Identity"):
            return None
        tensor = reader.outputs[0]


def _unfused(op, tensor):
    """x * (gamma / sqrt(variance + epsilon)) + ..., from operations of their own."""
    others = [t for t in op.inputs if t is not tensor]
    made = ancestors(others)
    if not any(o.type == "Rsqrt" for o in made) or tensor.op in made:
        return None
    names = sorted(o.name for o in made if o.type in VARIABLE_OPS)
    return {"op": op.name, "variables": names}


def _variable(tensor):
    source, _ = source_of(tensor)
    return origin(source).name
