"""MultiWorkerMirroredStrategy: workers that have a whole model each. One is killed, and
all are started again. Whatever masks, step sizes and weights one has, the other has to
the bit."""
import functools
import glob
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.contrib import predictor

from ec_estimator.core.folder import RunFolder
from ec_estimator.core.tf_private import model_fn_of
from ec_estimator.shrink.artifact import read_artifact
from tests.launcher import ROOT
from tests.ranks import COMPRESSORS, STEPS, Record, files, records
from tests.replicas import REPLICAS, mirrored, run_config
from tests.training.workers_run import KILLED_BEFORE, estimator, input_fn

SAVED = 3


@pytest.fixture(
    scope="module",
    params=[
        # Both compressors that have state of each worker's own batches.
        pytest.param("both", marks=pytest.mark.xdist_group("workers")),
        *(pytest.param(n, marks=pytest.mark.slow) for n in COMPRESSORS if n != "both"),
    ],
)
def run(request, tmp_path_factory):
    """(folder, name) of a run of these compressors."""
    folder, name = str(tmp_path_factory.mktemp("workers")), request.param
    start(folder, name, "kill")
    return folder, name


def start(folder, name, fault):
    # In a process that has no threads yet, which forks.
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.workers_run", folder, name, fault],
        cwd=str(ROOT),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:] + logs(folder)


def logs(folder):
    return "\n".join(
        f"{file}:\n{open(file).read()[-3000:]}"
        for file in glob.glob(f"{folder}/logs/*")
    )


@pytest.mark.parametrize("part", ["first", "second"])
def test_every_worker_has_the_same_masks_step_sizes_and_weights(run, part):
    folder, name = run
    ours, theirs = (records(folder, rank, f"{name}-{part}") for rank in range(2))
    steps = [int(values["global_step"]) for values in ours]
    begin, end = (0, KILLED_BEFORE) if part == "first" else (SAVED, STEPS)
    assert steps == list(range(begin, end + 1))
    # One that was not killed may have got further.
    for mine, other in zip(ours, theirs):
        assert mine.keys() == other.keys()
        different = [n for n in mine if mine[n].tobytes() != other[n].tobytes()]
        assert different == [], mine["global_step"]


def test_every_trial_is_done_once_and_the_chief_tells_of_it(run):
    folder, name = run
    trials = RunFolder(os.path.join(folder, name, "compression")).trials()
    for compressor in COMPRESSORS[name]:
        done = [t["trial"] for t in trials if t["compressor"] == compressor.name]
        assert done == [1, 2, 3]
        final = records(folder, 1, f"{name}-second")[-1]
        assert final[f"ec_estimator/{compressor.name}/trial"] == 3
    said = {
        task: open(f"{folder}/logs/{task}.log").read() for task in ("chief", "worker")
    }
    assert "trial 3/3 before step 6" in said["chief"]
    assert "resumed after trial 1/3 at step 3" in said["chief"]
    assert "trial 3/3" not in said["worker"]
    # TensorFlow exchanges many gradients as one, unless an op stands in its way.
    assert "scoped_allocator_optimizer failed" not in said["worker"]


def test_what_is_exported_answers_as_the_checkpoint(run):
    folder, name = run
    saved = max(glob.glob(f"{folder}/{name}/export/saved_model/*"))
    features, _ = next_batch()
    answer = predictor.from_saved_model(saved)(features)
    expected = estimator(os.path.join(folder, name), name).predict(
        lambda: tf.data.Dataset.from_tensors(features)
    )
    for ours, theirs in zip(answer["probabilities"], expected):
        np.testing.assert_allclose(ours, theirs["probabilities"], atol=1e-6)


def next_batch():
    with tf.Graph().as_default(), tf.Session() as session:
        return session.run(tf.data.make_one_shot_iterator(input_fn(9)()).get_next())


def test_pruned_has_the_moving_averages_over_all_workers(run):
    folder, name = run
    if all(compressor.name != "pruning" for compressor in COMPRESSORS[name]):
        assert not glob.glob(f"{folder}/{name}/compression/pruned")
        return
    artifact = read_artifact(os.path.join(folder, name))
    small = tf.train.load_checkpoint(artifact.checkpoint)
    whole = tf.train.load_checkpoint(os.path.join(folder, name))
    moving = [n for n in artifact.variables if "moving_" in n]
    assert moving
    for each in moving:
        value = whole.get_tensor(each)
        for axis, kept in enumerate(artifact.variables[each].kept):
            value = value if kept is None else np.take(value, kept, axis)
        np.testing.assert_allclose(small.get_tensor(each), value, rtol=1e-6)


@pytest.mark.slow
def test_workers_with_weights_of_their_own_are_refused(tmp_path):
    start(str(tmp_path), "sparsity", "apart")
    for task in ("chief", "worker"):
        said = (tmp_path / "logs" / f"{task}.log").read_text()
        assert (
            "CompressionError: before the first step: 'conv/kernel' is not the same on "
            "all workers of the strategy (1 of " in said
        )
        assert "see that all have the same model_dir" in said


@pytest.mark.slow
@pytest.mark.parametrize("run", [n for n in COMPRESSORS if n != "both"], indirect=True)
def test_two_workers_train_as_two_replicas(run, tmp_path):
    folder, name = run

    def batches():
        each = [input_fn(rank)() for rank in range(REPLICAS)]
        # The first for the first replica, the second for the second one.
        return tf.data.Dataset.zip(tuple(each)).flat_map(
            lambda *pair: functools.reduce(
                tf.data.Dataset.concatenate, map(tf.data.Dataset.from_tensors, pair)
            )
        )

    together = estimator(str(tmp_path / "run"), name)
    config = run_config(tmp_path / "run", mirrored())
    config = config.replace(tf_random_seed=together.config.tf_random_seed)
    record = Record(files(str(tmp_path), 0, name))
    tf.estimator.Estimator(model_fn_of(together), config=config).train(
        batches, [record], max_steps=KILLED_BEFORE
    )
    workers, replicas = records(folder, 0, f"{name}-first"), records(tmp_path, 0, name)
    # In between, one records before its trial and the other one after it.
    for step in (2, 4):
        for each, value in replicas[step].items():
            np.testing.assert_allclose(
                workers[step][each], value, rtol=1e-4, atol=1e-7, err_msg=each
            )
