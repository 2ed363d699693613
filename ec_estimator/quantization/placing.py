"""Decides what is quantized: a pure function of the graph that predicts."""
from ec_estimator.core import tf_private
from ec_estimator.graph.addresses import Addresses
from ec_estimator.graph.coverage import COMPRESSED
from ec_estimator.graph.decisions import Decisions
from ec_estimator.graph.layers import output_axes
from ec_estimator.quantization import winograd
from ec_estimator.quantization.choice import choose
from ec_estimator.quantization.ends import Ends
from ec_estimator.quantization.lsq import of_activations, of_weights
from ec_estimator.quantization.operands import data_index, source_of
from ec_estimator.quantization.placement import (
    Operand,
    Output,
    Placement,
    QuantizedLayer,
    Site,
)
from ec_estimator.quantization.signs import is_never_negative


def place(config, model):
    """Chooses layers, and a quantizer for each tensor.

    Args:
      config: QuantizerConfig.
      model: graph.decisions.Model.

    Returns:
      graph.decisions.Decisions with a Placement as details.

    Raises:
      ConfigError: fp32_layers that name no layer.
    """
    decisions = choose(config, model)
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
    taken = coverage(placement)
    decisions = [
        taken.get(layer.op, decision)
        for layer, decision in zip(model.layers, decisions)
    ]
    return Decisions(decisions, kernels, placement, notes)


def coverage(placement):
    """{op name of a quantized layer: what the coverage report says of it}."""
    return {
        layer.op: f"{COMPRESSED} (Winograd)" if layer.winograd else COMPRESSED
        for layer in placement.layers
    }


class _Placing:
    """One quantizer a tensor, found or made as the layers ask for them."""

    def __init__(self, config, model, chosen):
        self._config = config
        self._chosen = chosen
        self._made = {}
        self._by_tensor = {}
        self._outputs = {}
        # A kernel that several layers read is quantized as the first one views it.
        self._kernels = {}
        for layer in chosen:
            if layer.kernel:
                self._kernels.setdefault(layer.kernel.name, layer.kernel)
        self._graph = graph = model.graph
        self._ops = {
            layer.op: graph.get_operation_by_name(layer.op) for layer in chosen
        }
        self._addresses = Addresses()
        self._address_of = self._addresses.find(graph, model.layers)
        found = {op.name for op in self._address_of} - set(self._ops)
        self._others = [layer for layer in model.layers if layer.op in found]
        self._predicted = {t.op for t in model.outputs or ()}
        self._ends = Ends(graph, self._ops.values(), self._predicted)
        self._first_and_last = set()
        if config.first_last_bits is not None:
            self._first_and_last = self._ends.first_and_last()

    def placement(self):
        readers, layers = {}, []
        for layer in self._chosen:
            if not layer.kernel:
                layers.append(self._product(layer))
                continue
            position = readers.setdefault(layer.kernel.name, 0)
            readers[layer.kernel.name] += 1
            layers.append(self._layer(layer, position))
        outputs = ()
        if self._config.post_quant:
            for tensor in self._ends.outputs():
                self._output(tensor)
            outputs = tuple(self._located_outputs())
        return Placement(
            tuple(layers), self._float_layers(), outputs, self._made, self._kernels
        )

    def _float_layers(self):
        return tuple(
            Site(
                layer.op,
                layer.op_type,
                layer.kernel.name if layer.kernel else "",
                self._address_of[self._graph.get_operation_by_name(layer.op)],
            )
            for layer in self._others
        )

    def _product(self, layer):
        """A product of two activations."""
        op = self._ops[layer.op]
        activations = tuple(
            self._activation(op, index, f"{layer.op}/operand_{index}")
            for index in (0, 1)
        )
        address = self._address_of[op]
        return QuantizedLayer(layer.op, layer.op_type, "", address, None, activations)

    def _layer(self, layer, position):
        """A layer with a kernel, the position-th that reads it."""
        op, name = self._ops[layer.op], layer.kernel.name
        index = layer.index
        suffix = f"_{position}" if position else ""
        activation = self._activation(
            op, data_index(op, index), f"{name}/input{suffix}"
        )
        weights = self._weights(op, index, name)
        is_winograd = self._config.int8_winograd and winograd.qualifies(op)
        if is_winograd:
            self._winograd(op, name)
        return QuantizedLayer(
            layer.op,
            layer.op_type,
            name,
            self._address_of[op],
            weights,
            (activation,),
            is_winograd,
        )

    def _weights(self, op, index, name):
        shape = op.inputs[index].shape.as_list()
        channels = 1
        for axis in output_axes(op, index):
            channels *= shape[axis]
        bits = self._bits(op, self._config.wbits)
        if name not in self._made:
            self._made[name] = of_weights(bits, channels)
        elif bits > self._made[name].bits:
            # Of layers that want different widths, the widest is served.
            self._made[name] = of_weights(bits, self._made[name].steps)
        return Operand(index, name)

    def _winograd(self, op, name):
        outputs = op.inputs[1].shape[3].value
        for part, steps in (("input", 1), ("kernel", outputs)):
            self._made.setdefault(
                f"{name}/winograd_{part}", of_weights(8, winograd.POSITIONS * steps)
            )

    def _activation(self, op, index, name):
        tensor, _ = source_of(op.inputs[index])
        bits = self._bits(op, self._config.bits)
        return Operand(index, self._quantizer_of(tensor, name, bits))

    def _bits(self, op, bits):
        return self._config.first_last_bits if op in self._first_and_last else bits

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

    def _output(self, tensor):
        """Quantizes what layers put out, unless a layer that reads it does."""
        source, _ = source_of(tensor)
        # What the model predicts stays as it is.
        if source.op in self._predicted or not source.consumers():
            return
        if source.name not in self._by_tensor:
            name = f"{source.op.name}/output"
            self._quantizer_of(source, name, self._config.bits)
            self._outputs[source] = name

    def _located_outputs(self):
        types = {tensor.op.type for tensor in self._outputs}
        alike = {}
        for op in self._graph.get_operations():
            if op.type in types and tf_private.forward_op(op) is None:
                alike.setdefault(self._addresses.of(op).near, []).append(op)
        for tensor, quantizer in self._outputs.items():
            address = self._addresses.of(tensor.op)
            ops = alike[address.near]
            yield Output(
                tensor.name,
                tensor.op.type,
                address,
                ops.index(tensor.op),
                len(ops),
                quantizer,
            )


def _notes(placement):
    """Bytes of the kernels before and after."""
    before, after = placement.bytes_of(placement.kernels)
    tensors = len(placement.quantizers) - len(placement.kernels)
    return (
        f"weights: {before:,} bytes as float32, {after:,} quantized with their "
        f"step sizes; {tensors} quantized activations",
    )
