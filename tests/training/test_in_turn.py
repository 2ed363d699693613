"""Networks that are built and minimized in turn, and who touches TensorFlow."""
from unittest import mock

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.ops import gradients_util

import ec_estimator as ec
from ec_estimator.pruning import gates
from tests import models


def adversaries(features, labels, mode):
    """A generator is minimized before the discriminator that serves is built."""
    noise = features["noise"]

    def discriminate(x, reuse=tf.AUTO_REUSE):
        with tf.variable_scope("discriminator", reuse=reuse):
            h = tf.layers.dense(x, 16, tf.nn.relu, name="hidden")
            return tf.layers.dense(h, 1, name="out")

    with tf.variable_scope("generator"):
        h = tf.layers.dense(noise, 16, tf.nn.relu, name="hidden")
        made = tf.layers.dense(h, 8, name="out")
    optimizer = tf.train.GradientDescentOptimizer(0.05)
    if mode != tf.estimator.ModeKeys.TRAIN:
        return tf.estimator.EstimatorSpec(
            mode,
            predictions={"made": made, "judged": discriminate(made)},
            loss=tf.reduce_mean(made**2),
        )
    likeness = tf.reduce_mean((made - labels) ** 2)
    first = optimizer.minimize(likeness, var_list=tf.trainable_variables("generator"))
    with tf.control_dependencies([first]):
        judged = tf.concat([discriminate(made), discriminate(labels)], 0)
        targets = tf.concat([tf.zeros([4, 1]), tf.ones([4, 1])], 0)
        loss = tf.losses.sigmoid_cross_entropy(targets, judged)
        second = optimizer.minimize(
            loss,
            tf.train.get_global_step(),
            var_list=tf.trainable_variables("discriminator"),
        )
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=second)


def batches():
    random = np.random.RandomState(0)
    noise = random.standard_normal((4, 6)).astype(np.float32)
    real = random.standard_normal((4, 8)).astype(np.float32)
    return tf.data.Dataset.from_tensors(({"noise": noise}, real)).repeat()


def train(folder, *compressors, steps=12):
    estimator = tf.estimator.Estimator(
        ec.compress(adversaries, list(compressors)),
        folder,
        tf.estimator.RunConfig(tf_random_seed=1, session_config=models.ONE_THREAD),
    )
    estimator.train(batches, max_steps=steps)
    return estimator


KERNELS = [
    f"{n}/{k}/kernel" for n in ("generator", "discriminator") for k in ("hidden", "out")
]


def test_the_sparsifier_masks_networks_that_do_not_exist_at_the_first_gradient(
    tmp_path,
):
    config = ec.SparsifierConfig(target_sparse_ratio=0.5, step_interval=2, num_trials=3)
    estimator = train(str(tmp_path), ec.Sparsifier(config))
    for name in KERNELS:
        kernel = estimator.get_variable_value(name)
        assert np.mean(kernel == 0) == 0.5, name


def test_the_pruner_sees_the_gradients_of_both(tmp_path):
    config = ec.PrunerConfig(compression_ratio=0.5, step_interval=2, num_trials=3)
    estimator = train(str(tmp_path), ec.Pruner(config))
    alive = estimator.get_variable_value("ec_estimator/pruning/alive")
    importance = estimator.get_variable_value("ec_estimator/pruning/importance")
    assert np.count_nonzero(importance) >= 16
    for network in ("generator", "discriminator"):
        reader = estimator.get_variable_value(f"{network}/out/kernel")
        assert 0 < np.count_nonzero(np.all(reader == 0, 1)) < 16
    assert np.count_nonzero(alive == 0) == 16


def test_a_planned_kernel_that_training_never_builds_is_an_error(tmp_path):
    def model_fn(features, labels, mode):
        name = "served" if mode != tf.estimator.ModeKeys.TRAIN else "trained"
        y = tf.layers.dense(features["noise"], 8, name=name)
        loss = tf.reduce_mean(y**2)
        step = tf.train.get_global_step()
        train_op = tf.train.GradientDescentOptimizer(0.1).minimize(loss, step)
        return tf.estimator.EstimatorSpec(mode, {"y": y}, loss, train_op)

    estimator = tf.estimator.Estimator(
        ec.compress(model_fn, ec.Sparsifier(ec.SparsifierConfig())), str(tmp_path)
    )
    with pytest.raises(ec.PlanError, match="'served/kernel' of the infer graph is not"):
        estimator.train(batches, max_steps=1)


@pytest.mark.parametrize(
    "compressor,is_touched",
    [
        (ec.Sparsifier(ec.SparsifierConfig(step_interval=1, num_trials=1)), False),
        (ec.Pruner(ec.PrunerConfig(compression_ratio=0.5)), True),
    ],
    ids=["sparsifier", "pruner"],
)
def test_the_sparsifier_alone_leaves_the_private_function_of_gradients_alone(
    compressor, is_touched, tmp_path
):
    own, seen = gradients_util._GradientsHelper, []

    def model_fn(features, labels, mode):
        if mode == tf.estimator.ModeKeys.TRAIN:
            seen.append(gradients_util._GradientsHelper)
        return adversaries(features, labels, mode)

    estimator = tf.estimator.Estimator(ec.compress(model_fn, compressor), str(tmp_path))
    estimator.train(batches, max_steps=1)
    assert [function is not own for function in seen] == [is_touched]
    assert gradients_util._GradientsHelper is own


def test_the_graph_is_relabelled_for_news_and_not_for_every_call(tmp_path):
    """Once before the first gradients, and once when the graph is complete."""

    def model_fn(features, labels, mode):
        h = tf.layers.dense(features["noise"], 12, tf.nn.relu, name="a")
        y = tf.layers.dense(h, 8, name="b")
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.EstimatorSpec(mode, {"y": y})
        loss = tf.reduce_mean((y - labels) ** 2)
        step = tf.train.get_or_create_global_step()
        train_ops = [step.assign_add(1)]
        for variable in tf.trainable_variables():
            optimizer = tf.train.GradientDescentOptimizer(0.1)
            train_ops.append(optimizer.minimize(loss, var_list=[variable]))
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=tf.group(train_ops))

    compressor = ec.Pruner(ec.PrunerConfig(compression_ratio=0.5))
    estimator = tf.estimator.Estimator(ec.compress(model_fn, compressor), str(tmp_path))
    relabel = gates.planned_channels
    with mock.patch.object(gates, "planned_channels", side_effect=relabel) as looks:
        estimator.train(batches, max_steps=1)
    assert looks.call_count == 2
