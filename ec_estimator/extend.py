"""What a compressor of your own is built from; docs/extending.md has a complete one.

Its config: a `TrialsConfig` with fields `field(default, rule, doc)`. Its plan:
`choose_layers` and `take_kernels`. Its part in a graph: `create_variable`, for state
that checkpoints hold, `remove`, for weights, and `EveryStep`, for ops.
"""
import dataclasses
from typing import Tuple

from ec_estimator.core import fields
from ec_estimator.core.compressor import EveryStep, Settled
from ec_estimator.core.fields import (
    Rule,
    boolean,
    field,
    integer,
    one_of,
    open_interval,
    or_none,
    path,
    ratio,
    subset,
)
from ec_estimator.core.report import Report
from ec_estimator.core.state import create_variable
from ec_estimator.graph.decisions import choose_layers, take_kernels
from ec_estimator.rewrite.updates import remove

__all__ = [
    "EveryStep",
    "Report",
    "Rule",
    "Settled",
    "TrialsConfig",
    "boolean",
    "choose_layers",
    "create_variable",
    "field",
    "integer",
    "one_of",
    "open_interval",
    "or_none",
    "path",
    "ratio",
    "remove",
    "subset",
    "take_kernels",
]


@dataclasses.dataclass(frozen=True)
class TrialsConfig(fields.ScheduledConfig):
    """Where a compressor works, and when its trials are.

    A subclass is a frozen dataclass, too. It adds fields, or declares one of these anew
    with another default, and has a `target` in [0, 1]: what the last trial leads to. If
    that is a property, `target_field` names the field behind it, for messages.
    """

    step_interval: int = fields.step_interval(1000)
    num_trials: int = fields.num_trials(10)
    include_scopes: Tuple[str, ...] = fields.include_scopes()
    exclude_scopes: Tuple[str, ...] = fields.exclude_scopes()
    ramp: str = fields.ramp()
    start_step: int = fields.start_step()
