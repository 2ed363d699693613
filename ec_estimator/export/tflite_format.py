"""TFLite, as far as TensorFlow 1.15's own converter goes: models in float.

    model.tflite    for one example, or for the batch that the signature is fixed to
    io.json         the names of the file's tensors

The converter computes shapes beforehand and leaves them in the file as constants.
Resized by the interpreter, a transposed convolution then gives wrong answers without a
word (tried), so a file is only ever run with the batch that it was made for.

Source: tensorflow.org/versions/r1.15/api_docs/python/tf/lite/TFLiteConverter
"""
import contextlib
import os
import re
import sysconfig
import tempfile

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.export.format import ExportError, Format
from ec_estimator.export.handoff_data import read_io, write_io
from ec_estimator.export.parity import QUANTIZED

_MODEL = "model.tflite"
_INSTEAD = (
    "TensorFlow 1.15's converter has no integer kernels with a scale per channel and "
    "would round the weights anew; export a quantized model as ONNX or for MNN"
)
# What the converter says of ops that it lacks, in the midst of a page of text.
_LACKING = (
    re.compile(r"operators for which you will need custom implementations: ([^.]*)\."),
    re.compile(r"doesn't support control flow ops: ([^.]*)\."),
)
_FATAL = re.compile(r" F \S*tensorflow/lite/\S+ (?:Check failed: )?(.*)")


class TFLiteFormat(Format):
    """Writes dense, sparse and pruned models.

    Zeros of sparse models are stored as zeros: TFLite of that time has no sparse
    kernels.

    Args:
      optimizations: of tf.lite.Optimize. DEFAULT stores kernels of 1024 weights or
        more in 8 bits with one scale each, untrained: a quarter of the bytes, answers
        that differ by half a percent of their range on a small network.
    """

    name = "tflite"

    def __init__(self, optimizations=()):
        self._optimizations = list(optimizations)
        if self._optimizations:
            self.float_limits = QUANTIZED

    def refuse_training(self, config):
        return f"tflite: {_INSTEAD}"

    def write(self, model, signature, folder, samples):
        if model.layers:
            raise ExportError(f"tflite: {min(model.layers)!r} is quantized; {_INSTEAD}")
        ends = model.signatures[signature]
        for key, port in (*ends.inputs.items(), *ends.outputs.items()):
            if port.dtype == tf.string:
                raise ExportError(
                    f"tflite: {key!r} of signature {signature!r} holds strings, which "
                    "the converter does not take; serve numbers only"
                )
        shapes = {
            _array(port.tensor): _shape(key, port, samples)
            for key, port in ends.inputs.items()
        }
        outputs = sorted({_array(port.tensor) for port in ends.outputs.values()})
        content = self._convert(model.graph_def, shapes, outputs)
        with open(os.path.join(folder, _MODEL), "wb") as file:
            file.write(content)
        return (_MODEL, write_io(folder, ends))

    def _convert(self, graph_def, shapes, outputs):
        with tempfile.TemporaryDirectory() as folder, _scripts_on_path():
            path = os.path.join(folder, "frozen.pb")
            with open(path, "wb") as file:
                file.write(graph_def.SerializeToString())
            try:
                converter = tf.lite.TFLiteConverter.from_frozen_graph(
                    path, list(shapes), outputs, input_shapes=shapes
                )
                converter.optimizations = self._optimizations
                return converter.convert()
            except Exception as error:  # Its own class has a private name.
                raise ExportError(f"tflite: {_reason(str(error))}") from error

    def run(self, folder, inputs):
        ends = read_io(folder)
        path = os.path.join(folder, _MODEL)
        interpreter = tf.lite.Interpreter(path)
        try:
            interpreter.allocate_tensors()
        except RuntimeError as error:
            raise ExportError(
                f"tflite: the interpreter refuses what the converter made: {error}"
            ) from error
        arrays = {detail["name"]: detail for detail in interpreter.get_input_details()}
        batch = min(detail["shape"][0] for detail in arrays.values())
        places = {
            detail["name"]: detail["index"]
            for detail in interpreter.get_output_details()
        }
        found = {key: [] for key in ends["outputs"]}
        for start in range(0, len(next(iter(inputs.values()))), batch):
            for key, array in inputs.items():
                detail = arrays[_array(ends["inputs"][key]["tensor"])]
                interpreter.set_tensor(detail["index"], array[start : start + batch])
            interpreter.invoke()
            for key, port in ends["outputs"].items():
                place = places[_array(port["tensor"])]
                found[key].append(interpreter.get_tensor(place))
        return {key: np.concatenate(parts) for key, parts in found.items()}


def _array(tensor):
    """The converter's name of a tensor."""
    return tensor[:-2] if tensor.endswith(":0") else tensor


def _shape(key, port, samples):
    """The converter takes no unknown sizes but that of the batch, and makes that 1."""
    given = samples[key].shape[1:] if key in samples else None
    if port.size is None:
        size = given and (1, *given)
    else:
        rest = given or port.size[1:]
        size = (port.size[0] or 1, *rest) if port.size else ()
    if size is None or None in size:
        raise ExportError(
            f"tflite: input {key!r} has the unknown shape {port.size}, and there are "
            "no samples to take it from; give its sizes, or an eval input that has it"
        )
    return list(size)


@contextlib.contextmanager
def _scripts_on_path():
    """The converter is a script beside Python, which the environment need not know."""
    before = os.environ.get("PATH", os.defpath)
    os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), before])
    try:
        yield
    finally:
        os.environ["PATH"] = before


def _reason(text):
    lacking = {
        name
        for pattern in _LACKING
        for names in pattern.findall(text)
        for name in names.split(", ")
    }
    if lacking:
        return (
            f"the converter lacks {', '.join(sorted(lacking))}; export to an engine "
            "that has them, or build the model without"
        )
    fatal = _FATAL.findall(text)
    lines = fatal or [line for line in text.splitlines() if line.strip()]
    return f"the converter failed: {lines[-1].strip()}"
