"""What a compressor of your own is built from; docs/extending.md has a complete one.

Its config: a `TrialsConfig` with fields `field(default, rule, doc)`. Its plan:
`choose_layers` and `take_kernels`. Its part in a graph: `create_variable`, for state
that checkpoints hold, and `zero_out`.
"""
import dataclasses
from typing import Tuple

from ec_estimator import config
from ec_estimator.config import Rule
from ec_estimator.config import _at_least as at_least
from ec_estimator.config import _boolean as boolean
from ec_estimator.config import _field as field
from ec_estimator.config import _one_of as one_of
from ec_estimator.config import _open_interval as open_interval
from ec_estimator.config import _ratio as ratio
from ec_estimator.core.compressor import Report
from ec_estimator.core.state import create_variable
from ec_estimator.graph.plan import choose_layers, take_kernels
from ec_estimator.rewrite.updates import zero_out

__all__ = [
    "Report",
    "Rule",
    "TrialsConfig",
    "at_least",
    "boolean",
    "choose_layers",
    "create_variable",
    "field",
    "one_of",
    "open_interval",
    "ratio",
    "take_kernels",
    "zero_out",
]


@dataclasses.dataclass(frozen=True)
class TrialsConfig(config.ScheduledConfig):
    """Where a compressor works, and when its trials are.

    A subclass is a frozen dataclass, too; it adds fields, and says as `target` in
    [0, 1] what the last trial leads to. Any field may be declared anew, with another
    default.
    """

    step_interval: int = config._step_interval(1000)
    num_trials: int = config._num_trials(10)
    include_scopes: Tuple[str, ...] = config._include_scopes()
    exclude_scopes: Tuple[str, ...] = config._exclude_scopes()
    ramp: str = config._ramp()
    start_step: int = config._start_step()
