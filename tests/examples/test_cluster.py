"""Clusters of processes, as examples/cluster.py starts them, on the digits."""
import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.contrib import predictor

import ec_estimator as ec
from ec_estimator.shrink.artifact import read_artifact
from examples import digits_model
from tests.drills import embeddings_model
from tests.launcher import ROOT

SPARSIFIER = [
    "--compressor=sparsifier",
    "--sparsifier_step_interval=40",
    "--sparsifier_num_trials=3",
    "--sparsifier_sparse_block_shape=1,4",
]
PRUNER = [
    "--compressor=pruner",
    "--pruner_compression_ratio=0.5",
    "--pruner_step_interval=40",
    "--pruner_num_trials=3",
]
QUANTIZER = [
    "--compressor=quantizer",
    "--quantizer_step_interval=40",
    "--quantizer_num_trials=3",
]
COMPRESSORS = {
    "sparsity": ec.Sparsifier(
        ec.SparsifierConfig(step_interval=40, num_trials=3, sparse_block_shape=(1, 4))
    ),
    "pruning": ec.Pruner(ec.PrunerConfig(0.5, step_interval=40, num_trials=3)),
    "quantization": ec.LSQQuantizer(ec.QuantizerConfig(step_interval=40, num_trials=3)),
}


def train(folder, flags, workers, ps, steps, model=digits_model):
    """Runs a cluster to its end; returns {task: its log}."""
    command = [
        *[sys.executable, "-m", "examples.cluster"],
        *[f"--workers={workers}", f"--ps={ps}", f"--log_dir={folder / 'logs'}"],
        *[f"--model={model.__name__}", f"--model_dir={folder / 'run'}", *flags],
        *[f"--train_steps={steps}", f"--save_checkpoints_steps={steps // 2}"],
        *["--worker_delay_secs=3", "--export=saved_model"],
    ]
    done = subprocess.run(
        command,
        cwd=str(ROOT),
        env={**os.environ, "TF_NUM_INTEROP_THREADS": "2", "TF_CPP_MIN_LOG_LEVEL": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        timeout=300,
    )
    logs = {path.stem: path.read_text() for path in (folder / "logs").iterdir()}
    assert done.returncode == 0, done.stdout + logs["chief-0"][-3000:]
    for task in logs:
        if not task.startswith("ps"):
            assert f"{task} ended with 0" in done.stdout, logs[task][-3000:]
    return logs


def checkpoint(folder):
    reader = tf.train.load_checkpoint(str(folder / "run"))
    return {n: reader.get_tensor(n) for n in reader.get_variable_to_shape_map()}


def assert_trained(folder, logs, name, model=digits_model):
    """The chief alone has run the trials, others have trained, and the export answers
    as the newest checkpoint does."""
    values = checkpoint(folder)
    assert values[f"ec_estimator/{name}/trial"] == 3
    for task, log in logs.items():
        trials = re.findall(rf"{name}: trial (\d)/3 before step", log)
        assert trials == (["1", "2", "3"] if task == "chief-0" else []), task
        if task.startswith("worker"):
            assert re.search(r"loss = \S+, step = \d+", log), log[-3000:]
    features, labels = first_batch(model)
    export = max((folder / "run" / "export" / "saved_model").iterdir())
    predict = predictor.from_saved_model(str(export))
    exported = predict(features)["probabilities"]
    estimator = tf.estimator.Estimator(
        ec.compress(model.model_fn, COMPRESSORS[name]), str(folder / "run")
    )
    predicted = estimator.predict(
        lambda: tf.data.Dataset.from_tensors(features),
        predict_keys=["probabilities"],
    )
    expected = np.stack([row["probabilities"] for row in predicted])
    np.testing.assert_allclose(exported, expected, atol=1e-6)
    if model is digits_model:
        assert np.mean(exported.argmax(1) == labels) > 0.8


def first_batch(model):
    with tf.Graph().as_default(), tf.Session() as session:
        batch = tf.data.make_one_shot_iterator(model.eval_input_fn()).get_next()
        return session.run(batch)


def assert_sparse(values):
    """Each kernel has its ratio, to a block, and nothing alive where it is masked."""
    masks = {}
    for name in sorted(values):
        found = re.fullmatch(r"ec_estimator/sparsity/(.*?)(/part_\d+)?/mask", name)
        if found:
            masks.setdefault(found.group(1), []).append(values[name])
    assert len(masks) >= 3
    for kernel, parts in masks.items():
        # Partitions are of rows.
        gone = np.concatenate(parts) == 0
        assert 0.6 - 4 / gone.size < np.mean(gone) <= 0.6, kernel
        assert not values[kernel][gone].any()
        assert not values[f"{kernel}/Adam"][gone].any()
        assert np.count_nonzero(values[kernel]) == np.count_nonzero(~gone)


def test_a_cluster_reaches_the_exact_target_and_exports_it(tmp_path):
    logs = train(tmp_path, SPARSIFIER, workers=1, ps=1, steps=160)
    assert_trained(tmp_path, logs, "sparsity")
    assert_sparse(checkpoint(tmp_path))
    assert "Saving dict for global step" in logs["evaluator-0"]


@pytest.mark.slow
@pytest.mark.parametrize("model", [digits_model, embeddings_model])
@pytest.mark.parametrize(
    "name,flags",
    [("sparsity", SPARSIFIER), ("pruning", PRUNER), ("quantization", QUANTIZER)],
)
def test_larger_clusters_finish_with_every_compressor(name, flags, model, tmp_path):
    logs = train(tmp_path, flags, workers=2, ps=2, steps=400, model=model)
    assert_trained(tmp_path, logs, name, model)
    values = checkpoint(tmp_path)
    if name == "sparsity":
        assert_sparse(values)
    if name == "pruning":
        gone = np.sum(values["ec_estimator/pruning/alive"] == 0)
        # Half of the digits' 32 + 64 + 128 channels, of the embeddings' 64 + 32 units.
        assert gone == {digits_model: 112, embeddings_model: 48}[model]
        before, after = read_artifact(str(tmp_path / "run")).manifest["params"]
        assert 0 < after < 0.6 * before
        assert ec.finetune(model.model_fn, str(tmp_path / "run"))
    if name == "quantization":
        assert "Evaluation waits: quantization" in logs["evaluator-0"]
        steps = [v for n, v in values.items() if n.endswith("/step")]
        layers = {digits_model: 4, embeddings_model: 3}[model]
        assert len(steps) == 2 * layers and all((step > 0).all() for step in steps)


def test_the_chiefs_exit_code_is_the_clusters(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "examples.cluster", "--workers=0", "--ps=0"]
        + [f"--log_dir={tmp_path}", "--model=examples.no_such_model"],
        cwd=str(ROOT),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
    )
    assert done.returncode == 1
    assert "chief-0 ended with 1" in done.stdout
    assert (
        "no module 'examples.no_such_model'" in (tmp_path / "chief-0.log").read_text()
    )


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_processes(number, tmp_path):
    # The evaluator waits for its first checkpoint without end.
    started = subprocess.Popen(
        [sys.executable, "-m", "examples.cluster", "--workers=0", "--ps=0"]
        + [f"--log_dir={tmp_path}", "--model=examples.digits_model"]
        + [f"--model_dir={tmp_path / 'run'}", *SPARSIFIER, "--train_steps=1000000"],
        cwd=str(ROOT),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        members = []
        while len(members) < 2:
            time.sleep(0.05)
            members = children(started.pid)
        os.kill(started.pid, number)
        assert started.wait(10) == 128 + number
        assert not any(os.path.exists(f"/proc/{pid}") for pid in members)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()
