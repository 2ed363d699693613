"""The exporters, wherever the run is and whoever wraps the Estimator."""
import os

import numpy as np
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models


def sparsifier(**kwargs):
    return ec.Sparsifier(
        ec.SparsifierConfig(**{"step_interval": 2, "num_trials": 3, **kwargs})
    )


def compressed(model_dir, **config):
    """An Estimator whose model is finished at step 6."""
    model_fn, _ = models.classifier(models._raw_network, (8, 8, 3))
    return tf.estimator.Estimator(
        ec.compress(model_fn, sparsifier()),
        config=models.run_config(str(model_dir), **config),
    )


input_fn = models.dataset((8, 8, 3))


def receiver():
    x = tf.placeholder(tf.float32, [None, 8, 8, 3])
    return tf.estimator.export.ServingInputReceiver({"x": x}, {"x": x})


def specs(steps, *exporters):
    return (
        tf.estimator.TrainSpec(input_fn, steps),
        tf.estimator.EvalSpec(
            input_fn, 2, exporters=exporters, start_delay_secs=0, throttle_secs=0
        ),
    )


def zeros(prefix):
    return np.mean(tf.train.load_checkpoint(str(prefix)).get_tensor("w2") == 0)


def test_a_remote_model_dir_holds_everything_a_run_leaves(tmp_path, monkeypatch):
    # To Python's own file functions file:// is as strange as gs://.
    monkeypatch.chdir(tmp_path)
    trained = compressed(f"file://{tmp_path}/run", save_checkpoints_steps=3)
    _, exports = ec.train_and_evaluate(
        trained,
        *specs(
            6,
            ec.BestExporter(receiver, exports_to_keep=1),
            ec.CleanCheckpointExporter(),
        ),
    )
    assert os.listdir(str(tmp_path)) == ["run"]
    assert (tmp_path / "run" / "compression" / "trials.jsonl").exists()
    assert (tmp_path / "run" / "export" / "best" / "best.json").exists()
    clean = tmp_path / "run" / "export" / "clean_checkpoint"
    assert tf.train.latest_checkpoint(str(clean)) == str(clean / "model.ckpt-6")
    assert 0.55 < zeros(clean) <= 0.6
