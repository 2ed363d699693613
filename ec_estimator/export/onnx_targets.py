"""What each engine that reads ONNX asks of training, and where it wants tensors
rounded."""
from typing import Any, Dict, NamedTuple

import numpy as np

from ec_estimator.export.format import ExportError
from ec_estimator.export.onnx_branches import without_branches

_WINOGRAD = (
    "QuantizerConfig.int8_winograd=True trains Winograd convolutions, which ONNX does "
    "not have; set it to False, or export for MNN"
)


class Layout(NamedTuple):
    """How a file rounds activations.

    outputs: those of FrozenModel.outputs that it rounds.
    signed_zero: the zero point of signed integers; as uint8 they are moved up by 128.
    moves_integers: whether others than DequantizeLinear may read what QuantizeLinear
      puts out, such as transposing.
    """

    outputs: Dict[str, str]
    signed_zero: Any = np.int8(0)
    moves_integers: bool = True


class Target:
    """engine: of export.engines that runs its files; has_rules: whether they have to
    keep those of onnx_rules."""

    engine = "onnxruntime"
    has_rules = False

    def refuse_training(self, config):
        """As Format.refuse_training."""
        return _WINOGRAD if config.int8_winograd else ""

    def check(self, model):
        """Raises ExportError if the engine would answer otherwise than training did."""

    def layout(self, model):
        """The Layout of a FrozenModel's file."""
        return Layout(model.outputs)


class OnnxRuntime(Target):
    """Fuses what is rounded on both sides to integer ops."""

    def refuse_training(self, config):
        if config.signed is True:
            return (
                "QuantizerConfig.signed=True is slower than float in ONNX Runtime, "
                "whose integer ops want unsigned activations after a ReLU; set "
                "signed='auto'"
            )
        if not config.post_quant:
            return (
                "QuantizerConfig.post_quant=False is slower than float in ONNX "
                "Runtime, whose integer ops put out integers; set post_quant=True"
            )
        return super().refuse_training(config)

    def layout(self, model):
        # Its integer ops want one type for what goes in and what comes out.
        return Layout(model.outputs, signed_zero=np.uint8(128))


class OpenVINO(Target):
    """Takes all that ONNX has."""

    engine = "openvino"


class TensorRT(Target):
    """Takes signed integers only, and wants outputs in float.

    It runs on a GPU only; what its files say is computed by ONNX Runtime."""

    has_rules = True

    def refuse_training(self, config):
        if config.signed is not True:
            return (
                f"QuantizerConfig.signed={config.signed!r} gives unsigned activations, "
                "which TensorRT takes for signed ones; set signed=True"
            )
        return super().refuse_training(config)

    def check(self, model):
        unsigned = sorted(n for n, scale in model.scales.items() if scale.low == 0)
        if unsigned:
            raise ExportError(
                f"activation {unsigned[0]!r} was trained as unsigned integers, which "
                "TensorRT takes for signed ones; train with QuantizerConfig.signed=True"
            )

    def layout(self, model):
        return Layout(without_branches(model), moves_integers=False)


TARGETS = {
    "onnxruntime": OnnxRuntime(),
    "openvino": OpenVINO(),
    "tensorrt": TensorRT(),
}
