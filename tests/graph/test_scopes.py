"""include_scopes and exclude_scopes."""

import pytest

from ec_estimator.core.errors import ConfigError
from tests.graph.planned import HEAD, ONE, TAKEN, TWO, decisions, plan, towers


def test_without_scopes_every_layer_is_compressed():
    assert decisions(towers) == {ONE: TAKEN, TWO: TAKEN, HEAD: TAKEN}


def test_include_scopes_takes_those_layers_only():
    reason = "is in none of include_scopes"
    found = decisions(towers, include_scopes=["tower"])
    assert found == {ONE: TAKEN, TWO: TAKEN, HEAD: reason}
    found = decisions(towers, include_scopes=["tower/two", "head"])
    assert found == {ONE: reason, TWO: TAKEN, HEAD: TAKEN}


def test_exclude_scopes_leaves_those_layers_alone():
    found = decisions(towers, exclude_scopes=["tower/one", "head"])
    assert found == {
        ONE: "is in exclude_scopes 'tower/one'",
        TWO: TAKEN,
        HEAD: "is in exclude_scopes 'head'",
    }


def test_exclude_scopes_wins_over_include_scopes():
    found = decisions(towers, include_scopes=["tower"], exclude_scopes=["tower/two"])
    assert found == {
        ONE: TAKEN,
        TWO: "is in exclude_scopes 'tower/two'",
        HEAD: "is in none of include_scopes",
    }


@pytest.mark.parametrize("scope", ["head", "head/MatMul", "head/kernel"])
def test_a_layer_goes_by_scope_op_or_kernel(scope):
    found = decisions(towers, include_scopes=[scope])
    assert [op for op, decision in found.items() if decision == TAKEN] == [HEAD]


@pytest.mark.parametrize("field", ["include_scopes", "exclude_scopes"])
@pytest.mark.parametrize(
    "scope,nearest", [("tower/tow", "tower/two"), ("haed", "head"), ("tow", "tower")]
)
def test_a_scope_that_matches_nothing_is_an_error_with_the_nearest_names(
    field, scope, nearest
):
    pattern = (
        rf"^SparsifierConfig\.{field}: '{scope}' matches no layer; "
        rf"nearest: (.+, )?{nearest}(, .+)?$"
    )
    with pytest.raises(ConfigError, match=pattern):
        plan(towers, **{field: [scope]})


def test_a_scope_unlike_any_other_still_gets_names():
    pattern = (
        "^SparsifierConfig.exclude_scopes: 'QQQ' matches no layer; nearest: tower, "
    )
    with pytest.raises(ConfigError, match=pattern):
        plan(towers, exclude_scopes=["QQQ"])


@pytest.mark.parametrize("scope", ["tower/o", "towe", "ower", "one", "Tower"])
def test_part_of_a_name_is_no_scope(scope):
    with pytest.raises(ConfigError, match=f"'{scope}' matches no layer"):
        plan(towers, include_scopes=[scope])


def test_one_scope_that_matches_does_not_excuse_another():
    with pytest.raises(ConfigError, match="include_scopes: 'heads' matches no layer"):
        plan(towers, include_scopes=["tower", "heads"])
