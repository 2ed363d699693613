"""What folders for engines hold beside the model: names, examples, scales."""
import json
import os
import zipfile

import numpy as np

from ec_estimator.core.atomic import write_atomically
from ec_estimator.export.format import ExportError

IO = "io.json"
CALIBRATION = "calib_data.npz"
TEST = "test_data.npz"


def write_json(folder, name, content):
    write_atomically(os.path.join(folder, name), json.dumps(content, indent=1) + "\n")
    return name


def write_io(folder, signature):
    """Writes {"inputs" or "outputs": {key: {"tensor": name, "shape": sizes with null
    where unknown or null, "dtype": name}}}; returns the file's name."""
    described = {
        side: {
            key: {"tensor": port.tensor, "shape": port.size, "dtype": port.dtype.name}
            for key, port in ports.items()
        }
        for side, ports in signature._asdict().items()
    }
    return write_json(folder, IO, described)


def read_io(folder):
    """What `write_io` wrote.

    Raises:
      ExportError: it is not there or damaged.
    """
    path = os.path.join(folder, IO)
    try:
        with open(path, encoding="utf-8") as file:
            described = json.load(file)
        for side in ("inputs", "outputs"):
            for port in described[side].values():
                if not isinstance(port["tensor"], str):
                    raise ValueError(f"tensor is {port['tensor']!r}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(
            f"{path!r} is damaged ({type(error).__name__}: {error}); export again"
        ) from error
    return described


def write_examples(folder, format_name, examples):
    """Writes the first half of the examples to calibrate with, the second to test with.

    Whoever has one example calibrates and tests with that.

    Args:
      format_name: for the errors.
      examples: {name: array [n, ...]}.

    Returns:
      (CALIBRATION, TEST)

    Raises:
      ExportError: there are none, or they hold strings.
    """
    if not examples:
        raise ExportError(
            f"{format_name}: there are no examples to calibrate and test with; give "
            "the exporter an eval input whose features are the inputs of what is served"
        )
    for name, array in examples.items():
        if array.dtype.kind not in "biufc":
            raise ExportError(
                f"{format_name}: input {name!r} holds strings, which the files of "
                "examples cannot; serve inputs that are parsed already"
            )
    half = (len(next(iter(examples.values()))) + 1) // 2
    parts = {
        CALIBRATION: {name: array[:half] for name, array in examples.items()},
        TEST: {name: array[half:] for name, array in examples.items()},
    }
    if not half < len(next(iter(examples.values()))):
        parts[TEST] = parts[CALIBRATION]
    for file, arrays in parts.items():
        _write_arrays(os.path.join(folder, file), arrays)
    return (CALIBRATION, TEST)


def _write_arrays(path, arrays):
    # numpy.savez takes no array that is called "file".
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array))


def quantized_tensors(model):
    """The activations that are quantized.

    Args:
      model: frozen_model.FrozenModel.

    Returns:
      {tensor name: set of keys of model.scales}, several where readers differ.
    """
    nodes = {node.name: node for node in model.graph_def.node}
    found = {tensor: {name} for tensor, name in model.outputs.items()}
    for op, layer in model.layers.items():
        for operand in layer.activations:
            tensor = tensor_name(nodes[op].input[operand.index])
            found.setdefault(tensor, set()).add(operand.quantizer)
    return found


def tensor_name(reference):
    """A tensor's name of an input in a NodeDef, which leaves ":0" away."""
    return reference if ":" in reference else f"{reference}:0"


_TABLES = ("HashTable", "HashTableV2", "MutableHashTable", "MutableHashTableV2")


def check_tables(format_name, graph_def):
    """Raises an ExportError if a frozen graph has lookup tables."""
    for node in graph_def.node:
        if node.op in _TABLES:
            raise ExportError(
                f"{format_name}: {node.name!r} is a lookup table, which a frozen graph "
                "has no way to fill; leave it out of what is served, or export a "
                "SavedModel"
            )
