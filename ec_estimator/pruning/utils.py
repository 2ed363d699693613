"""The import path of the original interface."""
from ec_estimator.shrink.getter import GapFinetune

__all__ = ["GapFinetune"]
