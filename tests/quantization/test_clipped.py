"""Gradients that are clipped by their global norm train a quantized model as far as a
float one: no gradient of a step size is in the norm."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from examples import digits_model
from tests import models

MODES = tf.estimator.ModeKeys
AVERAGED = 20


def clipped(norm):
    """The digits' model, its gradients clipped by their global norm."""

    def model_fn(features, labels, mode):
        logits = digits_model.network(features["image"], mode == MODES.TRAIN)
        if mode == MODES.PREDICT:
            return tf.estimator.EstimatorSpec(mode, {"logits": logits})
        loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
        optimizer = tf.train.MomentumOptimizer(0.02, 0.9)
        gradients, variables = zip(*optimizer.compute_gradients(loss))
        gradients, _ = tf.clip_by_global_norm(gradients, norm)
        with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
            train_op = optimizer.apply_gradients(
                zip(gradients, variables), tf.train.get_global_step()
            )
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    return model_fn


def quantized(steps):
    """clipped(1.0) at 8 bits, fitted at the start and after a third of the steps."""
    config = ec.QuantizerConfig(signed="auto", step_interval=steps // 3, num_trials=2)
    return ec.compress(clipped(1.0), ec.LSQQuantizer(config))


def digits(wrong):
    """An input_fn; a share of the labels is wrong, so that the loss stays well above 0
    and the norm of its gradients above the clip."""

    def input_fn():
        (images, labels), _ = digits_model.load_data()
        random = np.random.RandomState(0)
        others = random.randint(0, 10, len(labels)).astype(np.int32)
        labels = np.where(random.uniform(size=len(labels)) < wrong, others, labels)
        data = tf.data.Dataset.from_tensor_slices(({"image": images}, labels))
        return data.shuffle(len(labels), seed=1).repeat().batch(64)

    return input_fn


class Losses(tf.train.SessionRunHook):
    """The loss of every step."""

    def __init__(self):
        self.values = []

    def begin(self):
        # The Estimator adds it once more.
        self._loss, _ = tf.losses.get_losses()

    def before_run(self, context):
        return tf.train.SessionRunArgs(self._loss)

    def after_run(self, context, values):
        self.values.append(values.results)


def losses(model_fn, folder, steps, input_fn, start=None):
    hook = Losses()
    config = models.run_config(str(folder), save_checkpoints_steps=10**6)
    estimator = tf.estimator.Estimator(
        model_fn, config=config, warm_start_from=start and ec.warm_start(start)
    )
    estimator.train(input_fn, [hook], max_steps=steps)
    return hook.values


def last(values):
    return np.mean(values[-AVERAGED:])


def test_a_quantized_model_trains_as_far_as_a_float_one(tmp_path):
    """Clipped at a seventh, as it would be with the step sizes in the norm, the float
    model itself does not come so far: the test would see it."""
    steps, input_fn = 60, digits(wrong=0.3)
    plain = losses(clipped(1.0), tmp_path / "float", steps, input_fn)
    other = losses(quantized(steps), tmp_path / "quantized", steps, input_fn)
    np.testing.assert_allclose(other[0], plain[0], rtol=0.02)
    np.testing.assert_allclose(last(other), last(plain), rtol=0.02)
    seventh = losses(clipped(1 / 7), tmp_path / "seventh", steps, input_fn)
    assert last(seventh) > 1.1 * last(plain)


@pytest.mark.slow
def test_a_trained_model_is_quantized_at_no_loss(tmp_path):
    """300 steps float, then 300 more, float and quantized."""
    steps, input_fn, dense = 300, digits(wrong=0), str(tmp_path / "dense")
    losses(clipped(1.0), dense, steps, input_fn)
    plain = losses(clipped(1.0), tmp_path / "float", steps, input_fn, dense)
    other = losses(quantized(steps), tmp_path / "quantized", steps, input_fn, dense)
    np.testing.assert_allclose(last(other), last(plain), rtol=0.02)
