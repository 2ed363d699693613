"""Configs are valid by construction, equal by value and never change."""
import dataclasses
import json
import re

import numpy as np
import pytest

from ec_estimator.config import PrunerConfig, QuantizerConfig, SparsifierConfig
from ec_estimator.core.errors import CompressionError, ConfigError
from tests.bad_values import COUNT, NAN, NO_INTEGER, NO_SCOPES, SCOPES

RULES = {
    "target_sparse_ratio": "a float in [0, 1]",
    "sparse_block_shape": "two integers greater than 0",
    "step_interval": COUNT,
    "num_trials": COUNT,
    "include_scopes": SCOPES,
    "exclude_scopes": SCOPES,
    "sort_range": "'local' or 'global'",
    "ramp": "'cubic' or 'linear'",
    "start_step": "an integer of at least 0",
}
NO_RATIO = [
    -0.1,
    1.0001,
    NAN,
    np.inf,
    -np.inf,
    10**400,
    True,
    np.True_,
    "0.5",
    b"0.5",
]
NO_BLOCK = [
    *[(0, 1), (1, 0), (-1, 4), (1.0, 4), (True, 4), ("1", "4"), (1, NAN), (1, None)],
    *[(), (4,), (1, 4, 1), 4, None, "14", b"14", ((1, 4), (1, 4))],
]
BAD = [
    *[("target_sparse_ratio", value) for value in [*NO_RATIO, None, [0.5], 1j]],
    *[("sparse_block_shape", value) for value in NO_BLOCK],
    *[("step_interval", value) for value in [0, *NO_INTEGER]],
    *[("num_trials", value) for value in [0, *NO_INTEGER]],
    *[("start_step", value) for value in NO_INTEGER],
    *[("include_scopes", value) for value in NO_SCOPES],
    *[("exclude_scopes", value) for value in NO_SCOPES],
    *[("sort_range", v) for v in ["", "Local", "all", None, 1, ["local"], ("global",)]],
    *[("sort_range", np.array(["local"]))],
    *[("ramp", value) for value in ["", "quadratic", "CUBIC", None, 3, ["cubic"]]],
]


@pytest.mark.parametrize("field,value", BAD)
def test_a_bad_value_is_named_with_class_field_and_rule(field, value):
    message = f"SparsifierConfig.{field}: must be {RULES[field]}, got {value!r}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        SparsifierConfig(**{field: value})


def test_every_field_is_tested_with_bad_values():
    fields = {field.name for field in dataclasses.fields(SparsifierConfig)}
    assert fields == set(RULES) == {field for field, _ in BAD}


@pytest.mark.parametrize("kind", [ValueError, CompressionError])
def test_a_config_error_can_be_caught_as(kind):
    with pytest.raises(kind, match="num_trials"):
        SparsifierConfig(num_trials=0)


def test_the_cause_of_a_bad_value_is_not_shown_twice():
    with pytest.raises(ConfigError) as caught:
        SparsifierConfig(step_interval="many")
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("kind", [int, np.int8, np.int32, np.int64, np.uint8])
def test_numpy_integers_are_integers(kind):
    config = SparsifierConfig(
        sparse_block_shape=(kind(2), kind(4)),
        step_interval=kind(3),
        num_trials=kind(5),
        start_step=kind(0),
    )
    values = [*config.sparse_block_shape, config.step_interval, config.num_trials]
    assert values + [config.start_step] == [2, 4, 3, 5, 0]
    assert {type(value) for value in values} == {int}


@pytest.mark.parametrize(
    "value", [0, 1, 0.25, np.float32(0.25), np.float64(1), np.int8(1)]
)
def test_any_real_number_in_range_is_a_ratio(value):
    ratio = SparsifierConfig(target_sparse_ratio=value).target_sparse_ratio
    assert ratio == float(value)
    assert type(ratio) is float


def test_lists_and_generators_become_tuples():
    config = SparsifierConfig(
        sparse_block_shape=[1, 16],
        include_scopes=["a", "b/c"],
        exclude_scopes=(name for name in ["d"]),
    )
    assert config.sparse_block_shape == (1, 16)
    assert config.include_scopes == ("a", "b/c")
    assert config.exclude_scopes == ("d",)


def test_a_slash_at_the_end_of_a_scope_means_nothing():
    config = SparsifierConfig(include_scopes=["a/"], exclude_scopes=["b/c//"])
    assert config == SparsifierConfig(include_scopes=["a"], exclude_scopes=["b/c"])


def test_defaults_are_those_of_the_documentation():
    assert dataclasses.asdict(SparsifierConfig()) == {
        "target_sparse_ratio": 0.6,
        "sparse_block_shape": (1, 1),
        "step_interval": 1000,
        "num_trials": 10,
        "include_scopes": (),
        "exclude_scopes": (),
        "sort_range": "local",
        "ramp": "cubic",
        "start_step": 0,
    }


def test_configs_are_equal_by_value():
    one = SparsifierConfig(sparse_block_shape=[1, 16], include_scopes=["a"])
    other = SparsifierConfig(sparse_block_shape=(1, 16), include_scopes=("a/",))
    assert one == other
    assert hash(one) == hash(other)


@pytest.mark.parametrize(
    "field,value",
    [
        ("target_sparse_ratio", 0.5),
        ("sparse_block_shape", (1, 2)),
        ("step_interval", 999),
        ("num_trials", 9),
        ("include_scopes", ("a",)),
        ("exclude_scopes", ("a",)),
        ("sort_range", "global"),
        ("ramp", "linear"),
        ("start_step", 1),
    ],
)
def test_configs_differ_when_one_field_does(field, value):
    assert SparsifierConfig(**{field: value}) != SparsifierConfig()


@pytest.mark.parametrize("field", RULES)
def test_a_config_is_frozen(field):
    config = SparsifierConfig()
    with pytest.raises(dataclasses.FrozenInstanceError, match=field):
        setattr(config, field, getattr(config, field))


def test_replace_validates_again():
    with pytest.raises(ConfigError, match="num_trials: must be an integer"):
        dataclasses.replace(SparsifierConfig(), num_trials=0)


def test_an_unknown_keyword_is_a_type_error():
    with pytest.raises(TypeError, match="unexpected keyword argument 'sparsity'"):
        SparsifierConfig(sparsity=0.5)


def test_to_dict_survives_json_and_gives_the_config_back():
    config = SparsifierConfig(
        target_sparse_ratio=np.float64(0.1),
        sparse_block_shape=(np.int64(1), 16),
        include_scopes=["a"],
        start_step=np.int32(7),
    )
    content = config.to_dict()
    assert content["sparse_block_shape"] == [1, 16]
    assert content["include_scopes"] == ["a"]
    loaded = json.loads(json.dumps(content))
    assert loaded == content
    assert SparsifierConfig(**loaded) == config


def test_the_schedule_is_made_of_the_fields():
    schedule = SparsifierConfig(
        target_sparse_ratio=0.75,
        step_interval=10,
        num_trials=4,
        ramp="linear",
        start_step=3,
    ).schedule
    assert dataclasses.asdict(schedule) == {
        "target": 0.75,
        "start_step": 3,
        "step_interval": 10,
        "num_trials": 4,
        "ramp": "linear",
    }


def test_every_field_has_a_rule_and_a_sentence():
    for config in (PrunerConfig, SparsifierConfig, QuantizerConfig):
        assert dataclasses.fields(config)
        for field in dataclasses.fields(config):
            assert field.metadata["doc"]
            assert field.metadata["rule"].text
