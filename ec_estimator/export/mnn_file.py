"""What an .mnn file says of its tensors, read without MNN.

A flatbuffer: a table begins with the way back to its list of fields, which has the
place of each field in the table, 0 where it is missing.
"""
import struct

# Fields of the table Net, and of TensorDescribe.
_DESCRIBED, _NAMES = 1, 7
_INDEX = 1


def quantized_tensors(path):
    """Names of the tensors that have integers.

    Args:
      path: of an .mnn file that the converter wrote.
    """
    with open(path, "rb") as file:
        data = file.read()
    net = _follow(data, 0)
    names = [_text(data, place) for place in _tables(data, net, _NAMES)]
    return {
        names[_integer(data, _field(data, place, _INDEX))]
        for place in _tables(data, net, _DESCRIBED)
    }


def _integer(data, place):
    return struct.unpack_from("<i", data, place)[0] if place else 0


def _follow(data, place):
    return place + struct.unpack_from("<I", data, place)[0]


def _field(data, table, number):
    """Where a table has a field, 0 if it has it not."""
    fields = table - _integer(data, table)
    size = struct.unpack_from("<H", data, fields)[0]
    place = 4 + 2 * number
    offset = struct.unpack_from("<H", data, fields + place)[0] if place < size else 0
    return table + offset if offset else 0


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
