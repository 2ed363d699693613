"""The import path of the original interface."""
from ec_estimator.shrink.gap_finetune import GapFinetune

__all__ = ["GapFinetune"]
