"""What each engine that reads ONNX asks of training, and where it wants tensors
rounded."""
from ec_estimator.export.format import ExportError
from ec_estimator.export.onnx_branches import without_branches

_WINOGRAD = (
    "QuantizerConfig.int8_winograd=True trains Winograd convolutions, which ONNX does "
    "not have; set it to False, or export for MNN"
)


class Target:
    """is_strict: whether the file has to keep the rules of onnx_rules, and integers are
    nowhere but between QuantizeLinear and DequantizeLinear."""

    is_strict = False

    def refuse_training(self, config):
        """As Format.refuse_training."""
        return _WINOGRAD if config.int8_winograd else ""

    def check(self, model):
        """Raises ExportError if the engine would answer otherwise than training did."""

    def outputs(self, model):
        """Those of FrozenModel.outputs that are rounded in the file."""
        return model.outputs


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


class TensorRT(Target):
    """Takes signed integers only, and wants outputs in float."""

    is_strict = True

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

    def outputs(self, model):
        return without_branches(model)


TARGETS = {
    "onnxruntime": OnnxRuntime(),
    "openvino": Target(),
    "tensorrt": TensorRT(),
}
