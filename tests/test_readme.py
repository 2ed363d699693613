"""The README says what the code does."""
import dataclasses
import os

import pytest

import ec_estimator as ec

README = os.path.join(os.path.dirname(os.path.dirname(__file__)), "README.md")


def readme():
    with open(README, encoding="utf-8") as file:
        return file.read()


@pytest.mark.parametrize("config", [ec.PrunerConfig, ec.SparsifierConfig])
def test_every_field_is_documented_with_its_default_rule_and_meaning(config):
    text = readme()
    for field in dataclasses.fields(config):
        rule, doc = field.metadata["rule"].text, field.metadata["doc"]
        row = f"| `{field.name}` | {field.default!r} | {rule} | {doc} |"
        assert row in text, row


def test_every_public_name_is_mentioned():
    text = readme()
    for name in ec.__all__:
        if name not in ("__version__", "Compressor"):
            assert name in text, name
