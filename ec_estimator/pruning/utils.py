"""The import path of the original interface."""
from ec_estimator.pruning.finetune import GapFinetune

__all__ = ["GapFinetune"]
