"""What a run leaves on disk is whole, and checked before it is trusted."""
import dataclasses
import json
import os
import re
from pathlib import Path

import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.core.errors import RunFolderError
from ec_estimator.core.folder import FORMAT_VERSION, RunFolder, write_atomically
from ec_estimator.core.schedule import Schedule

PLAN = {"mode": "infer", "kernels": {"dense/kernel": {"shape": [4, 8], "parts": ["a"]}}}
SCHEDULE = Schedule(0.6, 100, 5, 3, "linear")
SCHEDULES = {"sparsity": SCHEDULE}
CONFIGS = {"sparsity": {"target_sparse_ratio": 0.6, "sparse_block_shape": [1, 16]}}


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "compression").create()


@pytest.fixture
def bound(folder):
    folder.bind(PLAN, CONFIGS, SCHEDULES, {"dense/kernel", "dense/bias"})
    return folder


def raises(*pieces):
    """pytest.raises for a one-line RunFolderError that contains the pieces in order."""
    pattern = "^" + "".join(f".*{re.escape(piece)}" for piece in pieces) + ".*$"
    return pytest.raises(RunFolderError, match=pattern)


def write(folder, name, content):
    with open(folder.file(name), "wb") as file:
        file.write(content)


def test_create_makes_all_folders_and_leaves_them_empty(tmp_path):
    path = tmp_path / "a" / "b"
    assert RunFolder(path).create().path == str(path)
    assert os.listdir(str(path)) == []


def test_create_keeps_what_is_there(folder):
    folder.write_json("plan.json", {"a": 1})
    RunFolder(folder.path).create()
    assert folder.read_json("plan.json")["a"] == 1


def test_a_folder_is_reached_through_tensorflows_file_systems(tmp_path, monkeypatch):
    # Tests have no remote file system, but file:// is to Python as strange as gs://.
    monkeypatch.chdir(tmp_path)
    folder = RunFolder(f"file://{tmp_path}/run").create()
    folder.bind(PLAN, CONFIGS, SCHEDULES, {"dense/kernel"})
    folder.record_trial(trial(1))
    assert os.listdir(str(tmp_path)) == ["run"]
    local = RunFolder(tmp_path / "run")
    assert contents(local).keys() == {"plan.json", "manifest.json", "trials.jsonl"}
    assert folder.trials() == local.trials() == [trial(1)]
    folder.bind(PLAN, CONFIGS, SCHEDULES, {"dense/kernel"})


def test_a_file_is_no_save_dir(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with raises(f"{str(path)!r} is a file; name a folder"):
        RunFolder(path).create()


def test_a_folder_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    path = str(tmp_path / "file" / "folder")
    with raises(f"{path!r} cannot be written (", "Not a directory); name a folder"):
        RunFolder(path).create()


def test_a_folder_that_takes_no_files_cannot_be_written():
    with raises("'/proc/self' cannot be written (", "name a folder"):
        RunFolder("/proc/self").create()


def test_write_atomically_replaces_the_text(tmp_path):
    path = str(tmp_path / "file")
    for text in ("longer at first", "new"):
        write_atomically(path, text)
        with open(path) as file:
            assert file.read() == text
    assert os.listdir(str(tmp_path)) == ["file"]


def no_space(handle):
    raise OSError(28, "No space left on device")


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = str(tmp_path / "file")
    write_atomically(path, "old")
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert os.listdir(str(tmp_path)) == ["file"]
    with open(path) as file:
        assert file.read() == "old"


def test_a_failing_rename_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    with pytest.raises(tf.errors.OpError, match="Is a directory"):
        write_atomically(str(path), "new")
    assert os.listdir(str(tmp_path)) == ["folder"]


def test_files_can_be_read_by_whoever_the_umask_allows(tmp_path):
    before = os.umask(0o022)
    try:
        write_atomically(str(tmp_path / "file"), "text")
    finally:
        os.umask(before)
    assert os.stat(str(tmp_path / "file")).st_mode & 0o777 == 0o644


def test_json_is_written_with_its_version_and_read_back(folder):
    folder.write_json("plan.json", {"name": "ünïcode", "list": [1, None, 0.1]})
    with open(folder.file("plan.json")) as file:
        assert json.load(file)["format_version"] == FORMAT_VERSION
    content = folder.read_json("plan.json")
    assert (content["name"], content["list"]) == ("ünïcode", [1, None, 0.1])


def test_a_file_that_is_not_there_reads_as_none(folder):
    assert folder.read_json("plan.json") is None


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("name", ["plan.json", "manifest.json"])
def test_a_truncated_file_is_damaged(bound, name, share):
    with open(bound.file(name), "rb") as file:
        content = file.read()
    write(bound, name, content[: int(share * len(content))])
    with raises(f"{bound.file(name)!r} is damaged (", "restore it, or move it away"):
        bound.bind(PLAN, CONFIGS, SCHEDULES, set())


@pytest.mark.parametrize("content", [b"{]", b"\xff\xfe\x00", b"plan", b"{'a': 1}"])
def test_a_file_that_is_not_json_is_damaged(folder, content):
    write(folder, "plan.json", content)
    with raises(f"{folder.file('plan.json')!r} is damaged ("):
        folder.read_json("plan.json")


def test_a_folder_in_place_of_a_file_is_damaged(folder):
    os.mkdir(folder.file("plan.json"))
    with raises(f"{folder.file('plan.json')!r} is damaged (", "Is a directory"):
        folder.read_json("plan.json")


@pytest.mark.parametrize(
    "content,version",
    [
        ({"format_version": FORMAT_VERSION + 1}, FORMAT_VERSION + 1),
        ({"format_version": str(FORMAT_VERSION)}, repr(str(FORMAT_VERSION))),
        ({"kernels": {}}, None),
        ([1, 2], None),
        (None, None),
        ("text", None),
    ],
)
def test_another_format_version_is_not_read(folder, content, version):
    write(folder, "plan.json", json.dumps(content).encode())
    with raises(f"format version {version}; this release reads {FORMAT_VERSION}"):
        folder.read_json("plan.json")


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


def test_a_manifest_from_before_it_had_schedules_has_them_in_its_configs(bound):
    configs = {
        "sparsity": {"start_step": 3, "step_interval": 5, "num_trials": 2},
        "quantization": {"bits": 8, "step_interval": 5, "num_trials": 4},
    }
    bound.write_json("manifest.json", {"compressors": configs})
    last = {name: schedule.last_step for name, schedule in bound.schedules().items()}
    # Before step 3 + 2 * 5, and before step 2 with three more every 5 steps.
    assert last == {"sparsity": 13, "quantization": 17}


def test_a_manifest_from_before_it_had_schedules_may_be_damaged(bound):
    bound.write_json("manifest.json", {"compressors": {"sparsity": {"num_trials": 2}}})
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


def contents(folder):
    return {path.name: path.read_text() for path in Path(folder.path).iterdir()}


def test_a_refused_run_changes_no_file(bound):
    before = contents(bound)
    with raises("no longer fits"):
        bound.bind({"mode": "infer", "kernels": {}}, CONFIGS, SCHEDULES, {"other"})
    with raises("belongs to a run"):
        bound.bind(PLAN, {}, SCHEDULES, {"other"})
    assert contents(bound) == before


def trial(number, **more):
    return {"compressor": "sparsity", "trial": number, **more}


def test_there_are_no_trials_before_the_first(folder):
    assert folder.trials() == []


def test_trials_are_read_in_the_order_they_were_recorded(folder):
    records = [trial(1, ratio=0.2), trial(2, ratio=0.4), trial(3, ratio=0.6)]
    for record in records:
        folder.record_trial(record)
    assert folder.trials() == records
    with open(folder.file("trials.jsonl")) as file:
        assert [json.loads(line) for line in file] == records


def test_a_repeated_trial_replaces_its_line(folder):
    for record in [trial(1, ratio=0.2), trial(2, ratio=0.4), trial(2, ratio=0.5)]:
        folder.record_trial(record)
    assert folder.trials() == [trial(1, ratio=0.2), trial(2, ratio=0.5)]


def test_trials_of_two_compressors_stay_apart(folder):
    records = [trial(1), {"compressor": "pruning", "trial": 1}]
    for record in records:
        folder.record_trial(record)
    assert folder.trials() == records


DAMAGED = [b'{"compressor": "spar', b"", b"[1]", b"3", b"null", b"\xff\xfe\xfd", b"{}"]


@pytest.mark.parametrize("line", DAMAGED)
def test_a_damaged_line_is_named_and_never_dropped(folder, line):
    folder.record_trial(trial(1))
    with open(folder.file("trials.jsonl"), "ab") as file:
        file.write(line + b"\n")
    with raises("trials.jsonl' line 2 is damaged (", "move it away to start a new one"):
        folder.trials()
    with raises("trials.jsonl' line 2 is damaged ("):
        folder.record_trial(trial(2))
    with open(folder.file("trials.jsonl"), "rb") as file:
        assert file.read().splitlines()[1] == line
