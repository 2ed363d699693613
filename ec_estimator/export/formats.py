"""The formats by name: what `--format` and `--export` take."""
from ec_estimator.export.blade_format import BladeFormat
from ec_estimator.export.frozen_format import FrozenGraphFormat
from ec_estimator.export.tflite_format import TFLiteFormat

# name -> callable() -> Format of that name.
FORMATS = {
    "frozen_graph": FrozenGraphFormat,
    "tflite": TFLiteFormat,
    "blade": BladeFormat,
}
