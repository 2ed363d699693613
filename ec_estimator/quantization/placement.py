"""What is quantized, and how: data only, made once and stored with the run."""
import dataclasses
from typing import Dict, Optional, Tuple

from ec_estimator.core.errors import RunFolderError
from ec_estimator.graph.addresses import Address
from ec_estimator.graph.layers import Kernel
from ec_estimator.quantization.lsq import Quantizer


@dataclasses.dataclass(frozen=True)
class Operand:
    """An input of a layer's op, and the name of its quantizer."""

    index: int
    quantizer: str


@dataclasses.dataclass(frozen=True)
class Site:
    """Where a layer is.

    op, op_type: of the layer; kernel: its kernel's name, "" without one.
    address: to find it in other graphs.
    """

    op: str
    op_type: str
    kernel: str
    address: Address

    @property
    def quantizers(self):
        """The names of its quantizers: two layers with the same are quantized alike."""
        return ()


@dataclasses.dataclass(frozen=True)
class QuantizedLayer(Site):
    """weights: where the kernel comes in, or None; activations: the other operands.

    winograd: whether it becomes a Winograd convolution.
    """

    weights: Optional[Operand]
    activations: Tuple[Operand, ...]
    winograd: bool = False

    @property
    def quantizers(self):
        operands = (
            (self.weights, *self.activations) if self.weights else self.activations
        )
        names = [operand.quantizer for operand in operands]
        if self.winograd:
            names += [f"{self.kernel}/winograd_{part}" for part in ("input", "kernel")]
        return tuple(names)


@dataclasses.dataclass(frozen=True)
class Output:
    """A tensor that post_quant quantizes.

    tensor, op_type: its name, and what it comes out of; address: of its op; turn,
    count: which of those with the same address and type it is, and of how many.
    """

    tensor: str
    op_type: str
    address: Address
    turn: int
    count: int
    quantizer: str


@dataclasses.dataclass(frozen=True)
class Placement:
    """layers: all that are quantized; float_layers: the others; outputs: what
    post_quant quantizes besides; quantizers and kernels: by name."""

    layers: Tuple[QuantizedLayer, ...]
    float_layers: Tuple[Site, ...]
    outputs: Tuple[Output, ...]
    quantizers: Dict[str, Quantizer]
    kernels: Dict[str, Kernel]

    def without(self, layers):
        """The placement where some layers stay in float; they may do so already."""
        layers = [layer for layer in layers if layer in self.layers]
        sites = tuple(Site(p.op, p.op_type, p.kernel, p.address) for p in layers)
        kept = tuple(layer for layer in self.layers if layer not in layers)
        used = {name for layer in kept for name in layer.quantizers}
        used.update(output.quantizer for output in self.outputs)
        dropped = {name for layer in layers for name in layer.quantizers} - used
        quantizers = {n: q for n, q in self.quantizers.items() if n not in dropped}
        return dataclasses.replace(
            self,
            layers=kept,
            float_layers=self.float_layers + sites,
            quantizers=quantizers,
        )

    def bytes_of(self, kernels):
        """(bytes, bytes) of kernels, by name, as float32 and as integers with their
        step sizes."""
        before, after = 0, 0.0
        for name in kernels:
            size, quantizer = self.kernels[name].size, self.quantizers[name]
            before += 4 * size
            after += size * quantizer.bits / 8 + 4 * quantizer.steps
        return before, int(after)

    def digest(self):
        """All of it, JSON-ready; `read_placement` reads it."""
        return {
            "layers": list(map(_stored, self.layers)),
            "float_layers": list(map(_stored, self.float_layers)),
            "outputs": list(map(_stored, self.outputs)),
            "quantizers": {
                n: dataclasses.asdict(q) for n, q in self.quantizers.items()
            },
            "kernels": {n: dataclasses.asdict(k) for n, k in self.kernels.items()},
        }


def read_placement(stored):
    """The Placement that `digest()` gave, as JSON brought it back.

    Raises:
      RunFolderError: it is damaged.
    """
    try:
        placement = Placement(
            tuple(_layer(fields) for fields in stored["layers"]),
            tuple(_located(Site, fields) for fields in stored["float_layers"]),
            tuple(_located(Output, fields) for fields in stored["outputs"]),
            {n: _quantizer(fields) for n, fields in stored["quantizers"].items()},
            {n: Kernel(**_frozen(fields)) for n, fields in stored["kernels"].items()},
        )
        wanted = {name for layer in placement.layers for name in layer.quantizers}
        wanted.update(output.quantizer for output in placement.outputs)
        missing = wanted - set(placement.quantizers)
        if missing:
            raise ValueError(f"no quantizer {min(missing)!r}")
        read = {layer.kernel for layer in placement.layers if layer.kernel}
        if read - set(placement.kernels):
            raise ValueError(f"no kernel {min(read - set(placement.kernels))!r}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunFolderError(
            "the plan of a quantized run (plan.json) is damaged in 'details' "
            f"({type(error).__name__}: {error}); restore it"
        ) from error
    return placement


def _stored(located):
    return {**dataclasses.asdict(located), "address": list(located.address)}


def _layer(fields):
    weights = fields["weights"]
    return _located(
        QuantizedLayer,
        {
            **fields,
            "weights": weights and Operand(**weights),
            "activations": [Operand(**operand) for operand in fields["activations"]],
        },
    )


def _located(kind, fields):
    return kind(**{**_frozen(fields), "address": Address(*fields["address"])})


def _quantizer(fields):
    quantizer = Quantizer(**fields)
    is_whole = all(type(value) is int for value in dataclasses.astuple(quantizer))
    if not is_whole or not 1 <= quantizer.bits <= 8 or quantizer.low >= quantizer.high:
        raise ValueError(f"a quantizer of {fields}")
    return quantizer


def _frozen(value):
    """JSON's lists as tuples."""
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
