"""A model_fn whose PREDICT looks up what its layers have computed while training."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models

MODES = tf.estimator.ModeKeys


def model_fn(features, labels, mode):
    table = tf.get_variable("table", [4, models.CLASSES], trainable=False)
    if mode == MODES.PREDICT:
        return tf.estimator.EstimatorSpec(mode, {"y": tf.gather(table, [1])})
    hidden = tf.layers.dense(features["x"], 12, tf.nn.relu, name="hidden")
    logits = tf.layers.dense(hidden, models.CLASSES, name="logits")
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    step = tf.train.get_global_step()
    train_op = tf.train.GradientDescentOptimizer(0.1).minimize(loss, step)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


@pytest.mark.parametrize(
    "compressor",
    [
        ec.Sparsifier(
            ec.SparsifierConfig(
                target_sparse_ratio=0.5,
                sparse_block_shape=(1, 1),
                step_interval=1,
                num_trials=1,
            )
        ),
        ec.LSQQuantizer(ec.QuantizerConfig(step_interval=1, num_trials=1)),
    ],
    ids=["sparsity", "quantization"],
)
def test_it_is_planned_from_its_evaluation(compressor, tmp_path, caplog):
    estimator = tf.estimator.Estimator(
        ec.compress(model_fn, compressor), config=models.run_config(str(tmp_path))
    )
    with caplog.at_level("WARNING"):
        estimator.train(models.dataset((8,)), max_steps=2)
    assert (
        "The model_fn has no infer mode to plan from (it has no convolution or matrix "
        "product); planning from its eval mode." in caplog.text
    )
    if compressor.name == "sparsity":
        assert np.mean(estimator.get_variable_value("hidden/kernel") == 0) == 0.5
    row = next(estimator.predict(models.dataset((8,))))
    np.testing.assert_array_equal(row["y"], estimator.get_variable_value("table")[1])


def test_a_model_without_layers_in_either_mode_says_which_was_looked_at(tmp_path):
    def without_layers(features, labels, mode):
        y = tf.reduce_mean(features["x"], 1)
        return tf.estimator.EstimatorSpec(mode, {"y": y}, tf.reduce_mean(y))

    compressed = ec.compress(without_layers, ec.Sparsifier(ec.SparsifierConfig()))
    config = models.run_config(str(tmp_path))
    with pytest.raises(ec.PlanError, match="the model's 'eval' graph has no convolu"):
        tf.estimator.Estimator(compressed, config=config).train(
            models.dataset((8,)), max_steps=1
        )
