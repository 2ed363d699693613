"""MNN's compression parameters: what is quantized or sparse, as its converter reads it.

The messages are protobuf's, package MNN.Compression; their descriptions are made here
at run time, since protobuf's compiler comes with a protobuf that TensorFlow 1.15 cannot
use. Enums are written as the integers that they are on the wire.
"""
import functools
from typing import Any, NamedTuple, Optional, Tuple

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "MNN.Compression"
_Field = descriptor_pb2.FieldDescriptorProto
_REQUIRED, _OPTIONAL = _Field.LABEL_REQUIRED, _Field.LABEL_OPTIONAL
_REPEATED = _Field.LABEL_REPEATED
_INT, _FLOAT, _TEXT = _Field.TYPE_INT32, _Field.TYPE_FLOAT, _Field.TYPE_STRING

# {message: {field: (number, type or message, label)}}.
_MESSAGES = {
    "Pipeline": {
        "version": (1, _TEXT, _REQUIRED),
        "algo": (2, "CompressionAlgo", _REPEATED),
    },
    "CompressionAlgo": {
        "type": (1, _INT, _OPTIONAL),
        "quant_params": (2, "QuantizeParams", _OPTIONAL),
        "prune_params": (3, "PruneParams", _OPTIONAL),
    },
    "QuantizeParams": {
        "round_mode": (1, _INT, _OPTIONAL),
        "layer": (4, "LayerQuantizeParams", _REPEATED),
    },
    "LayerQuantizeParams": {
        "input": (1, "ActivationParams", _REPEATED),
        "weight": (2, "WeightParams", _REPEATED),
        "output": (3, "ActivationParams", _REPEATED),
        "method": (4, _INT, _OPTIONAL),
        "wino_params": (5, "WinogradParams", _OPTIONAL),
        "op_name": (6, _TEXT, _OPTIONAL),
    },
    "ActivationParams": {
        "name": (1, _TEXT, _REQUIRED),
        "bits": (2, _INT, _OPTIONAL),
        "scales": (3, _FLOAT, _REPEATED),
        "zero_point": (4, _INT, _OPTIONAL),
        "clamp_min": (5, _INT, _OPTIONAL),
        "clamp_max": (6, _INT, _OPTIONAL),
    },
    "WeightParams": {
        "name": (1, _TEXT, _REQUIRED),
        "bits": (2, _INT, _OPTIONAL),
        "scales": (3, _FLOAT, _REPEATED),
        "clamp_min": (4, _INT, _OPTIONAL),
        "clamp_max": (5, _INT, _OPTIONAL),
    },
    "WinogradParams": {
        "version": (1, _INT, _OPTIONAL),
        "units_attr": (4, _INT, _REPEATED),
    },
    "PruneParams": {
        "type": (1, _INT, _OPTIONAL),
        "simd_oc_pruner_params": (3, "SimdOcPrunerParams", _OPTIONAL),
    },
    "SimdOcPrunerParams": {"oc_blocks": (4, _INT, _REPEATED)},
}
_QUANTIZE, _PRUNE = 0, 1
_HALF_AWAY_FROM_ZERO = 1
_QAT, _WINOGRAD_AWARE = 0, 2
_SIMD_OC = 1
# F(2x2, 3x3) of the whole kernel: its start, its size and the outputs of a tile.
_UNIT = (0, 0, 3, 3, 2, 2)


class Rounded(NamedTuple):
    """A tensor's integers: x = scale * (integer - zero_point), from low to high."""

    name: str
    scale: float
    zero_point: int
    low: int
    high: int


class Weights(NamedTuple):
    """scales: float32 `[channels]`, of the kernel with all that is folded into it;
    limit: of the integers' magnitude."""

    name: str
    scales: Any
    limit: int


class Winograd(NamedTuple):
    """inputs: float32 `[16]`, a step for each position of the transformed input;
    weights: float32 `[16 * channels]`, by position and then channel."""

    inputs: Any
    weights: Any


class LayerParams(NamedTuple):
    """A layer, told by the name of its output."""

    input: Rounded
    weights: Weights
    output: Rounded
    winograd: Optional[Winograd] = None


def compression_params(layers: Tuple[LayerParams, ...], block: int):
    """The message.

    Args:
      layers: what is quantized.
      block: how many neighbouring output channels are zero together in the kernels
        that are sparse; 0 where none is.

    Returns:
      bytes.
    """
    algorithms = []
    if layers:
        quantized = {
            "round_mode": _HALF_AWAY_FROM_ZERO,
            "layer": [_layer(layer) for layer in layers],
        }
        algorithms.append({"type": _QUANTIZE, "quant_params": quantized})
    if block:
        pruned = {"type": _SIMD_OC, "simd_oc_pruner_params": {"oc_blocks": [block]}}
        algorithms.append({"type": _PRUNE, "prune_params": pruned})
    pipeline = _message_types()["Pipeline"](version="0.0.0", algo=algorithms)
    return pipeline.SerializeToString()


def _layer(layer):
    fields = {
        "input": [_activation(layer.input)],
        "weight": [_weights(layer.weights)],
        "output": [_activation(layer.output)],
        "method": _QAT,
    }
    if layer.winograd is not None:
        fields["method"] = _WINOGRAD_AWARE
        units = winograd_units(layer.winograd)
        fields["wino_params"] = {"version": 0, "units_attr": units}
    return fields


def _activation(rounded):
    return {
        "name": rounded.name,
        # Of fewer bits the clamps tell: MNN computes wrongly with another width.
        "bits": 8,
        "scales": [rounded.scale],
        "zero_point": rounded.zero_point,
        "clamp_min": rounded.low,
        "clamp_max": rounded.high,
    }


def _weights(weights):
    return {
        "name": weights.name,
        "bits": 8,
        "scales": weights.scales.tolist(),
        "clamp_min": -weights.limit,
        "clamp_max": weights.limit,
    }


def winograd_units(winograd):
    """One unit, a list; floats are there as the integers of their bits."""
    zero_points = np.zeros(len(winograd.inputs), np.int32)
    unit = [
        *_UNIT,
        *_bits(winograd.inputs),
        *zero_points.tolist(),
        *_bits(winograd.weights),
    ]
    return [0, 1, len(unit), *unit]


def _bits(floats):
    return np.asarray(floats, np.float32).view(np.int32).tolist()


@functools.lru_cache(maxsize=None)
def _message_types():
    """{message: its class}."""
    file = descriptor_pb2.FileDescriptorProto(
        name="mnn_compression.proto", package=_PACKAGE, syntax="proto2"
    )
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, (number, kind, label) in fields.items():
            field = described.field.add(name=name, number=number, label=label)
            if kind in _MESSAGES:
                field.type = _Field.TYPE_MESSAGE
                field.type_name = f".{_PACKAGE}.{kind}"
            else:
                field.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    factory = message_factory.MessageFactory(pool)
    return {
        name: factory.GetPrototype(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }
