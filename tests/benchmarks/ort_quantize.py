"""Quantizes an ONNX file with ONNX Runtime's own static quantizer.

    python ort_quantize.py FLOAT QUANTIZED CALIBRATION ACTIVATIONS

A script for the engines' Python, as its documents tell to do it: preprocessed, Q/DQ, a
scale for each channel of the kernels, ranges from the smallest and largest values.
CALIBRATION: an .npz of the inputs, arrays `[n, ...]` by the names of the file's inputs.
ACTIVATIONS: QInt8, its default, or QUInt8, for which x86 has an instruction.
"""
import os
import sys
import tempfile

# Read when it is imported: it would report to its maker.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process


class Examples(quantization.CalibrationDataReader):
    """One example at a time."""

    def __init__(self, path):
        with np.load(path) as arrays:
            self._arrays = {name: arrays[name] for name in arrays.files}
        self._count = len(next(iter(self._arrays.values())))
        self.rewind()

    def rewind(self):
        self._next = 0

    def get_next(self):
        if self._next == self._count:
            return None
        part = slice(self._next, self._next + 1)
        self._next += 1
        return {name: array[part] for name, array in self._arrays.items()}


def main(source, target, calibration, activations):
    with tempfile.TemporaryDirectory() as folder:
        prepared = os.path.join(folder, "prepared.onnx")
        # Symbolic shapes are for transformers, and need sympy.
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            target,
            Examples(calibration),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType[activations],
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
