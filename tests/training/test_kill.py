"""A run that is killed and started again ends as one that never was."""
import itertools
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.shrink.artifact import read_artifact
from tests.launcher import Launcher

STEPS = 16


@pytest.fixture(scope="module")
def start():
    """(folder, kill, job) -> a training process. Two launchers take turns, so that what
    goes on has other hashes than what was killed, as on a user's machine."""
    modules = "ec_estimator", "tests.models"
    with Launcher(*modules) as one, Launcher(*modules) as other:
        turns = itertools.cycle([one, other])

        def start(folder, kill="", job="sparsity"):
            return next(turns).start("tests.training.killed_run", folder, kill, job)

        yield start


@pytest.fixture(scope="module")
def run(start):
    """(folder, kill, job) -> exit code of a training process."""
    return lambda *args, **kwargs: start(*args, **kwargs).wait()


def final_state(folder):
    path = os.path.join(str(folder), f"model.ckpt-{STEPS}")
    reader = tf.train.load_checkpoint(path)
    return {n: reader.get_tensor(n) for n in reader.get_variable_to_shape_map()}


@pytest.fixture(scope="module")
def uninterrupted(run, tmp_path_factory):
    """job -> folder of a run that was left alone."""
    folders = {}

    def folder_of(job):
        if job not in folders:
            folder = tmp_path_factory.mktemp(job)
            assert run(folder, job=job) == 0
            folders[job] = folder
            algorithm = job.split("_")[-1]
            assert final_state(folder)[f"ec_estimator/{algorithm}/trial"] == 4
        return folders[job]

    return folder_of


def assert_ends_like(folder, untouched):
    actual, expected = final_state(folder), final_state(untouched)
    assert set(actual) == set(expected)
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name], name)
    with open(str(folder / "compression" / "trials.jsonl")) as file:
        lines = [json.loads(line) for line in file]
    for name in {line["compressor"] for line in lines}:
        mine = [line["trial"] for line in lines if line["compressor"] == name]
        assert mine == [1, 2, 3, 4]


# Where the process kills itself. Trials come before steps 3, 6, 9 and 12, checkpoints
# after every second step.
@pytest.mark.parametrize(
    "job, kills",
    [
        ("sparsity", ["trial:1:applied", "save:8", "trial:3:selected", "step:13"]),
        ("pruning", ["trial:2:selected", "trial:3:applied", "trial:4:recorded"]),
        # A quantizer's trials come before steps 2, 5, 8 and 11.
        (
            "sparse_quantization",
            ["step:1", "trial:1:before", "save:6", "trial:2:applied"],
        ),
        # Of the moments that these leave out, those above have each with another
        # compressor, or next to it.
        *(
            pytest.param(job, kills, marks=pytest.mark.slow)
            for job, kills in (
                ("sparsity", ["step:1"]),
                ("sparsity", ["step:5"]),
                ("sparsity", ["save:6"]),
                ("sparsity", ["trial:1:before"]),
                ("sparsity", ["trial:3:applied"]),
                ("sparsity", ["trial:4:recorded"]),
                ("global_sparsity", ["trial:2:selected"]),
                (
                    "global_sparsity",
                    ["trial:1:applied", "save:8", "trial:3:selected", "step:13"],
                ),
                ("pruning", ["step:1", "trial:1:before", "step:5"]),
                ("pruning", ["save:6", "trial:3:selected", "step:13"]),
                ("quantization", ["step:1", "trial:1:before", "step:3"]),
                (
                    "quantization",
                    ["trial:2:selected", "trial:3:applied", "trial:4:recorded"],
                ),
                ("sparse_quantization", ["save:6", "trial:2:applied", "step:13"]),
            )
        ),
    ],
)
def test_killed_and_restarted_run_ends_with_the_same_bits(
    job, kills, run, uninterrupted, tmp_path
):
    for kill in kills:
        assert run(tmp_path, kill, job) == -signal.SIGKILL
    assert run(tmp_path, job=job) == 0
    assert_ends_like(tmp_path, uninterrupted(job))


# Artifacts are written with the trials, at steps 2, 5, 8 and 11, and at the end. The
# second kill of each hits a file of the same step that the first one left.
@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("data", marks=pytest.mark.slow),
        "checkpoint",
        pytest.param("manifest", marks=pytest.mark.slow),
    ],
)
def test_artifact_is_whole_whenever_its_writer_is_killed(
    moment, run, uninterrupted, tmp_path
):
    for kill in (f"artifact:8:{moment}", "artifact:8:data", f"artifact:11:{moment}"):
        assert run(tmp_path, kill, "pruning") == -signal.SIGKILL
        assert read_artifact(str(tmp_path)).manifest["step"] in (5, 8, 11)
    assert run(tmp_path, job="pruning") == 0
    untouched = uninterrupted("pruning")
    assert_ends_like(tmp_path, untouched)
    actual, expected = (read_artifact(str(f)) for f in (tmp_path, untouched))
    assert actual.variables == expected.variables
    assert {**actual.manifest, "checkpoint": ""} == {
        **expected.manifest,
        "checkpoint": "",
    }
    values = [tf.train.load_checkpoint(each.checkpoint) for each in (actual, expected)]
    for name in expected.variables:
        np.testing.assert_array_equal(*(v.get_tensor(name) for v in values), name)
    # Nothing is left of the writes that were cut short.
    name = os.path.basename(actual.checkpoint)
    assert sorted(os.listdir(os.path.dirname(actual.checkpoint))) == [
        "manifest.json",
        f"{name}.data-00000-of-00001",
        f"{name}.index",
    ]


def test_killed_after_the_last_checkpoint_the_last_trials_artifact_is_there(
    run, uninterrupted, tmp_path
):
    assert run(tmp_path, "artifact:16:data", "pruning") == -signal.SIGKILL
    # There is nothing left to train, so nothing is written any more.
    assert run(tmp_path, job="pruning") == 0
    actual = read_artifact(str(tmp_path))
    assert actual.manifest["step"] == 11
    assert actual.variables == read_artifact(str(uninterrupted("pruning"))).variables


def test_run_killed_from_outside_at_random_moments_ends_with_the_same_bits(
    start, uninterrupted, tmp_path
):
    random = np.random.RandomState(5)
    kills = 0
    while True:
        process = start(tmp_path)
        # The training takes about two seconds.
        try:
            code = process.wait(random.uniform(0.2, 2.5) if kills < 4 else None)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
            continue
        assert code == 0
        break
    assert_ends_like(tmp_path, uninterrupted("sparsity"))


def wait_until_stopped(pid):
    while Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
        time.sleep(0.05)


def test_a_second_training_is_refused_until_the_first_is_killed(start, tmp_path):
    first = start(tmp_path, "hang:4")
    try:
        wait_until_stopped(first.pid)
        second = start(tmp_path).result()
    finally:
        first.kill()
    assert second.returncode == 1
    assert f"is being trained in by process {first.pid} of" in second.stderr
    assert first.wait() == -signal.SIGKILL
    assert start(tmp_path).wait() == 0
