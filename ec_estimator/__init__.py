"""Model compression training for TensorFlow 1.15 Estimators and sessions."""
from ec_estimator import extend, flags
from ec_estimator.channels.overview import channel_groups
from ec_estimator.channels.rules import channel_rule
from ec_estimator.config import PrunerConfig, QuantizerConfig, SparsifierConfig
from ec_estimator.core.compressor import Attached, Compressor
from ec_estimator.core.errors import (
    CompressionError,
    ConfigError,
    PlanError,
    RunFolderError,
    UnfinishedError,
)
from ec_estimator.core.finished import FinishedOnly, unfinished_export
from ec_estimator.core.report import TrialReport
from ec_estimator.export.checkpoint import write_clean_checkpoint
from ec_estimator.export.exporters import (
    BestExporter,
    CleanCheckpointExporter,
    SavedModelExporter,
)
from ec_estimator.export.format import EngineMissing, ExportError, Format
from ec_estimator.export.formats import FORMATS
from ec_estimator.export.handoff import HandoffExporter
from ec_estimator.export.session import export_session
from ec_estimator.graph.decisions import Decisions
from ec_estimator.pruning.pruner import Pruner
from ec_estimator.quantization.quantizer import LSQQuantizer
from ec_estimator.quantization.session import quantize_graph
from ec_estimator.shrink.finetune import finetune
from ec_estimator.shrink.gap_finetune import GapFinetune
from ec_estimator.sparsity.sparsifier import Sparsifier
from ec_estimator.training.loop import compressed, train_and_evaluate
from ec_estimator.training.session import CompressionHook
from ec_estimator.training.warm_start import warm_start
from ec_estimator.training.wrap import compress
from ec_estimator.version import __version__

__all__ = [
    "Attached",
    "BestExporter",
    "CleanCheckpointExporter",
    "CompressionError",
    "CompressionHook",
    "Compressor",
    "ConfigError",
    "Decisions",
    "EngineMissing",
    "ExportError",
    "FORMATS",
    "FinishedOnly",
    "Format",
    "GapFinetune",
    "HandoffExporter",
    "LSQQuantizer",
    "PlanError",
    "Pruner",
    "PrunerConfig",
    "QuantizerConfig",
    "RunFolderError",
    "SavedModelExporter",
    "Sparsifier",
    "SparsifierConfig",
    "TrialReport",
    "UnfinishedError",
    "__version__",
    "channel_groups",
    "channel_rule",
    "compress",
    "compressed",
    "export_session",
    "extend",
    "finetune",
    "flags",
    "quantize_graph",
    "train_and_evaluate",
    "unfinished_export",
    "warm_start",
    "write_clean_checkpoint",
]
