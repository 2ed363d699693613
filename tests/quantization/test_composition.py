"""Quantization together with the other compressors."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models
from tests.quantization.test_zoo import assert_same, export, run_saved_model

MODE = tf.estimator.ModeKeys


def network(x, training):
    x = tf.layers.conv2d(x, 16, 3, use_bias=False, padding="same")
    x = tf.nn.relu(tf.layers.batch_normalization(x, training=training))
    x = tf.layers.conv2d(x, 24, 3, activation=tf.nn.relu, strides=2)
    return tf.layers.dense(tf.reduce_mean(x, [1, 2]), models.CLASSES)


def make(folder, wrap):
    model_fn, input_fn = models.classifier(network, (8, 8, 3))
    estimator = tf.estimator.Estimator(
        wrap(model_fn), config=models.run_config(str(folder))
    )
    return estimator, input_fn


def quantizer(**config):
    return ec.LSQQuantizer(
        ec.QuantizerConfig(**{"step_interval": 2, "num_trials": 2, **config})
    )


def quantized_kernels(path):
    """{kernel name: what the exported graph multiplies with}."""
    with tf.Graph().as_default() as graph, tf.Session() as session:
        tf.saved_model.load(session, ["serve"], path)
        return {
            op.name[
                len("ec_estimator/quantization/") : -len("/quantized")
            ]: session.run(op.outputs[0])
            for op in graph.get_operations()
            if op.type == "FakeQuantWithMinMaxVarsPerChannel"
        }


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_zeros_stay_exactly_zero_and_values_are_few(bits, tmp_path):
    config = ec.SparsifierConfig(
        target_sparse_ratio=0.6,
        sparse_block_shape=(1, 4),
        step_interval=1,
        num_trials=3,
    )
    wrapped = [ec.Sparsifier(config), quantizer(bits=bits, wbits=bits)]
    estimator, input_fn = make(tmp_path, lambda fn: ec.compress(fn, wrapped))
    estimator.train(input_fn, max_steps=6)
    path, features = export(estimator, input_fn, tmp_path / "export")
    results, _ = run_saved_model(path, features)
    assert_same(results, list(estimator.predict(lambda: input_fn().take(1))))
    kernels = quantized_kernels(path)
    assert set(kernels) == {"conv2d/kernel", "conv2d_1/kernel", "dense/kernel"}
    for name, values in kernels.items():
        weights = estimator.get_variable_value(name)
        assert np.all(values[weights == 0] == 0)
        assert np.mean(values == 0) >= 0.6 - 4 / weights.size
        for channel in range(values.shape[-1]):
            assert len(np.unique(values[..., channel])) <= 2**bits


def test_one_bit_weights_have_no_zero_so_they_are_not_made_sparse(tmp_path):
    wrapped = [ec.Sparsifier(ec.SparsifierConfig()), quantizer(wbits=1)]
    with pytest.raises(ec.PlanError, match="at 1 bit .* no zero"):
        make(tmp_path, lambda fn: ec.compress(fn, wrapped))


def test_a_pruned_network_is_finetuned_quantized(tmp_path):
    pruner = ec.Pruner(
        ec.PrunerConfig(compression_ratio=0.5, step_interval=2, num_trials=1)
    )
    estimator, input_fn = make(tmp_path / "whole", lambda fn: ec.compress(fn, pruner))
    estimator.train(input_fn, max_steps=4)
    folder = str(tmp_path / "whole")
    small, input_fn = make(
        tmp_path / "small",
        lambda fn: ec.compress(ec.finetune(fn, folder), quantizer(post_quant=True)),
    )
    small.train(input_fn, max_steps=4)
    assert np.isfinite(small.evaluate(input_fn, steps=2)["loss"])
    path, features = export(small, input_fn, tmp_path / "export")
    results, _ = run_saved_model(path, features)
    assert_same(results, list(small.predict(lambda: input_fn().take(1))))
    kernels = quantized_kernels(path)
    assert kernels["conv2d/kernel"].shape[-1] < 16


def test_pruned_and_quantized_at_once(tmp_path):
    pruner = ec.Pruner(
        ec.PrunerConfig(compression_ratio=0.5, step_interval=2, num_trials=1)
    )
    wrapped = [pruner, quantizer()]
    estimator, input_fn = make(tmp_path, lambda fn: ec.compress(fn, wrapped))
    estimator.train(input_fn, max_steps=4)
    assert np.isfinite(estimator.evaluate(input_fn, steps=2)["loss"])
    kernel = estimator.get_variable_value("conv2d_1/kernel")
    assert np.sum(~kernel.any(axis=(0, 1, 3))) > 0


@pytest.mark.parametrize("bits", [8, pytest.param(4, marks=pytest.mark.slow)])
def test_winograd_trains_and_exports(bits, tmp_path):
    wrapped = quantizer(int8_winograd=True, bits=bits, signed="auto")
    estimator, input_fn = make(tmp_path, lambda fn: ec.compress(fn, wrapped))
    estimator.train(input_fn, max_steps=4)
    path, features = export(estimator, input_fn, tmp_path / "export")
    results, graph = run_saved_model(path, features)
    assert_same(results, list(estimator.predict(lambda: input_fn().take(1))), 2e-5)
    coverage = ec.core.folder.RunFolder(str(tmp_path / "compression")).read_json(
        "coverage.json"
    )
    assert [layer["decisions"]["quantization"] for layer in coverage["layers"]] == [
        "compressed (Winograd)",
        "compressed",
        "compressed",
    ]


def said_of_the_pretrained_model(caplog):
    return [m for m in caplog.messages if m.startswith("pretrained_model ")]


def test_pretrained_model_gives_its_values(tmp_path, caplog):
    plain, input_fn = make(tmp_path / "plain", models.unwrapped)
    plain.train(input_fn, max_steps=2)
    start = quantizer(pretrained_model=str(tmp_path / "plain"))
    estimator, input_fn = make(tmp_path / "q", lambda fn: ec.compress(fn, start))
    estimator.train(input_fn, max_steps=1)
    for name in ("conv2d/kernel", "dense/kernel"):
        before = plain.get_variable_value(name)
        after = estimator.get_variable_value(name)
        assert np.abs(after - before).max() < 0.05 < np.abs(before).max()
    assert said_of_the_pretrained_model(caplog) == []


def test_pretrained_model_lists_what_it_lacks(tmp_path, caplog):
    path = str(tmp_path / "model.ckpt")
    with tf.Graph().as_default(), tf.Session() as session:
        for name, shape in {
            "conv2d/kernel": [3, 3, 3, 16],
            "conv2d_1/kernel": [3, 3, 16, 20],
            "conv2d_1/bias": [24],
            "dense/kernel": [24, 5],
        }.items():
            tf.get_variable(name, shape)
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, path)
    start = quantizer(pretrained_model=path)
    estimator, input_fn = make(tmp_path / "q", lambda fn: ec.compress(fn, start))
    with caplog.at_level("WARNING"):
        estimator.train(input_fn, max_steps=1)
    lacks = "; ".join(
        [
            *(
                f"batch_normalization/{name} is missing"
                for name in ("beta", "gamma", "moving_mean", "moving_variance")
            ),
            "conv2d_1/kernel has shape [3, 3, 16, 20], in the model [3, 3, 16, 24]",
            "dense/bias is missing",
        ]
    )
    assert said_of_the_pretrained_model(caplog) == [
        f"pretrained_model {path}: 6 variables keep their own start: {lacks}"
    ]


def test_pretrained_model_that_is_not_there_fails_before_training(tmp_path):
    start = quantizer(pretrained_model=str(tmp_path / "nowhere"))
    estimator, input_fn = make(tmp_path / "q", lambda fn: ec.compress(fn, start))
    with pytest.raises(ec.RunFolderError, match="nowhere"):
        estimator.train(input_fn, max_steps=1)
