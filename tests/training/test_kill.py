"""A run that is killed and started again ends as one that never was."""
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

STEPS = 16
SCRIPT = os.path.join(os.path.dirname(__file__), "killed_run.py")


def run(folder, kill="", sort_range="local"):
    """One process of training; returns its exit code."""
    return start(folder, kill, sort_range).wait()


def start(folder, kill, sort_range):
    root = os.path.dirname(os.path.dirname(os.path.dirname(SCRIPT)))
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, SCRIPT, str(folder), kill, sort_range],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def final_state(folder):
    path = os.path.join(str(folder), f"model.ckpt-{STEPS}")
    reader = tf.train.load_checkpoint(path)
    return {n: reader.get_tensor(n) for n in reader.get_variable_to_shape_map()}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """sort_range -> state at the end of a run that was left alone."""
    states = {}

    def state_of(sort_range):
        if sort_range not in states:
            folder = tmp_path_factory.mktemp(sort_range)
            assert run(folder, sort_range=sort_range) == 0
            states[sort_range] = final_state(folder)
            assert states[sort_range]["ec_estimator/sparsity/trial"] == 4
        return states[sort_range]

    return state_of


def assert_ends_like(folder, expected):
    actual = final_state(folder)
    assert set(actual) == set(expected)
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name], name)
    with open(str(folder / "compression" / "trials.jsonl")) as file:
        assert [json.loads(line)["trial"] for line in file] == [1, 2, 3, 4]


# Where the process kills itself. Trials come before steps 3, 6, 9 and 12, checkpoints
# after every second step.
@pytest.mark.parametrize(
    "sort_range, kills",
    [
        ("local", ["step:1"]),
        ("local", ["step:5"]),
        ("local", ["trial:1:before"]),
        ("global", ["trial:2:selected"]),
        ("local", ["trial:3:applied"]),
        ("local", ["trial:4:recorded"]),
        ("local", ["save:6"]),
        ("global", ["trial:1:applied", "save:8", "trial:3:selected", "step:13"]),
    ],
)
def test_killed_and_restarted_run_ends_with_the_same_bits(
    sort_range, kills, uninterrupted, tmp_path
):
    for kill in kills:
        assert run(tmp_path, kill, sort_range) == -signal.SIGKILL
    assert run(tmp_path, sort_range=sort_range) == 0
    assert_ends_like(tmp_path, uninterrupted(sort_range))


def test_run_killed_from_outside_at_random_moments_ends_with_the_same_bits(
    uninterrupted, tmp_path
):
    random = np.random.RandomState(5)
    kills = 0
    while True:
        process = start(tmp_path, "", "local")
        # Importing TensorFlow takes about two seconds, the training less than two.
        try:
            code = process.wait(random.uniform(1.5, 5.0) if kills < 4 else None)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
            continue
        assert code == 0
        break
    assert_ends_like(tmp_path, uninterrupted("local"))
