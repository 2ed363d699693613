"""What a run has to be, whatever happened to it."""
import json
import os

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.contrib import predictor

import ec_estimator as ec
from ec_estimator.core.folder import RunFolder
from ec_estimator.shrink.artifact import read_artifact
from tests.drills.scenario import MODELS, STEPS, TRIALS
from tests.drills.task import make_estimator


def check(drill, folder):
    """Asserts that a drill's run is whole."""
    run = os.path.join(folder, "run")
    path = tf.train.latest_checkpoint(run)
    reader = tf.train.load_checkpoint(path)
    values = {n: reader.get_tensor(n) for n in reader.get_variable_to_shape_map()}
    assert values["global_step"] >= STEPS
    assert values[f"ec_estimator/{drill.compressor}/trial"] == TRIALS
    assert all(np.isfinite(v).all() for v in values.values() if v.dtype.kind == "f")
    records = RunFolder(os.path.join(run, "compression")).trials()
    assert sorted(r["trial"] for r in records) == list(range(1, TRIALS + 1))
    with open(os.path.join(run, "compression", "summary.json")) as file:
        summary = json.load(file)
    assert summary[drill.compressor]["trial"] == TRIALS
    assert not summary["next"].startswith("train to step"), summary["next"]
    _CHECKS[drill.compressor](drill, run, values)
    check_export(drill, folder)
    left = [n for n in os.listdir(os.path.join(run, "compression")) if len(n) > 40]
    # What was being written when its writer was killed.
    assert len(left) <= (drill.fault == "kill"), left


def check_sparsity(drill, run, values):
    masks = [n for n in values if n.endswith("/mask")]
    gone, weights = {}, {}
    for name in masks:
        kernel = name[len("ec_estimator/sparsity/") : -len("/mask")]
        removed = values[name] == 0
        whole = kernel.split("/part_")[0]
        gone[whole] = gone.get(whole, 0) + removed.sum()
        weights[whole] = weights.get(whole, 0) + removed.size
        if kernel in values:
            assert not values[kernel][removed].any(), kernel
            assert not values[f"{kernel}/Adam"][removed].any(), kernel
    assert len(gone) >= 3, sorted(gone)
    for kernel, count in gone.items():
        # Exact to a block.
        assert 0 <= 0.6 * weights[kernel] - count < 4, kernel
        if kernel in values:
            assert np.sum(values[kernel] == 0) == count, kernel


def check_pruning(drill, run, values):
    alive = values["ec_estimator/pruning/alive"] > 0
    artifact = read_artifact(run)
    assert artifact.manifest["trials"] == TRIALS
    small, large = artifact.manifest["params"][::-1]
    assert small < large
    with open(os.path.join(run, "compression", "summary.json")) as file:
        totals = json.load(file)["pruning"]["totals"]
    assert not alive.all(), totals
    records = RunFolder(os.path.join(run, "compression")).trials()
    assert abs(records[-1]["ratio"] - 0.5) < 0.02, records[-1]
    # It loads, and the small network computes.
    model = MODELS[drill.model]
    estimator = tf.estimator.Estimator(ec.finetune(model.model_fn, run))
    rows = estimator.predict(lambda: model.eval_input_fn().take(1))
    assert np.isfinite(next(rows)["probabilities"]).all()


def check_quantization(drill, run, values):
    steps = [v for n, v in values.items() if n.endswith("/step")]
    assert steps and all((step > 0).all() for step in steps)


_CHECKS = {
    "sparsity": check_sparsity,
    "pruning": check_pruning,
    "quantization": check_quantization,
}


def check_export(drill, folder):
    """The newest export is of a checkpoint that training ended with, and answers as it
    does. Others may take steps while the chief writes: the newest checkpoint may be
    one that the evaluator did not wait for."""
    run = os.path.join(folder, "run")
    exports = os.path.join(run, "export", "saved_model")
    newest = os.path.join(exports, max(n for n in os.listdir(exports) if n.isdigit()))
    steps = {
        tf.train.load_variable(path, "global_step"): path
        for path in tf.train.get_checkpoint_state(run).all_model_checkpoint_paths
    }
    exported_step = tf.train.load_variable(
        os.path.join(newest, "variables", "variables"), "global_step"
    )
    assert exported_step >= STEPS
    model = MODELS[drill.model]

    def first_batch():
        return model.eval_input_fn().take(1)

    with tf.Graph().as_default(), tf.Session() as session:
        features = session.run(
            tf.data.make_one_shot_iterator(first_batch()).get_next()[0]
        )
    exported = predictor.from_saved_model(newest)(features)["probabilities"]
    expected = make_estimator(drill, folder).predict(
        first_batch, ["probabilities"], checkpoint_path=steps[exported_step]
    )
    expected = np.stack([row["probabilities"] for row in expected])
    np.testing.assert_allclose(exported, expected, atol=1e-5)
