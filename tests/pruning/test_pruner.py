"""Pruning from training to the small network."""
import json
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.shrink.artifact import read_artifact
from tests import models
from tests.pruning.runs import pruner, run
from tests.shrink.networks import residual, transformer, vgg
from tests.training.test_zoo import checkpoint


def test_small_network_trains_and_exports_with_a_stock_estimator(tmp_path):
    _, model_fn, input_fn = run(tmp_path / "prune", residual, pruner())
    small = tf.estimator.Estimator(
        ec.finetune(model_fn, str(tmp_path / "prune")),
        config=models.run_config(str(tmp_path / "small")),
    )
    tf.estimator.train_and_evaluate(
        small,
        tf.estimator.TrainSpec(input_fn, 6),
        tf.estimator.EvalSpec(input_fn, 2, start_delay_secs=0, throttle_secs=0),
    )

    def receiver():
        x = tf.placeholder(tf.float32, [None, 8, 8, 3])
        return tf.estimator.export.ServingInputReceiver({"x": x}, {"x": x})

    path = small.export_saved_model(str(tmp_path / "export"), receiver).decode()
    kernel = tf.train.load_checkpoint(path + "/variables/variables")
    shapes = kernel.get_variable_to_shape_map()
    full = checkpoint(str(tmp_path / "prune"))
    assert np.prod(shapes["conv2d_1/kernel"]) < full["conv2d_1/kernel"].size
    assert not [name for name in shapes if "ec_estimator" in name]


def test_ratio_0_is_bit_identical_to_no_pruning(tmp_path):
    run(tmp_path / "pruned", residual, pruner(compression_ratio=0.0))
    model_fn, input_fn = models.classifier(residual, (8, 8, 3))
    tf.estimator.Estimator(
        model_fn, config=models.run_config(str(tmp_path / "plain"))
    ).train(input_fn, max_steps=5)
    pruned = checkpoint(str(tmp_path / "pruned"))
    for name, value in checkpoint(str(tmp_path / "plain")).items():
        np.testing.assert_array_equal(pruned[name], value, name)


def test_channels_that_matter_to_nobody_go_first(tmp_path):
    def network(x, training):
        kernel = np.random.RandomState(0).standard_normal((3, 3, 3, 8)) * 0.3
        kernel[..., [1, 4, 6]] = 0
        h = tf.layers.conv2d(
            x, 8, 3, kernel_initializer=tf.constant_initializer(kernel), use_bias=False
        )
        return tf.layers.dense(tf.reduce_mean(tf.nn.relu(h), [1, 2]), models.CLASSES)

    run(tmp_path, network, pruner(compression_ratio=3 / 8))
    kept = read_artifact(str(tmp_path)).variables["conv2d/kernel"].kept[3]
    assert kept == (0, 2, 3, 5, 7)


# tests/training/test_kill.py has a smaller model that is pruned, killed and restarted.
@pytest.mark.slow
def test_a_restart_ends_with_the_same_channels_and_weights(tmp_path):
    config = dict(num_trials=4)

    def train_to(folder, stop):
        model_fn, input_fn = models.classifier(residual, (8, 8, 3))
        path = tf.train.latest_checkpoint(folder)
        done = int(path.rsplit("-", 1)[1]) if path else 0
        tf.estimator.Estimator(
            ec.compress(model_fn, pruner(**config)), config=models.run_config(folder)
        ).train(lambda: input_fn().skip(done), max_steps=stop)

    def train(folder, stops):
        for stop in stops:
            train_to(folder, stop)
        return checkpoint(folder)

    whole = train(str(tmp_path / "whole"), [10])
    parts = train(str(tmp_path / "parts"), [1, 3, 4, 7, 10])
    assert set(whole) == set(parts)
    for name in whole:
        np.testing.assert_array_equal(parts[name], whole[name], name)


def test_nothing_pruned_is_said_at_the_trial(tmp_path, caplog):
    with caplog.at_level("WARNING"):
        run(tmp_path, vgg, pruner(compression_ratio=0.01))
    assert "pruning: trial 1 removed nothing" in caplog.text


def test_layers_that_keep_their_last_channel_are_named_at_the_trial(tmp_path, caplog):
    def network(x, training):
        h = tf.layers.conv2d(x, 8, 3, padding="same", name="stem")
        y = tf.layers.conv2d(tf.nn.relu(h), 8, 3, padding="same", name="branch")
        h = tf.layers.conv2d(tf.nn.relu(h + y), 6, 3, name="last")
        return tf.layers.dense(tf.reduce_mean(h, [1, 2]), models.CLASSES)

    with caplog.at_level("INFO"):
        run(tmp_path, network, pruner(compression_ratio=1.0, channel_align=4))
    notes = "pruning: stem/kernel and branch/kernel keep their last 4 channels"
    assert notes in caplog.text
    assert "pruning: last/kernel keeps its last 4 channels" in caplog.text


@pytest.mark.parametrize("metric", ["macs", "params"])
def test_layers_of_unknown_size_are_warned_about_where_it_counts(
    metric, tmp_path, caplog
):
    def network(x, training):
        x = tf.placeholder_with_default(x, [None, None, None, 3])
        h = tf.layers.conv2d(x, 8, 3, name="open", activation=tf.nn.relu)
        return tf.layers.dense(tf.reduce_mean(h, [1, 2]), models.CLASSES, name="known")

    with caplog.at_level("WARNING"):
        run(tmp_path, network, pruner(ratio_metric=metric))
    warned = "the spatial sizes of open/Conv2D are not known" in caplog.text
    assert warned == (metric == "macs")
    assert "known/MatMul" not in caplog.text


def test_coverage_says_what_froze_a_layer(tmp_path):
    def network(x, training):
        h = tf.layers.dense(tf.layers.flatten(x), 8, tf.nn.relu, name="free")
        h = tf.layers.dense(h, 6, name="frozen")
        return tf.layers.dense(tf.nn.softmax(h), models.CLASSES, name="head")

    run(tmp_path, network, pruner())
    with open(os.path.join(str(tmp_path), "compression", "coverage.json")) as file:
        rows = {
            r["kernel"]: r["decisions"]["pruning"] for r in json.load(file)["layers"]
        }
    assert rows["free/kernel"] == "compressed"
    assert "frozen: Softmax" in rows["frozen/kernel"]
    assert rows["head/kernel"] == "its output channels are the model's output"


def test_seed_snippets_prune_in_a_session_and_build_the_small_network(tmp_path):
    model_dir = str(tmp_path / "output")
    images = np.random.RandomState(0).standard_normal((4, 8, 8, 3)).astype(np.float32)

    with tf.Graph().as_default():
        x, y = tf.data.make_one_shot_iterator(models.dataset((8, 8, 3))()).get_next()
        loss = tf.losses.sparse_softmax_cross_entropy(y, vgg(x["x"], True))
        train_op = tf.train.AdamOptimizer(0.01).minimize(loss)
        pruner_config = ec.PrunerConfig(
            compression_ratio=0.5, step_interval=5, num_trials=3
        )
        compression_hook = ec.CompressionHook(
            ec.Pruner(pruner_config), save_dir=model_dir
        )
        with tf.train.MonitoredSession(
            session_creator=tf.train.ChiefSessionCreator(), hooks=[compression_hook]
        ) as session:
            for _ in range(17):
                session.run(train_op)
    with tf.Graph().as_default(), tf.Session() as session:
        masked = vgg(images, False)
        tf.train.Saver().restore(
            session, tf.train.latest_checkpoint(os.path.join(model_dir, "clean"))
        )
        expected = session.run(masked)

    from ec_estimator.pruning.utils import GapFinetune

    ft_helper = GapFinetune(model_dir)
    with tf.Graph().as_default(), tf.Session() as session:
        with tf.variable_scope("", custom_getter=ft_helper.get_variable):
            logits = vgg(images, False)
        session.run(tf.global_variables_initializer())
        np.testing.assert_allclose(session.run(logits), expected, rtol=1e-5, atol=1e-6)
        kernels = [v for v in tf.trainable_variables() if "conv2d/kernel" in v.name]
        assert kernels[0].shape[-1] < 8


def test_of_a_transformer_the_feed_forward_part_goes_and_the_rest_says_why(tmp_path):
    run(tmp_path, transformer, pruner(), shape=(6, 10))
    with open(os.path.join(str(tmp_path), "compression", "coverage.json")) as file:
        rows = [row for row in json.load(file)["layers"] if row["kernel"]]
    decisions = {row["kernel"]: row["decisions"]["pruning"] for row in rows}
    taken = {name for name, decision in decisions.items() if decision == "compressed"}
    # A block has q, k, v, the projection, and two feed-forward layers.
    assert taken == {"dense_5/kernel", "dense_11/kernel"}
    assert decisions.pop("dense_13/kernel").endswith("are the model's output")
    assert all("frozen: " in decisions[name] for name in set(decisions) - taken)
