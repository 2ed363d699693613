"""Decides what is quantized: a pure function of the graph that predicts."""
import dataclasses
import difflib
import zlib
from typing import Dict, Tuple

import tensorflow.compat.v1 as tf

from ec_estimator.core.errors import ConfigError
from ec_estimator.graph.coverage import COMPRESSED
from ec_estimator.graph.layers import kernel_index, output_axes
from ec_estimator.graph.op_types import MOVES, SHAPE_OPS
from ec_estimator.graph.plan import TRAINS_ONLY, Decisions, choose_layers
from ec_estimator.graph.walk import ancestors, descendants
from ec_estimator.quantization import winograd
from ec_estimator.quantization.lsq import (
    Quantizer,
    of_activations,
    of_weights,
)
from ec_estimator.quantization.signs import is_never_negative

TWO_ACTIVATIONS = "multiplies two activations"
# Ops with a place for a quantized operand.
_QUANTIZABLE = (
    "Conv2D",
    "DepthwiseConv2dNative",
    "Conv2DBackpropInput",
    "MatMul",
    "BatchMatMul",
    "BatchMatMulV2",
)
_JOINS = ("Add", "AddV2", "AddN", "ConcatV2")
_ACTIVATIONS = ("Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Tanh", "Sigmoid")
_AFFINE = (
    *("BiasAdd", "Add", "AddV2", "Sub", "Mul"),
    *("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"),
)


@dataclasses.dataclass(frozen=True)
class Operand:
    """An input of a layer's op, and the name of its quantizer."""

    index: int
    quantizer: str


@dataclasses.dataclass(frozen=True)
class QuantizedLayer:
    """op, op_type: of the layer; kernel: its kernel's name, "" for two activations.

    position: which of the layers that read the kernel it is, in order of creation.
    weights: where the kernel comes in, or None; activations: the other operands.
    winograd: whether it becomes a Winograd convolution.
    """

    op: str
    op_type: str
    kernel: str
    position: int
    weights: object
    activations: Tuple[Operand, ...]
    winograd: bool = False


@dataclasses.dataclass(frozen=True)
class Placement:
    """layers: all that are quantized; outputs: {name of a tensor: its quantizer}, of
    what post_quant quantizes; quantizers: by name."""

    layers: Tuple[QuantizedLayer, ...]
    outputs: Dict[str, str]
    quantizers: Dict[str, Quantizer]
    kernels: Dict[str, object]

    def digest(self):
        """JSON-ready, to tell whether two placements are the same."""
        return {
            "layers": len(self.layers),
            "quantizers": {
                name: [q.bits, q.low, q.high, q.steps]
                for name, q in self.quantizers.items()
            },
            "checksum": zlib.crc32(repr((self.layers, self.outputs)).encode()),
        }


def place(config, model):
    """Chooses layers, and a quantizer for each tensor.

    Args:
      config: QuantizerConfig.
      model: graph.plan.Model.

    Returns:
      graph.plan.Decisions with a Placement as details.

    Raises:
      ConfigError: fp32_layers that name no layer.
    """
    _check_names(config, model.layers)
    decisions = _decide(config, model)
    chosen = [
        layer
        for layer, decision in zip(model.layers, decisions)
        if decision == COMPRESSED
    ]
    placement = _Placing(config, model, chosen).placement()
    kernels = tuple(
        dict.fromkeys(layer.kernel.name for layer in chosen if layer.kernel)
    )
    notes = _notes(placement) if chosen else ()
    if config.int8_winograd:
        turned = {layer.op for layer in placement.layers if layer.winograd}
        decisions = [
            f"{COMPRESSED} (Winograd)" if layer.op in turned else decision
            for layer, decision in zip(model.layers, decisions)
        ]
    return Decisions(decisions, kernels, placement, notes)


def _check_names(config, layers):
    known = [layer.op for layer in layers]
    for name in config.fp32_layers:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, 3, 0.3) or known[:3]
            raise ConfigError(
                f"QuantizerConfig.fp32_layers: {name!r} is no layer; nearest: "
                f"{', '.join(nearest)}"
            )


def _decide(config, model):
    """For each layer COMPRESSED or why not."""

    def refusal(layer):
        if layer.op in config.fp32_layers:
            return "is in fp32_layers"
        if layer.op_type not in _QUANTIZABLE:
            return f"{layer.op_type} is not quantized by any engine that is served"
        op = model.graph.get_operation_by_name(layer.op)
        if any(tensor.dtype.base_dtype != tf.float32 for tensor in _operands(op)):
            return f"works on {op.outputs[0].dtype.name}; only float32 is quantized"
        if layer.kernel and layer.kernel.size == 0:
            return "its kernel is empty"
        return ""

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
    return choose_layers(config, model._replace(reasons=reasons), refusal)


def _operands(op):
    """The tensors that a layer multiplies."""
    inputs = list(op.inputs)
    return inputs[1:] if op.type == "Conv2DBackpropInput" else inputs


def data_index(op, kernel_index):
    """Which input of a layer's op holds the activations, given where its kernel is."""
    if op.type == "Conv2DBackpropInput":
        return 2
    return 1 - kernel_index


def source_of(tensor):
    """The tensor that reaches an operand by moves alone, and its reader on the way: a
    quantizer before moves serves all that comes after.

    Returns:
      (tensor, (op, index)) where the op's input `index` is the tensor, or None for the
      operand itself.
    """
    reader = None
    while tensor.op.type in MOVES and _keeps_values(tensor.op):
        reader, tensor = (tensor.op, 0), tensor.op.inputs[0]
    return tensor, reader


def _keeps_values(op):
    if op.type == "PadV2":
        return tf.get_static_value(op.inputs[2]) == 0
    return op.inputs[0].dtype == op.outputs[0].dtype


class _Placing:
    """One quantizer a tensor, found or made as the layers ask for them."""

    def __init__(self, config, model, chosen):
        self._config = config
        self._graph = model.graph
        self._chosen = chosen
        self._made = {}
        self._by_tensor = {}
        self._outputs = {}
        # A kernel that several layers read is quantized as the first one views it.
        self._kernels = {}
        for layer in chosen:
            if layer.kernel:
                self._kernels.setdefault(layer.kernel.name, layer.kernel)
        ops = {
            layer.op: self._graph.get_operation_by_name(layer.op) for layer in chosen
        }
        self._ops = ops
        self._model_outputs = {t.op for t in model.outputs or ()}
        self._layer_ops = set(ops.values())
        # The layers and all that depends on them.
        self._behind = descendants(self._layer_ops)
        self._ends = self._first_and_last()

    def _first_and_last(self):
        """The layers that no other quantized layer is before, or behind."""
        if self._config.first_last_bits is None:
            return set()
        ahead = ancestors(t for op in self._layer_ops for t in op.outputs)
        return {
            op
            for op in self._layer_ops
            if not self._come_after_layers(op.inputs)
            or ahead.isdisjoint(r for t in op.outputs for r in t.consumers())
        }

    def _come_after_layers(self, tensors):
        """Whether any of the tensors depends on what a layer puts out."""
        return any(tensor.op in self._behind for tensor in tensors)

    def _bits(self, op, bits):
        return self._config.first_last_bits if op in self._ends else bits

    def placement(self):
        readers, layers = {}, []
        for layer in self._chosen:
            op = self._ops[layer.op]
            if not layer.kernel:
                activations = tuple(
                    self._activation(op, index, f"{layer.op}/operand_{index}")
                    for index in (0, 1)
                )
                layers.append(
                    QuantizedLayer(layer.op, layer.op_type, "", 0, None, activations)
                )
                continue
            name = layer.kernel.name
            position = readers.setdefault(name, 0)
            readers[name] += 1
            index = kernel_index(op, layer.kernel)
            suffix = f"_{position}" if position else ""
            activation = self._activation(
                op, data_index(op, index), f"{name}/input{suffix}"
            )
            weights = self._weights(op, index, name)
            is_winograd = self._config.int8_winograd and winograd.qualifies(op)
            if is_winograd:
                self._winograd(op, name)
            layers.append(
                QuantizedLayer(
                    layer.op,
                    layer.op_type,
                    name,
                    position,
                    weights,
                    (activation,),
                    is_winograd,
                )
            )
        if self._config.post_quant:
            self._post_quantize()
        return Placement(
            tuple(layers),
            self._outputs,
            self._made,
            self._kernels,
        )

    def _weights(self, op, index, name):
        shape = op.inputs[index].shape.as_list()
        channels = 1
        for axis in output_axes(op, index):
            channels *= shape[axis]
        if name not in self._made:
            self._made[name] = of_weights(self._bits(op, self._config.wbits), channels)
        return Operand(index, name)

    def _winograd(self, op, name):
        outputs = op.inputs[1].shape[3].value
        for part, steps in (("input", 1), ("kernel", outputs)):
            self._made.setdefault(
                f"{name}/winograd_{part}", of_weights(8, winograd.POSITIONS * steps)
            )

    def _activation(self, op, index, name):
        tensor, _ = source_of(op.inputs[index])
        return Operand(index, self._quantizer_of(tensor, name, self._bits_of(op)))

    def _bits_of(self, op):
        return self._bits(op, self._config.bits)

    def _quantizer_of(self, tensor, name, bits):
        if tensor.name in self._by_tensor:
            name = self._by_tensor[tensor.name]
            # Of layers that want different widths, the widest is served.
            bits = max(bits, self._made[name].bits)
        self._by_tensor[tensor.name] = name
        signed = self._config.signed
        if signed == "auto":
            signed = not is_never_negative(tensor)
        self._made[name] = of_activations(bits, signed)
        return name

    def _post_quantize(self):
        for layer in self._chosen:
            op = self._ops[layer.op]
            self._output(self._end_of_layer(op.outputs[0]), op)
        for op in self._graph.get_operations():
            if op.type in _JOINS and op in self._behind and self._joins_layers(op):
                self._output(_after_activation(op.outputs[0]), op)

    def _joins_layers(self, op):
        """Whether an op brings two tensors together that layers put out, and is not an
        addition of a bias."""
        tensors = [t for t in op.inputs if t.dtype == tf.float32]
        computed = [t for t in tensors if t.op in self._behind]
        return len(computed) > 1 and op.outputs[0].dtype == tf.float32

    def _end_of_layer(self, tensor):
        """After the bias, the batch norm and the activation that belong to a layer."""
        while True:
            readers = [r for r in tensor.consumers() if r.type not in SHAPE_OPS]
            if len(readers) != 1 or readers[0] in self._model_outputs:
                return tensor
            (reader,) = readers
            if reader.type in _ACTIVATIONS:
                return reader.outputs[0]
            others = [t for t in reader.inputs if t is not tensor]
            if reader.type not in _AFFINE or self._come_after_layers(others):
                return tensor
            tensor = reader.outputs[0]

    def _output(self, tensor, op):
        source, _ = source_of(tensor)
        # What the model predicts stays as it is.
        if source.op in self._model_outputs or not source.consumers():
            return
        if source.name not in self._by_tensor:
            name = f"{source.op.name}/output"
            self._quantizer_of(source, name, self._config.bits)
            self._outputs[source.name] = name


def _after_activation(tensor):
    readers = [r for r in tensor.consumers() if r.type not in SHAPE_OPS]
    if len(readers) == 1 and readers[0].type in _ACTIVATIONS:
        return readers[0].outputs[0]
    return tensor


def _notes(placement):
    """Bytes of the kernels before and after."""
    before = sum(4 * kernel.size for kernel in placement.kernels.values())
    after = sum(
        kernel.size * placement.quantizers[name].bits / 8
        + 4 * placement.quantizers[name].steps
        for name, kernel in placement.kernels.items()
    )
    tensors = len(placement.quantizers) - len(placement.kernels)
    return (
        f"weights: {before:,} bytes as float32, {int(after):,} quantized with their "
        f"step sizes; {tensors} quantized activations",
    )
