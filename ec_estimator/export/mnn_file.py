"""What an .mnn file says of its tensors and its layers, read without MNN.

A flatbuffer: a table begins with the way back to its list of fields, which has the
place of each field in the table, 0 where it is missing.
"""
import struct
from typing import Any, NamedTuple, Optional

import numpy as np

# Fields of the table Net, and of those below it.
_DESCRIBED, _OPS, _NAMES = 1, 3, 7
_INDEX, _INTEGERS = 1, 4
_SCALE, _ZERO_POINT, _LOW, _HIGH = 0, 1, 2, 3
_READS, _KIND, _CONTENT, _WRITES = 0, 1, 2, 4
_KERNEL, _ROUNDING = 3, 4
_BUFFER, _STEPS, _STORED_AS = 0, 1, 2
_WINOGRAD = 10
# What a missing limit stands for.
_LOWEST, _HIGHEST = -128.0, 127.0
# Of the union of all ops' contents; and of what kernels are stored as, half floats.
_CONVOLUTION = 9
_HALF_FLOATS = 3


class Integers(NamedTuple):
    """A tensor's: x = scale * (integer - zero_point), from low to high."""

    scale: float
    zero_point: float
    low: float
    high: float


class FileLayer(NamedTuple):
    """A convolution, also one of single pixels.

    input, output: Integers, None of a tensor in float.
    steps: float32 `[channels]` of the kernel's integers, None of a kernel in float.
    winograd: int32 `[n]`, empty where it is none.
    """

    input: Optional[Integers]
    output: Optional[Integers]
    steps: Any
    winograd: Any


def read_layers(path):
    """The convolutions of a file.

    Args:
      path: of an .mnn file that the converter wrote.

    Returns:
      {name of the tensor that it puts out: FileLayer}.
    """
    with open(path, "rb") as file:
        data = file.read()
    net = _follow(data, 0)
    names = [_text(data, place) for place in _tables(data, net, _NAMES)]
    integers = {
        _integer(data, _field(data, place, _INDEX)): _integers(data, place)
        for place in _tables(data, net, _DESCRIBED)
    }
    layers = {}
    for op in _tables(data, net, _OPS):
        kind = _field(data, op, _KIND)
        if kind and data[kind] == _CONVOLUTION:
            read, written = (
                int(_array(data, op, field, np.int32)[0]) for field in (_READS, _WRITES)
            )
            content = _follow(data, _field(data, op, _CONTENT))
            layers[names[written]] = FileLayer(
                integers.get(read), integers.get(written), *_kernel(data, content)
            )
    return layers


def _integers(data, described):
    place = _field(data, described, _INTEGERS)
    if not place:
        return None
    table = _follow(data, place)
    defaults = {_SCALE: 0.0, _ZERO_POINT: 0.0, _LOW: _LOWEST, _HIGH: _HIGHEST}
    return Integers(*(_float(data, table, *field) for field in defaults.items()))


def _kernel(data, content):
    """(steps, Winograd's attribute) of a convolution."""
    kernel, rounding = (_field(data, content, f) for f in (_KERNEL, _ROUNDING))
    steps, winograd = None, np.empty(0, np.int32)
    if kernel and rounding:
        kernel, rounding = _follow(data, kernel), _follow(data, rounding)
        stored_as = _integer(data, _field(data, kernel, _STORED_AS))
        if _field(data, kernel, _BUFFER) and stored_as != _HALF_FLOATS:
            steps = _array(data, kernel, _STEPS, np.float32)
        winograd = _array(data, rounding, _WINOGRAD, np.int32)
    return steps, winograd


def _integer(data, place):
    return struct.unpack_from("<i", data, place)[0] if place else 0


def _float(data, table, number, default):
    place = _field(data, table, number)
    return struct.unpack_from("<f", data, place)[0] if place else default


def _follow(data, place):
    return place + struct.unpack_from("<I", data, place)[0]


def _field(data, table, number):
    """Where a table has a field, 0 if it has it not."""
    fields = table - _integer(data, table)
    size = struct.unpack_from("<H", data, fields)[0]
    place = 4 + 2 * number
    offset = struct.unpack_from("<H", data, fields + place)[0] if place < size else 0
    return table + offset if offset else 0


def _array(data, table, number, dtype):
    """A field that is a list of numbers, empty if it is missing."""
    place = _field(data, table, number)
    if not place:
        return np.empty(0, dtype)
    start = _follow(data, place)
    return np.frombuffer(data, dtype, _integer(data, start), start + 4)


def _tables(data, table, number):
    """Where the entries of a field that is a list are."""
    place = _field(data, table, number)
    if not place:
        return []
    start = _follow(data, place)
    return [
        _follow(data, start + 4 + 4 * entry) for entry in range(_integer(data, start))
    ]


def _text(data, place):
    return data[place + 4 : place + 4 + _integer(data, place)].decode()
