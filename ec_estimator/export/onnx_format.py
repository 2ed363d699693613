"""ONNX with quantized layers as QuantizeLinear and DequantizeLinear."""
import os

from ec_estimator.export.engines import run_batches
from ec_estimator.export.format import ExportError, Format
from ec_estimator.export.onnx_convert import OUTPUT, convert
from ec_estimator.export.onnx_fold import fold
from ec_estimator.export.onnx_names import shorten
from ec_estimator.export.onnx_rules import broken_rules
from ec_estimator.export.onnx_shapes import (
    move_before_rounding,
    read_shapes_of_integers,
)
from ec_estimator.export.onnx_targets import TARGETS

FILE = "model.onnx"


class OnnxFormat(Format):
    """`model.onnx`, for an engine.

    Args:
      target: "tensorrt", "onnxruntime" or "openvino".
    """

    def __init__(self, target):
        if target not in TARGETS:
            raise ValueError(f"target {target!r} is not one of {', '.join(TARGETS)}")
        self._target = TARGETS[target]
        self.name = f"onnx_{target}"

    def refuse_training(self, config):
        return self._target.refuse_training(config)

    def write(self, model, signature, folder, samples):
        self._target.check(model)
        layout = self._target.layout(model)
        made = convert(model, model.signatures[signature], layout)
        import onnx

        fold(made)
        if layout.moves_integers:
            read_shapes_of_integers(made)
        else:
            move_before_rounding(made)
        shorten(made)
        try:
            onnx.checker.check_model(made, full_check=True)
        except (
            onnx.checker.ValidationError,
            onnx.shape_inference.InferenceError,
        ) as error:
            raise ExportError(f"the model is no valid ONNX: {error}") from error
        if self._target.has_rules:
            broken = broken_rules(made)
            if broken:
                raise ExportError(
                    f"the model breaks rules of TensorRT: {'; '.join(broken)}"
                )
        with open(os.path.join(folder, FILE), "wb") as file:
            file.write(made.SerializeToString())
        return (FILE,)

    def run(self, folder, inputs):
        return self.run_all(folder, [inputs])[0]

    def run_all(self, folder, batches):
        path = os.path.join(folder, FILE)
        return [
            {
                name[: -len(OUTPUT)] if name.endswith(OUTPUT) else name: answer
                for name, answer in answers.items()
            }
            for answers in run_batches(self._target.engine, path, batches)
        ]
