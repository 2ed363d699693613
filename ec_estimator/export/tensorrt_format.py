"""What TensorRT takes: ONNX with Q/DQ, and a script that builds an engine of it.

    *.onnx                what the ONNX format writes
    calib_data.npz, test_data.npz    {input key: examples} of the eval input
    dynamic_ranges.json   {tensor name: [low, high]} of the activations, in float
    build_engine.py       builds the engine; see its --help

The engine follows the file's Q/DQ. The ranges say the same by the names of TensorFlow's
tensors, for those who convert the graph another way and set ranges by hand.
"""
import inspect
import os

import numpy as np

from ec_estimator.export import tensorrt_build_engine
from ec_estimator.export.format import Format
from ec_estimator.export.handoff_data import (
    quantized_tensors,
    write_examples,
    write_json,
)
from ec_estimator.export.samples import batch_size

_SCRIPT = "build_engine.py"


class TensorRTFormat(Format):
    """Writes what `build_engine.py` needs, on whatever machine.

    Args:
      onnx_format: the Format that writes ONNX in TensorRT's placement, and runs it.
    """

    name = "tensorrt"

    def __init__(self, onnx_format):
        self._onnx_format = onnx_format

    def refuse_training(self, config):
        return self._onnx_format.refuse_training(config)

    def write(self, model, signature, folder, samples):
        files = self._onnx_format.write(model, signature, folder, samples)
        size = batch_size(model.signatures[signature])
        with open(os.path.join(folder, _SCRIPT), "w", encoding="utf-8") as file:
            file.write(inspect.getsource(tensorrt_build_engine))
        return (
            *files,
            *write_examples(folder, self.name, samples, size),
            write_json(folder, "dynamic_ranges.json", dynamic_ranges(model)),
            _SCRIPT,
        )

    def run(self, folder, inputs):
        """The ONNX file's answers: an engine runs on its own GPU only."""
        return self._onnx_format.run(folder, inputs)

    def run_all(self, folder, batches):
        return self._onnx_format.run_all(folder, batches)


def dynamic_ranges(model):
    """What the quantized activations of a model range over.

    Args:
      model: frozen_model.FrozenModel.

    Returns:
      {tensor name: [low, high]}, the widest where readers round a tensor differently.
    """
    ranges = {}
    for tensor, names in quantized_tensors(model).items():
        scales = [model.scales[name] for name in names]
        ranges[tensor] = [
            float(min(np.min(scale.low * scale.steps) for scale in scales)),
            float(max(np.max(scale.high * scale.steps) for scale in scales)),
        ]
    return ranges
