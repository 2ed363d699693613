"""The formats by name: what `--format` and `--export` take."""
import functools

from ec_estimator.export.blade_format import BladeFormat
from ec_estimator.export.frozen_format import FrozenGraphFormat
from ec_estimator.export.mnn_format import MnnFormat
from ec_estimator.export.onnx_format import OnnxFormat
from ec_estimator.export.tensorrt_format import TensorRTFormat
from ec_estimator.export.tflite_format import TFLiteFormat

# name -> callable() -> Format of that name.
FORMATS = {
    "frozen_graph": FrozenGraphFormat,
    "onnx_onnxruntime": functools.partial(OnnxFormat, "onnxruntime"),
    "onnx_openvino": functools.partial(OnnxFormat, "openvino"),
    "onnx_tensorrt": functools.partial(OnnxFormat, "tensorrt"),
    "tensorrt": lambda: TensorRTFormat(OnnxFormat("tensorrt")),
    "mnn": MnnFormat,
    "tflite": TFLiteFormat,
    "blade": BladeFormat,
}
