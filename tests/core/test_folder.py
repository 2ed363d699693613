"""What a run leaves on disk is whole, and checked before it is trusted."""
import json
import os

import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.core.atomic import write_atomically
from ec_estimator.core.folder import FORMAT_VERSION, RunFolder
from tests.core.run_folders import CONFIGS, PLAN, SCHEDULES, contents, raises


def write(folder, name, content):
    with open(folder.file(name), "wb") as file:
        file.write(content)


def trial(number, **more):
    return {"compressor": "sparsity", "trial": number, **more}


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
