"""What a config of one's own is made of."""
import dataclasses
from typing import Optional, Tuple

import pytest

from ec_estimator.config import PrunerConfig, SparsifierConfig
from ec_estimator.core import fields
from ec_estimator.core.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class MovementConfig(fields.ScheduledConfig):
    target_field = "sparse_ratio"
    sparse_ratio: float = fields.field(0.5, fields.ratio(), "what is zero at the end")
    warm_up: Optional[int] = fields.field(
        None, fields.or_none(fields.integer(2, 9)), "steps before scores count"
    )
    score: str = fields.field("l1", fields.one_of("l1", "l2"), "norm of the scores")
    include_scopes: Tuple[str, ...] = fields.include_scopes()
    exclude_scopes: Tuple[str, ...] = fields.exclude_scopes()
    step_interval: int = fields.step_interval(100)
    num_trials: int = fields.num_trials(4)
    ramp: str = fields.ramp()
    start_step: int = fields.start_step()

    @property
    def target(self):
        return self.sparse_ratio


def test_a_config_of_ones_own_has_a_schedule():
    schedule = MovementConfig(sparse_ratio=0.8, ramp="linear", start_step=10).schedule
    assert [schedule.step_of(trial) for trial in (1, 4)] == [110, 410]
    assert schedule.ratio(2) == pytest.approx(0.4)


@pytest.mark.parametrize("config", [MovementConfig, PrunerConfig, SparsifierConfig])
def test_a_config_names_the_field_of_its_target_which_is_no_field_itself(config):
    assert config(**{config.target_field: 0.25}).target == 0.25
    assert "target_field" not in {f.name for f in dataclasses.fields(config)}


@pytest.mark.parametrize(
    "field, value, rule",
    [
        ("sparse_ratio", 1.5, r"a float in \[0, 1\]"),
        ("warm_up", 1, "an integer from 2 to 9, or None"),
        ("warm_up", 10, "an integer from 2 to 9, or None"),
        ("score", "l3", "'l1' or 'l2'"),
        ("num_trials", 0, "an integer greater than 0"),
        ("start_step", -1, "an integer of at least 0"),
        ("include_scopes", "conv", "a tuple of non-empty scope names"),
    ],
)
def test_a_bad_value_names_the_class_the_field_and_the_rule(field, value, rule):
    message = f"MovementConfig.{field}: must be {rule}, got {value!r}"
    with pytest.raises(ConfigError, match=message):
        MovementConfig(**{field: value})


@pytest.mark.parametrize("value", [None, 2, 9])
def test_the_ends_of_a_range_and_none_are_accepted(value):
    assert MovementConfig(warm_up=value).warm_up == value


@pytest.mark.parametrize("value", ["", 3, b"model.ckpt", None])
def test_a_path_is_text(value):
    with pytest.raises(TypeError):
        fields.path().parse(value)
    assert fields.path().parse("model.ckpt") == "model.ckpt"
