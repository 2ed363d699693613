"""TensorRT's rules for QuantizeLinear and DequantizeLinear, checked on a file.

Its parser takes some of what breaks them, and computes something else: a uint8 zero
point is read as int8.

Source: TensorRT Developer Guide, "Working with Quantized Types", explicit quantization.
"""
import numpy as np

from ec_estimator.export.onnx_graph import OnnxGraph
from ec_estimator.export.onnx_kernels import kernel_axis

LAYERS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
# They hand integers on as they are.
_MOVES = (
    *("Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"),
    *("Pad", "MaxPool", "Slice", "Gather", "Expand"),
)


def broken_rules(model):
    """Which node breaks which rule.

    Args:
      model: onnx.ModelProto.

    Returns:
      List of sentences, empty for what TensorRT takes as it was meant.
    """
    return list(_Rules(OnnxGraph(model)).broken())


class _Rules:
    def __init__(self, graph):
        self._graph = graph
        self._constants = graph.constants
        self._producers = graph.producers()
        self._readers = graph.readers()

    def broken(self):
        checks = {
            "QuantizeLinear": (self._integers, self._quantize),
            "DequantizeLinear": (self._integers, self._dequantize),
            "Add": (self._residual,),
            **dict.fromkeys(LAYERS, (self._layer,)),
        }
        for node in self._graph.nodes:
            for check in checks.get(node.op_type, ()):
                for rule in check(node):
                    yield f"{node.op_type} {node.output[0]!r}: {rule}"

    def _integers(self, node):
        """Of both."""
        scale = self._constants.get(node.input[1])
        if scale is None or not (np.isfinite(scale).all() and (scale > 0).all()):
            yield "its scale has to be a constant above 0"
        zero = self._constants.get(node.input[2]) if len(node.input) > 2 else None
        if zero is None:
            yield "its zero point has to be there as a constant"
        elif zero.dtype != np.int8 or zero.any():
            yield f"its zero point has to be int8 and 0, is {zero.dtype} {zero.max()}"

    def _quantize(self, node):
        if np.size(self._constants.get(node.input[1])) > 1:
            yield "an activation has one scale, not one a channel"
        readers = self._readers.get(node.output[0], [])
        if node.output[0] in self._graph.ends or any(
            not self._dequantizes(reader, node) for reader, _ in readers
        ):
            yield "a DequantizeLinear of the same scale has to read it, nothing else"

    def _dequantizes(self, reader, node):
        return reader.op_type == "DequantizeLinear" and np.array_equal(
            self._constants.get(reader.input[1]), self._constants.get(node.input[1])
        )

    def _dequantize(self, node):
        if node.output[0] in self._graph.ends:
            yield "an output of the model has to be float"
        integers = self._constants.get(node.input[0])
        if integers is None:
            return
        if integers.dtype != np.int8:
            yield f"integers of a kernel have to be int8, are {integers.dtype}"
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        for reader, index in self._readers.get(node.output[0], []):
            # Inside of a loop the parser looks itself.
            if index is None:
                continue
            wanted = kernel_axis(reader, index, integers.ndim)
            if np.size(self._constants.get(node.input[1])) > 1 and axis != wanted:
                yield (
                    f"its scales are along axis {axis}, and the output channels of "
                    f"{reader.op_type} {reader.output[0]!r} along {wanted}"
                )

    def _layer(self, node):
        quantized = [self._is_rounded(name) for name in node.input]
        constant = [self._is_kernel(name) for name in node.input[:2]]
        if any(constant) and not all(quantized[:2]):
            yield "its kernel is quantized and its input is not"
        if any(quantized[2:]):
            yield "its bias has to be float"

    def _residual(self, node):
        rounded = [self._is_rounded(name) for name in node.input]
        alone = [self._ends_branch(name) for name in node.input]
        if all(rounded) and any(alone):
            yield (
                "both inputs are quantized; only the shortcut may be, so that the "
                "other is fused with its convolution"
            )

    def _ends_branch(self, name):
        """Whether a tensor is a convolution's output, rounded for its reader alone."""
        dequantize = self._producers.get(name)
        if len(self._readers[name]) > 1 or dequantize is None:
            return False
        quantize = self._producers.get(dequantize.input[0])
        source = quantize and self._producers.get(quantize.input[0])
        return bool(source) and source.op_type in ("BatchNormalization", *LAYERS)

    def _source(self, name):
        node = self._producers.get(name)
        while node is not None and node.op_type in _MOVES:
            node = self._producers.get(node.input[0])
        return node

    def _is_rounded(self, name):
        node = self._source(name)
        return node is not None and node.op_type == "DequantizeLinear"

    def _is_kernel(self, name):
        return self._is_rounded(name) and self._source(name).input[0] in self._constants
