"""The QuantizerConfig: its rules, defaults, other names and schedule."""
import dataclasses
import json
import re

import numpy as np
import pytest

from ec_estimator.config import QuantizerConfig
from ec_estimator.core.errors import ConfigError
from tests.bad_values import COUNT, NO_INTEGER, NO_SCOPES, SCOPES

BITS = "an integer from 1 to 8"
QUANTIZER_RULES = {
    "bits": BITS,
    "wbits": BITS,
    "signed": "True, False or 'auto'",
    "pretrained_model": "a path, or None",
    "step_interval": COUNT,
    "num_trials": COUNT,
    "include_scopes": SCOPES,
    "exclude_scopes": SCOPES,
    "fp32_layers": SCOPES,
    "post_quant": "True or False",
    "int8_winograd": "True or False",
    "first_last_bits": f"{BITS}, or None",
}
NO_BITS = [0, 9, 16, 32, *NO_INTEGER]
NO_BOOLEAN = ["True", "false", "", 0, 1, 1.0, None, np.True_, [True]]
QUANTIZER_BAD = [
    *[("bits", value) for value in NO_BITS],
    *[("wbits", value) for value in NO_BITS],
    *[("first_last_bits", value) for value in NO_BITS if value is not None],
    *[("signed", value) for value in ["x", "", "yes", b"auto", 0, 1, None, ["auto"]]],
    *[("pretrained_model", value) for value in ["", b"run", 0, 1, True, ["run"]]],
    *[("step_interval", value) for value in [0, *NO_INTEGER]],
    *[("num_trials", value) for value in [0, *NO_INTEGER]],
    *[("include_scopes", value) for value in NO_SCOPES],
    *[("exclude_scopes", value) for value in NO_SCOPES],
    *[("fp32_layers", value) for value in NO_SCOPES],
    *[("post_quant", value) for value in NO_BOOLEAN],
    *[("int8_winograd", value) for value in NO_BOOLEAN],
]
QUANTIZER_OTHER = {
    "bits": 4,
    "wbits": 1,
    "signed": "auto",
    "pretrained_model": "runs/dense",
    "step_interval": 999,
    "num_trials": 9,
    "include_scopes": ("a",),
    "exclude_scopes": ("b/c",),
    "fp32_layers": ("d/MatMul",),
    "post_quant": True,
    "int8_winograd": True,
    "first_last_bits": 8,
}


@pytest.mark.parametrize("field,value", QUANTIZER_BAD)
def test_a_quantizers_bad_value_is_named_with_class_field_and_rule(field, value):
    rule = QUANTIZER_RULES[field]
    message = f"QuantizerConfig.{field}: must be {rule}, got {value!r}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        QuantizerConfig(**{field: value})


def test_every_field_of_the_quantizer_is_tested():
    fields = {field.name for field in dataclasses.fields(QuantizerConfig)}
    assert fields == set(QUANTIZER_RULES) == set(QUANTIZER_OTHER)
    assert fields == {field for field, _ in QUANTIZER_BAD}


def test_defaults_of_the_quantizer_are_those_of_the_documentation():
    assert dataclasses.asdict(QuantizerConfig()) == {
        "bits": 8,
        "wbits": 8,
        "signed": True,
        "pretrained_model": None,
        "step_interval": 1000,
        "num_trials": 10,
        "include_scopes": (),
        "exclude_scopes": (),
        "fp32_layers": (),
        "post_quant": False,
        "int8_winograd": False,
        "first_last_bits": None,
    }


@pytest.mark.parametrize("field", ["bits", "wbits", "first_last_bits"])
@pytest.mark.parametrize("bits", range(1, 9))
def test_1_to_8_bits_are_accepted(field, bits):
    value = getattr(QuantizerConfig(**{field: np.int64(bits)}), field)
    assert (value, type(value)) == (bits, int)


@pytest.mark.parametrize(
    "given,signed",
    [(True, True), (False, False), ("auto", "auto")]
    + [("AUTO", "auto"), ("true", True), ("False", False)],
)
def test_signs_are_given_as_values_or_as_text(given, signed):
    found = QuantizerConfig(signed=given).signed
    assert (found, type(found)) == (signed, type(signed))


@pytest.mark.parametrize(
    "names",
    [
        {"pretrain_model": "a"},
        {"pretrained_model": "a", "pretrain_model": "a"},
        {"pretrained_model": "a", "pretrain_model": None},
        {"pretrained_model": None, "pretrain_model": "a"},
    ],
)
def test_pretrain_model_is_another_name_for_pretrained_model(names):
    assert QuantizerConfig(**names) == QuantizerConfig(pretrained_model="a")


def test_two_different_pretrained_models_are_refused():
    message = (
        "QuantizerConfig.pretrained_model: is 'a', but pretrain_model, another name "
        "for it, 'b'; give one of them"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        QuantizerConfig(pretrained_model="a", pretrain_model="b")


@pytest.mark.parametrize("value", ["", 5, True, ["a"]])
def test_pretrain_model_obeys_the_rule_of_pretrained_model(value):
    with pytest.raises(ConfigError, match="pretrained_model: must be a path, or None"):
        QuantizerConfig(pretrain_model=value)


@pytest.mark.parametrize("word", ["bit", "pretrained", "target", "start_step"])
def test_an_unknown_keyword_of_the_quantizer_is_a_type_error(word):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{word}'"):
        QuantizerConfig(**{word: 1})


@pytest.mark.parametrize("field", QUANTIZER_OTHER)
def test_quantizer_configs_differ_when_one_field_does(field):
    config = QuantizerConfig(**{field: QUANTIZER_OTHER[field]})
    assert config != QuantizerConfig()
    assert config == QuantizerConfig(**{field: QUANTIZER_OTHER[field]})
    assert hash(config) == hash(dataclasses.replace(config))
    with pytest.raises(dataclasses.FrozenInstanceError, match=field):
        setattr(config, field, getattr(config, field))


@pytest.mark.parametrize("values", [{}, QUANTIZER_OTHER])
def test_a_quantizers_to_dict_survives_json_and_gives_the_config_back(values):
    config = QuantizerConfig(**values)
    content = config.to_dict()
    assert set(content) == set(QUANTIZER_RULES)
    loaded = json.loads(json.dumps(content))
    assert loaded == content
    assert QuantizerConfig(**loaded) == config
    assert dataclasses.replace(config) == config


def test_the_first_trial_of_the_quantizer_is_just_before_step_2():
    schedule = QuantizerConfig(step_interval=10, num_trials=3).schedule
    assert [schedule.next_due(done) for done in range(4)] == [1, 11, 21, None]
