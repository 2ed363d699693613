"""A float model, quantized after training by ONNX Runtime, to compare with."""
import os
import shutil
import subprocess
import tempfile

import numpy as np

from ec_estimator.export.engines import python_of
from ec_estimator.export.onnx_format import FILE, OnnxFormat

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ort_quantize.py")


class OrtStaticFormat(OnnxFormat):
    """The float model's ONNX file after onnxruntime.quantization.quantize_static,
    calibrated with all samples.

    Args:
      activations: "QInt8" or "QUInt8".
    """

    def __init__(self, activations="QInt8"):
        super().__init__("onnxruntime")
        self.name = "ort_static"
        self._activations = activations

    def write(self, model, signature, folder, samples):
        files = super().write(model, signature, folder, samples)
        path = os.path.join(folder, FILE)
        with tempfile.TemporaryDirectory() as place:
            calibration = os.path.join(place, "calibration.npz")
            np.savez(calibration, **samples)
            quantized = os.path.join(place, FILE)
            files_of = [path, quantized, calibration]
            subprocess.check_call(
                [*python_of("onnxruntime"), SCRIPT, *files_of, self._activations]
            )
            shutil.move(quantized, path)
        return files
