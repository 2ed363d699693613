"""compressor=: an Estimator that was made without us leaves what was trained."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models


def network(x, training):
    h = tf.layers.dense(tf.layers.flatten(x), 16, tf.nn.relu, name="hidden")
    return tf.layers.dense(h, models.CLASSES, name="out")


SHAPE = (4, 4, 3)
MODEL_FN, INPUT_FN = models.classifier(network, SHAPE)


def estimator_in(folder, kind=tf.estimator.Estimator):
    return kind(MODEL_FN, config=models.run_config(str(folder)))


def train(estimator, steps=6, **config):
    values = {"step_interval": 2, "num_trials": 2, "signed": "auto", **config}
    return ec.train_and_evaluate(
        estimator,
        tf.estimator.TrainSpec(INPUT_FN, steps),
        tf.estimator.EvalSpec(INPUT_FN, 1, start_delay_secs=0, throttle_secs=0),
        compressor=ec.LSQQuantizer(ec.QuantizerConfig(**values)),
    )


def fake_quants(estimator, folder):
    def receiver():
        x = tf.placeholder(tf.float32, (None,) + SHAPE)
        return tf.estimator.export.ServingInputReceiver({"x": x}, {"x": x})

    path = estimator.export_saved_model(str(folder), receiver).decode()
    with tf.Graph().as_default() as graph, tf.Session() as session:
        tf.saved_model.load(session, ["serve"], path)
        return sum(op.type.startswith("FakeQuant") for op in graph.get_operations())


def test_the_users_own_object_evaluates_and_exports_what_was_trained(tmp_path):
    estimator = estimator_in(tmp_path / "model")
    results, _ = train(estimator)
    assert estimator.evaluate(INPUT_FN, 1)["loss"] == results["loss"]
    assert fake_quants(estimator, tmp_path / "export") == 4
    other = ec.compressed(
        estimator_in(tmp_path / "model"),
        ec.LSQQuantizer(
            ec.QuantizerConfig(step_interval=2, num_trials=2, signed="auto")
        ),
    )
    assert fake_quants(other, tmp_path / "other") == 4


def test_a_second_call_goes_on_and_another_setting_is_refused(tmp_path):
    estimator = estimator_in(tmp_path)
    train(estimator)
    results, _ = train(estimator, steps=8)
    assert results["global_step"] == 8
    with pytest.raises(ec.PlanError, match="is compressed already"):
        train(estimator, steps=9, bits=4)


def test_what_is_refused_before_training_leaves_the_estimator_as_it_was(tmp_path):
    estimator = estimator_in(tmp_path)
    with pytest.raises(ec.ConfigError, match="max_steps=1 is too small"):
        train(estimator, steps=1)
    estimator.train(INPUT_FN, max_steps=1)
    names = estimator.get_variable_names()
    assert not any(name.startswith("ec_estimator/") for name in names)


class MakesAnother(tf.estimator.Estimator):
    """As AdaNet's does: `train` trains an Estimator of its own."""

    @staticmethod
    def _assert_members_are_not_overridden(self):
        pass

    def train(self, *args, **kwargs):
        tf.estimator.Estimator(MODEL_FN, self.model_dir).train(*args, **kwargs)
        return self


def test_an_estimator_that_trains_another_model_fn_is_an_error(tmp_path):
    message = "MakesAnother.train trains another model_fn than the one that was"
    with pytest.raises(ec.PlanError, match=message):
        train(estimator_in(tmp_path, MakesAnother))
    assert tf.train.latest_checkpoint(str(tmp_path)) is None
    assert np.isfinite(
        estimator_in(tmp_path).train(INPUT_FN, steps=1).evaluate(INPUT_FN, 1)["loss"]
    )
