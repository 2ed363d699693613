"""What MNN makes of compressed models: the integers that they were trained with."""
import os
import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.contrib import predictor

import ec_estimator as ec
from ec_estimator.export.frozen_model import freeze_model
from ec_estimator.export.mnn_format import MODEL, PORTS, MnnFormat
from tests.models import classifier, run_config, unwrapped

SHAPE = (8, 8, 3)
SERVING = "serving_default"
X = np.random.RandomState(3).standard_normal((12, *SHAPE)).astype(np.float32)


def every_layer(x, training):
    """One of each kind, up to a head that stays in float."""
    x = tf.layers.conv2d(x, 8, 3, activation=tf.nn.relu)
    x = tf.layers.max_pooling2d(x, 2, 2)
    x = tf.layers.conv2d(x, 8, 1, activation=tf.nn.relu)
    y = tf.layers.conv2d(x, 8, 3, use_bias=False, padding="same")
    y = tf.nn.relu6(tf.layers.batch_normalization(y, training=training))
    x = tf.nn.relu(tf.layers.conv2d(y, 8, 1) + x)
    x = tf.layers.separable_conv2d(x, 12, 3, activation=tf.nn.relu)
    x = tf.layers.dense(tf.layers.flatten(x), 16, tf.nn.relu)
    return tf.layers.dense(x, 5, name="head")


def winograd(x, training):
    x = tf.layers.conv2d(x, 8, 3, use_bias=False, padding="same")
    x = tf.nn.relu(tf.layers.batch_normalization(x, training=training))
    return tf.layers.dense(tf.layers.flatten(x), 5, name="head")


def pools(x, training):
    """Pooling of negative values, and an average."""
    x = tf.layers.max_pooling2d(tf.layers.conv2d(x, 8, 3), 2, 2)
    x = tf.layers.average_pooling2d(tf.layers.conv2d(x, 8, 1), 2, 1)
    return tf.layers.dense(tf.layers.flatten(x), 5, name="head")


def wide(x, training):
    """With enough weights for the bytes of a file to be theirs."""
    x = tf.layers.conv2d(x, 128, 3, activation=tf.nn.relu)
    x = tf.layers.conv2d(x, 128, 3, activation=tf.nn.relu)
    return tf.layers.dense(tf.reduce_mean(x, [1, 2]), 5, name="head")


def receiver():
    features = {"x": tf.placeholder(tf.float32, (None, *SHAPE), "x")}
    return tf.estimator.export.ServingInputReceiver(features, features)


def trained(network, folder, wrap):
    model_fn, input_fn = classifier(network, SHAPE)
    estimator = tf.estimator.Estimator(
        wrap(model_fn), config=run_config(str(folder / "model"))
    )
    estimator.train(input_fn, max_steps=4)
    return estimator


def quantized(**kwargs):
    config = ec.QuantizerConfig(step_interval=2, num_trials=2, **kwargs)
    return lambda model_fn: ec.compress(model_fn, ec.LSQQuantizer(config))


def served(estimator, folder):
    """What TensorFlow answers, with the fake-quant ops."""
    path = estimator.export_saved_model(str(folder / "saved"), receiver)
    return predictor.from_saved_model(path.decode())({"x": X})


def written(estimator, folder):
    """(MNN's answers, the bytes of its file)."""
    model = freeze_model(estimator, receiver, estimator.latest_checkpoint())
    target = folder / "mnn"
    target.mkdir()
    assert MnnFormat().write(model, SERVING, str(target), {"x": X}) == (MODEL, PORTS)
    assert sorted(os.listdir(str(target))) == sorted((MODEL, PORTS))
    answers = MnnFormat().run(str(target), {"x": X})
    return answers, (target / MODEL).stat().st_size


@pytest.mark.parametrize(
    "network, config",
    [
        (every_layer, {}),
        # Its twin has fewer bits.
        pytest.param(every_layer, {"signed": "auto"}, marks=pytest.mark.slow),
        (every_layer, {"signed": "auto", "bits": 4, "wbits": 2}),
        (winograd, {"int8_winograd": True}),
        (pools, {"signed": "auto"}),
    ],
    ids=["int8", "unsigned", "few bits", "winograd", "pools"],
)
def test_its_integers_are_those_of_the_training(network, config, tmp_path):
    wrap = quantized(post_quant=True, exclude_scopes=("head",), **config)
    estimator = trained(network, tmp_path, wrap)
    answers, _ = written(estimator, tmp_path)
    for key, expected in served(estimator, tmp_path).items():
        np.testing.assert_allclose(answers[key], expected, rtol=0, atol=5e-6)


def test_what_nothing_rounds_is_rounded_to_the_range_of_the_samples(tmp_path):
    def network(x, training):
        x = tf.layers.conv1d(tf.reshape(x, [-1, 8, 24]), 8, 3, activation=tf.nn.relu)
        x = tf.layers.dense(tf.layers.flatten(x), 16, tf.nn.relu)
        return tf.layers.dense(x, 5)

    estimator = trained(network, tmp_path, quantized())
    answers, _ = written(estimator, tmp_path)
    expected = served(estimator, tmp_path)["logits"]
    # The largest of the model in float, which differs a little.
    step = np.abs(expected).max() / 127
    assert np.abs(answers["logits"] - expected).max() <= 1.5 * step
    assert len(np.unique(answers["logits"])) <= 255


def test_what_has_no_integer_form_stays_in_float_and_is_named(tmp_path, caplog):
    def network(x, training):
        w = tf.get_variable("w", [5, 12])
        x = tf.reshape(x, [-1, 8, 24])
        x, _ = tf.nn.dynamic_rnn(tf.nn.rnn_cell.BasicRNNCell(6), x, dtype=tf.float32)
        x = tf.reshape(tf.matmul(x, x, transpose_a=True), [-1, 6, 6, 1])
        x = tf.layers.separable_conv2d(x, 3, 3, depth_multiplier=2)
        x = tf.layers.dense(tf.layers.flatten(x), 12)
        return tf.transpose(tf.matmul(w, x, transpose_b=True))

    estimator = trained(network, tmp_path, quantized())
    answers, _ = written(estimator, tmp_path)
    [warning] = [r.getMessage() for r in caplog.records if "mnn:" in r.getMessage()]
    for name in ("/basic_rnn_cell/MatMul", " MatMul", "[ /]depthwise", " MatMul_1"):
        assert re.search(rf"{name}[, ]", warning)
    assert "dense/MatMul" not in warning
    expected = served(estimator, tmp_path)["logits"]
    np.testing.assert_allclose(
        answers["logits"], expected, atol=0.05 * np.ptp(expected)
    )


def test_files_with_integers_and_with_sparse_blocks_are_smaller(tmp_path):
    sizes = {}
    sparsifier = ec.Sparsifier(
        ec.SparsifierConfig(
            target_sparse_ratio=0.7,
            sparse_block_shape=(1, 4),
            step_interval=1,
            num_trials=2,
        )
    )
    for name, wrap in {
        "float": unwrapped,
        "int8": quantized(exclude_scopes=("head",)),
        "winograd": quantized(int8_winograd=True, exclude_scopes=("head",)),
        "sparse": lambda model_fn: ec.compress(model_fn, sparsifier),
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        estimator = trained(wide, folder, wrap)
        answers, sizes[name] = written(estimator, folder)
        if name in ("float", "sparse"):
            for key, expected in served(estimator, folder).items():
                np.testing.assert_allclose(answers[key], expected, atol=1e-5)
    assert sizes["int8"] < 0.27 * sizes["float"]
    # A step in float32 for each of 16 positions and each channel of both convolutions,
    # which is why a Winograd file is larger.
    steps = 16 * 4 * (128 + 128)
    assert steps < sizes["winograd"] - sizes["int8"] < steps + 600
    assert sizes["sparse"] < 0.7 * sizes["float"]


def test_a_pruned_model_is_written_as_it_is(tmp_path):
    pruner = ec.Pruner(
        ec.PrunerConfig(
            compression_ratio=0.5,
            prune_sort_range="local",
            step_interval=1,
            num_trials=1,
        )
    )
    dense = trained(wide, tmp_path, lambda model_fn: ec.compress(model_fn, pruner))
    model_fn, input_fn = classifier(wide, SHAPE)
    small = tf.estimator.Estimator(
        ec.finetune(model_fn, dense.model_dir),
        config=run_config(str(tmp_path / "small")),
    )
    small.train(input_fn, max_steps=1)
    answers, size = written(small, tmp_path)
    for key, expected in served(small, tmp_path).items():
        np.testing.assert_allclose(answers[key], expected, atol=1e-5)
    whole = tmp_path / "whole"
    whole.mkdir()
    _, whole_size = written(trained(wide, whole, unwrapped), whole)
    ratio = _weights(small) / _weights(dense)
    assert size / whole_size == pytest.approx(ratio, rel=0.05)


def _weights(estimator):
    names = estimator.get_variable_names()
    layers = [n for n in names if n.split("/")[-1] in ("kernel", "bias")]
    return sum(
        estimator.get_variable_value(n).size for n in layers if "ec_estim" not in n
    )
