"""Importance is of the user's loss, whatever it is scaled with, and whenever a step is
skipped."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.contrib import mixed_precision

import ec_estimator as ec
from tests import models
from tests.pruning.runs import pruner


def contrib_scale(optimizer, scale):
    """The scale doubles after every good step and is halved by a bad one."""
    return mixed_precision.LossScaleOptimizer(
        optimizer,
        mixed_precision.ExponentialUpdateLossScaleManager(
            scale, 1, decr_every_n_nan_or_inf=1, decr_ratio=0.5
        ),
    )


def rewritten(optimizer, scale):
    return tf.train.experimental.enable_mixed_precision_graph_rewrite(
        optimizer,
        tf.train.experimental.DynamicLossScale(scale, increment_period=1),
    )


SCALED = {"contrib": contrib_scale, "rewrite": rewritten}


def model_of(optimizer, size):
    def model_fn(features, labels, mode):
        h = tf.layers.dense(features["x"] * size, 8, tf.nn.relu, name="a")
        logits = tf.layers.dense(h, models.CLASSES, name="b")
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.EstimatorSpec(mode, predictions=logits)
        loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
        train_op = optimizer().minimize(loss, tf.train.get_global_step())
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    return model_fn


class Watch(tf.train.SessionRunHook):
    """(global step, importance, loss scale or None) after each run."""

    def __init__(self):
        self.seen = []

    def begin(self):
        found = {v.op.name: v for v in tf.global_variables()}
        scale = [v for name, v in found.items() if name.endswith("loss_scale")]
        self._importance = found["ec_estimator/pruning/importance"]
        self._values = [tf.train.get_global_step(), self._importance, *scale]

    def after_run(self, run_context, run_values):
        self.seen.append(run_context.session.run(self._values))


def watched(folder, optimizer, steps=4, size=1.0):
    """Trains without a trial."""
    watch = Watch()
    config = models.run_config(str(folder))
    estimator = tf.estimator.Estimator(
        ec.compress(model_of(optimizer, size), pruner(start_step=50)), config=config
    )
    estimator.train(models.dataset((6,)), [watch], max_steps=steps)
    return watch.seen


def plain():
    return tf.train.GradientDescentOptimizer(0.0)


@pytest.fixture(scope="module")
def unscaled(tmp_path_factory):
    return [i for _, i in watched(tmp_path_factory.mktemp("plain"), plain)]


@pytest.fixture(autouse=True)
def options_of_the_process():
    """TensorFlow holds the rewrite as an option for later sessions."""
    yield
    tf.train.experimental.disable_mixed_precision_graph_rewrite()


@pytest.mark.parametrize("way", SCALED)
def test_a_changing_loss_scale_does_not_weigh_importance(way, unscaled, tmp_path):
    seen = watched(tmp_path, lambda: SCALED[way](plain(), 1024.0))
    assert [scale for _, _, scale in seen] == [2048, 4096, 8192, 16384]
    np.testing.assert_allclose([i for _, i, _ in seen], unscaled, rtol=1e-4)


@pytest.mark.parametrize("way", SCALED)
def test_a_step_that_overflows_leaves_importance_alone(way, tmp_path):
    # Gradients of 8 and more are infinite.
    seen = watched(tmp_path, lambda: SCALED[way](plain(), 2.0**125), 2, size=1000.0)
    skipped = [i for step, i, _ in seen if step == 0]
    assert skipped
    np.testing.assert_array_equal(skipped, 0)
    assert np.all(np.isfinite([i for _, i, _ in seen]))
    assert np.any(seen[-1][1] > 0)
