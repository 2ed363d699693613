"""A folder belongs to one run: its plan, compressors, settings and schedules."""
import dataclasses
import os

import pytest

from tests.core.run_folders import CONFIGS, PLAN, SCHEDULE, SCHEDULES, contents, raises


def test_bind_writes_plan_and_manifest(bound):
    assert bound.read_json("plan.json")["kernels"] == PLAN["kernels"]
    manifest = bound.read_json("manifest.json")
    assert manifest["compressors"] == CONFIGS
    assert manifest["variables"] == ["dense/bias", "dense/kernel"]
    assert manifest["tensorflow"].startswith("1.15")
    assert set(os.listdir(bound.path)) == {"plan.json", "manifest.json"}


def test_the_same_run_binds_again(bound):
    bound.bind(PLAN, CONFIGS, SCHEDULES, {"dense/kernel"})
    assert bound.read_json("manifest.json")["variables"] == ["dense/kernel"]


@pytest.mark.parametrize(
    "field,old,new",
    [
        ("target_sparse_ratio", "0.6", 0.7),
        ("sparse_block_shape", "[1, 16]", [1, 8]),
    ],
)
def test_another_setting_is_another_run(bound, field, old, new):
    configs = {"sparsity": {**CONFIGS["sparsity"], field: new}}
    with raises(
        f"{bound.path!r} belongs to a run with sparsity {field}={old}, this one has "
        f"{new!r}; use the old value or another model_dir"
    ):
        bound.bind(PLAN, configs, SCHEDULES, set())


@pytest.mark.parametrize("configs", [{}, {**CONFIGS, "pruning": {}}, {"pruning": {}}])
def test_other_compressors_are_another_run(bound, configs):
    with raises(
        f"{bound.path!r} belongs to a run with compressors ['sparsity'], this one has "
        f"{sorted(configs)}; use another model_dir"
    ):
        bound.bind(PLAN, configs, SCHEDULES, set())


@pytest.mark.parametrize("compressors", [None, 3, ["sparsity"], {"sparsity": None}])
def test_a_manifest_without_configs_is_damaged(bound, compressors):
    bound.write_json("manifest.json", {"compressors": compressors})
    with raises("manifest.json' is damaged (no 'compressors'); restore it"):
        bound.bind(PLAN, CONFIGS, SCHEDULES, set())


def test_the_schedules_of_a_run_are_in_its_manifest(folder):
    assert folder.schedules() == {}
    folder.bind(PLAN, CONFIGS, SCHEDULES, set())
    assert folder.schedules() == SCHEDULES


@pytest.mark.parametrize(
    "schedules",
    [
        None,
        ["sparsity"],
        {"sparsity": None},
        {"sparsity": {"target": 0.6, "start_step": 100, "num_trials": 3}},
        {"sparsity": {**dataclasses.asdict(SCHEDULE), "step_interval": "5"}},
        {"sparsity": {**dataclasses.asdict(SCHEDULE), "rate": 1}},
    ],
)
def test_a_manifest_without_schedules_is_damaged(bound, schedules):
    bound.write_json("manifest.json", {"schedules": schedules})
    with raises("manifest.json' is damaged (no 'schedules'); restore it"):
        bound.schedules()


def test_compressors_in_another_order_are_another_run(folder):
    both = {"sparsity": {"step_interval": 1}, "quantization": {"step_interval": 1}}
    folder.bind(PLAN, both, SCHEDULES, set())
    folder.bind(PLAN, both, SCHEDULES, set())
    turned = dict(reversed(list(both.items())))
    with raises(
        f"{folder.path!r} belongs to a run with compressors in the order ['sparsity', "
        "'quantization'], this one has ['quantization', 'sparsity']; use that order or "
        "another model_dir"
    ):
        folder.bind(PLAN, turned, SCHEDULES, set())


@pytest.mark.parametrize("kernels", [None, 3, ["dense/kernel"], {"dense/kernel": None}])
def test_a_plan_without_kernels_is_damaged(bound, kernels):
    bound.write_json("plan.json", {"kernels": kernels})
    with raises("plan.json' is damaged (no 'kernels'); restore it"):
        bound.bind(PLAN, CONFIGS, SCHEDULES, set())


KERNEL = PLAN["kernels"]["dense/kernel"]


@pytest.mark.parametrize(
    "kernels,name,what",
    [
        ({}, "dense/kernel", "is not in the model"),
        ({**PLAN["kernels"], "new/kernel": KERNEL}, "new/kernel", "is not in the plan"),
        (
            {"dense/kernel": {**KERNEL, "shape": [4, 9]}},
            "dense/kernel",
            "has shape [4, 8] in the plan and [4, 9] in the model",
        ),
        (
            {"dense/kernel": {**KERNEL, "parts": ["b"]}},
            "dense/kernel",
            "has shape [4, 8] in the plan and [4, 8] in the model, or is used",
        ),
    ],
)
def test_another_model_is_another_run(bound, kernels, name, what):
    with raises(
        f"the plan {bound.file('plan.json')!r} no longer fits the model: ",
        f"kernel {name!r} {what}",
        "; use the model it was made for or another model_dir",
    ):
        bound.bind({"mode": "infer", "kernels": kernels}, CONFIGS, SCHEDULES, set())


def test_a_refused_run_changes_no_file(bound):
    before = contents(bound)
    with raises("no longer fits"):
        bound.bind({"mode": "infer", "kernels": {}}, CONFIGS, SCHEDULES, {"other"})
    with raises("belongs to a run"):
        bound.bind(PLAN, {}, SCHEDULES, {"other"})
    assert contents(bound) == before
