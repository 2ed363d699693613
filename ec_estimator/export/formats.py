"""The formats by name: what `--format` and `--export` take."""
from ec_estimator.export.frozen_format import FrozenGraphFormat

# name -> callable() -> Format of that name.
FORMATS = {
    "frozen_graph": FrozenGraphFormat,
}
