"""Quantization in Session mode: quantize_graph() and the hook."""
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.core.memory import recall
from ec_estimator.graph.layers import find_layers
from ec_estimator.graph.plan import make_plan
from ec_estimator.training.attachment import attach_to_finished_graph
from tests import models
from tests.quantization.sessions import (
    KERNELS,
    SHAPE,
    config,
    dense_checkpoint,
    minimize,
    model,
)


def snippet(model_dir, steps=10, **kwargs):
    """The seed's snippet, with a loop that ends; returns the variables' values."""
    with tf.Graph().as_default():
        _, loss = model()
        quantizer_config = config(**kwargs)
        ec.quantize_graph(mode="train", model_dir=model_dir, config=quantizer_config)
        train_op = minimize(loss)
        quantizer = ec.LSQQuantizer(model_dir=model_dir, config=quantizer_config)
        compression_hook = ec.CompressionHook(quantizer)
        with tf.train.MonitoredTrainingSession(
            checkpoint_dir=model_dir,
            hooks=[compression_hook, tf.train.StopAtStepHook(last_step=steps)],
            save_checkpoint_steps=1000,
            save_checkpoint_secs=None,
            save_summaries_steps=None,
            save_summaries_secs=None,
            log_step_count_steps=None,
            config=models.ONE_THREAD,
        ) as session:
            while not session.should_stop():
                session.run(train_op)
    reader = tf.train.load_checkpoint(model_dir)
    return {
        name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
    }


def steps_of(values, name):
    """The step sizes of a quantizer, by its variables' documented meaning."""
    return values[f"ec_estimator/quantization/{name}/step"]


def test_the_seeds_snippet_trains_quantized(tmp_path, caplog):
    folder = str(tmp_path / "run")
    dense, weights = dense_checkpoint(str(tmp_path))
    values = snippet(folder, pretrain_model=dense)
    assert values["ec_estimator/quantization/adam/count"] == 1
    # The last fit came before step 10, the last one.
    assert np.mean(values["ec_estimator/quantization/adam/m"] != 0) > 0.5
    assert values["ec_estimator/quantization/trial"] == 3
    assert "No gradient" not in caplog.text
    for name in KERNELS:
        # 10 steps of Adam at 0.01 from what was trained before.
        moved = np.abs(values[name] - weights[name])
        assert 0 < moved.max() <= 0.11
        for quantizer in (name, f"{name}/input"):
            step = steps_of(values, quantizer)
            assert np.all(step > 0) and np.all(np.isfinite(step))
    clean = tf.train.load_checkpoint(os.path.join(folder, "clean"))
    steps = {name for name in values if name.endswith("/step")}
    assert len(steps) == 6
    names = {*KERNELS, *steps, "global_step"}
    assert set(clean.get_variable_to_shape_map()) == names
    for name in ("plan.json", "coverage.json", "trials.jsonl", "manifest.json"):
        assert os.path.exists(os.path.join(folder, name))


def test_an_eval_graph_predicts_from_a_checkpoint_as_the_formulas_say(tmp_path):
    values = snippet(str(tmp_path), bits=4, wbits=3)
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, (None,) + SHAPE)
        logits = models._raw_network(x, False)
        ec.quantize_graph("eval", None, config(bits=4, wbits=3))
        tf.train.Saver().restore(session, tf.train.latest_checkpoint(str(tmp_path)))
        batch = np.random.RandomState(4).standard_normal((3,) + SHAPE)
        actual = session.run(logits, {x: batch})
        again = session.run(logits, {x: batch})
    np.testing.assert_array_equal(actual, again)
    np.testing.assert_allclose(actual, by_hand(values, batch), rtol=0, atol=1e-5)


def by_hand(values, x):
    """The model with every operand rounded in NumPy, 4 bits and 3 bits."""

    def quantize(tensor, name, low, high, shape=()):
        step = steps_of(values, name).reshape(shape)
        return np.clip(np.floor(tensor / step + 0.5), low, high) * step

    w1 = quantize(values["w1"], "w1", -4, 3, (1, 1, 1, 8))
    w2 = quantize(values["w2"], "w2", -4, 3, (1, 20))
    w3 = quantize(values["w3"], "w3", -4, 3, (5, 1))
    x = quantize(x, "w1/input", -8, 7)
    with tf.Graph().as_default(), tf.Session() as session:
        x = session.run(tf.nn.conv2d(x, w1, 2, "SAME"))
    x = quantize(np.maximum(x, 0).mean((1, 2)), "w2/input", -8, 7)
    x = quantize(np.maximum(x @ w2, 0), "w3/input", -8, 7)
    return x @ w3.T


def test_a_run_that_is_restarted_goes_on_with_its_trials(tmp_path, caplog):
    snippet(str(tmp_path), steps=6)
    assert "after trial 2 of 3" in caplog.text
    assert snippet(str(tmp_path))["ec_estimator/quantization/trial"] == 3


def test_the_signs_of_a_training_graph_with_dropout_are_those_of_its_eval_graph():
    shapes = []
    for mode in ("train", "eval"):
        with tf.Graph().as_default() as graph:
            x = tf.nn.relu(tf.layers.dense(tf.placeholder(tf.float32, [2, 4]), 6))
            x = tf.layers.dropout(x, 0.4, training=mode == "train")
            tf.layers.dense(x, 5)
            ec.quantize_graph(mode, None, config(signed="auto"))
            ranges = [
                op.inputs[1].op.inputs[1]
                for op in graph.get_operations()
                if op.type == "FakeQuantWithMinMaxVars"
            ]
            shapes.append(sorted(float(tf.get_static_value(low)) for low in ranges))
    assert shapes == [[-128.0, 0.0], [-128.0, 0.0]]


OPTIMIZERS = {
    "sgd": lambda: tf.train.GradientDescentOptimizer(0.01),
    "momentum": lambda: tf.train.MomentumOptimizer(0.01, 0.9),
    "adam": lambda: tf.train.AdamOptimizer(0.01),
    "rmsprop": lambda: tf.train.RMSPropOptimizer(0.01, centered=True),
    "adagrad": lambda: tf.train.AdagradOptimizer(0.01),
    "ftrl": lambda: tf.train.FtrlOptimizer(0.01),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_step_sizes_are_trained_beside_any_optimizer_without_a_global_step(optimizer):
    with tf.Graph().as_default():
        _, loss = model()
        ec.quantize_graph("train", None, config(num_trials=1))
        train_op = OPTIMIZERS[optimizer]().minimize(loss)
        hook = ec.CompressionHook(ec.LSQQuantizer(config(num_trials=1)))
        steps = [
            v
            for v in tf.global_variables()
            if v.op.name.startswith("ec_estimator/") and v.op.name.endswith("/step")
        ]
        with tf.train.MonitoredSession(
            tf.train.ChiefSessionCreator(config=models.ONE_THREAD), [hook]
        ) as session:
            # The trial comes before the second.
            for _ in range(2):
                session.run(train_op)
            before = session._tf_sess().run(steps)
            session.run(train_op)
            after = session._tf_sess().run(steps)
    assert len(steps) == 6
    # Under Ftrl a layer puts out zeros by now.
    assert sum(np.any(new != old) for old, new in zip(before, after)) >= 5
    for old, new in zip(before, after):
        # Whatever the optimizer: a thousandth of their size.
        np.testing.assert_allclose(new, old, rtol=2e-3)


def test_a_hook_trains_sparse_and_quantized_at_once(caplog):
    with tf.Graph().as_default() as graph:
        _, loss = model()
        ec.quantize_graph("train", None, config())
        train_op = minimize(loss)
        sparse = ec.SparsifierConfig(0.5, step_interval=1, num_trials=2)
        hook = ec.CompressionHook([ec.Sparsifier(sparse), ec.LSQQuantizer(config())])
        quantized = {
            name: graph.get_tensor_by_name(f"ec_estimator/quantization/{name}/{end}:0")
            for name, end in (("w1", "quantized"), ("w2", "quantized"))
        }
        with tf.train.MonitoredSession(hooks=[hook]) as session:
            for _ in range(10):
                session.run(train_op)
            session = session._tf_sess()
            for name, tensor in quantized.items():
                weights, q = session.run([f"{name}:0", tensor])
                assert 0.4 < np.mean(weights == 0) < 0.6
                np.testing.assert_array_equal(q[weights == 0], 0)
    # Of the kernel's readers, that which trains the step sizes has no gradient to gate.
    assert "observed" not in caplog.text


def test_a_product_built_after_it_was_left_alone_stays_in_float():
    """The graph that predicts has it, and this one when it was quantized has not."""

    def network(x, with_product):
        x = tf.layers.dense(x, 6, name="hidden", reuse=tf.AUTO_REUSE)
        return tf.matmul(x, x, transpose_b=True) if with_product else x

    quantizer = ec.LSQQuantizer(config())
    with tf.Graph().as_default() as graph:
        outputs = [network(tf.ones([2, 4]), True)]
        plan = make_plan("infer", graph, find_layers(graph), outputs, [quantizer])
    assert len(plan.details["quantization"].layers) == 2
    with tf.Graph().as_default() as graph:
        x = tf.ones([2, 4])
        network(x, False)
        quantizer.quantize_forward(graph, plan.details["quantization"])
        product = network(x, True)
        recall(graph, "trained").rewire()
    assert all("Quantize" not in tensor.op.type for tensor in product.op.inputs)


def test_the_report_names_winograd_as_an_estimators_does():
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [2, 8, 8, 3])
        loss = tf.reduce_mean(tf.layers.conv2d(x, 4, 3) ** 2)
        quantizer_config = config(int8_winograd=True)
        ec.quantize_graph("train", None, quantizer_config)
        minimize(loss)
        compressors = [ec.LSQQuantizer(quantizer_config)]
        attachment = attach_to_finished_graph(graph, compressors)
    [row] = attachment.plan.layers
    assert row.decisions == {"quantization": "compressed (Winograd)"}
