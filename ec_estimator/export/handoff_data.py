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


def described(signature):
    """{"inputs" or "outputs": {key: {"tensor": name, "shape": sizes with None where
    unknown or None, "dtype": name}}} of a frozen_model.Signature."""
    return {
        side: {
            key: {"tensor": port.tensor, "shape": port.size, "dtype": port.dtype.name}
            for key, port in ports.items()
        }
        for side, ports in signature._asdict().items()
    }


def write_io(folder, signature, name=IO):
    """Writes what is `described`; returns the file's name."""
    return write_json(folder, name, described(signature))


def read_io(folder, name=IO):
    """What `write_io` wrote.

    Raises:
      ExportError: it is not there or damaged.
    """
    path = os.path.join(folder, name)
    try:
        with open(path, encoding="utf-8") as file:
            ends = json.load(file)
        for side in ("inputs", "outputs"):
            for port in ends[side].values():
                if not isinstance(port["tensor"], str):
                    raise ValueError(f"tensor is {port['tensor']!r}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(
            f"{path!r} is damaged ({type(error).__name__}: {error}); export again"
        ) from error
    return ends


def write_examples(folder, format_name, examples, batch):
    """Writes the first half of the examples to calibrate with, the second to test with.

    Both are whole batches. Whoever has one batch calibrates and tests with that.

    Args:
      format_name: for the errors.
      examples: {name: array [n, ...]}, n a multiple of batch.
      batch: the number of examples that the model is fixed to, or None.

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
    count = len(next(iter(examples.values())))
    size = batch or 1
    half = (count // size + 1) // 2 * size
    parts = {
        CALIBRATION: {name: array[:half] for name, array in examples.items()},
        TEST: {name: array[half:] for name, array in examples.items()},
    }
    if half == count:
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
