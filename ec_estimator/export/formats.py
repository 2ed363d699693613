"""The formats by name: what `--format` and `--export` take."""
from ec_estimator.export.frozen_format import FrozenGraphFormat

# name -> callable() -> Format.
FORMATS = {made.name: made for made in (FrozenGraphFormat,)}
