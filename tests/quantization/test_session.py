"""Quantization in Session mode: quantize_graph() and the hook."""
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models

SHAPE = (8, 8, 3)
KERNELS = ("w1", "w2", "w3")


def config(**kwargs):
    return ec.QuantizerConfig(**{"step_interval": 4, "num_trials": 3, **kwargs})


def model(training=True):
    """(logits, loss) of a small model on fixed data."""
    tf.set_random_seed(3)
    x, y = tf.data.make_one_shot_iterator(models.dataset(SHAPE)()).get_next()
    logits = models._raw_network(x["x"], training)
    return logits, tf.losses.sparse_softmax_cross_entropy(y, logits)


def minimize(loss):
    step = tf.train.get_or_create_global_step()
    return tf.train.AdamOptimizer(0.01).minimize(loss, step)


def dense_checkpoint(folder, without=(), shapes=None):
    """Of the model before quantization; returns its path and the weights."""
    random = np.random.RandomState(9)
    shapes = {"w1": [3, 3, 3, 8], "w2": [8, 20], "w3": [5, 20], **(shapes or {})}
    weights = {n: random.uniform(-0.5, 0.5, s) for n, s in sorted(shapes.items())}
    with tf.Graph().as_default(), tf.Session() as session:
        for name, value in weights.items():
            if name not in without:
                tf.get_variable(name, initializer=value.astype(np.float32))
        tf.train.get_or_create_global_step()
        session.run(tf.global_variables_initializer())
        path = tf.train.Saver().save(session, os.path.join(folder, "model.ckpt"))
    return path, weights


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
    prefix = f"ec_estimator/quantization/{name}"
    return values[f"{prefix}/step"] * np.exp(values[f"{prefix}/log_ratio"])


def test_the_seeds_snippet_trains_quantized(tmp_path, caplog):
    folder = str(tmp_path / "run")
    dense, weights = dense_checkpoint(str(tmp_path))
    values = snippet(folder, pretrain_model=dense)
    assert values["ec_estimator/quantization/trial"] == 3
    assert "No gradient" not in caplog.text
    for name in KERNELS:
        # 10 steps of Adam at 0.01 from what was trained before.
        moved = np.abs(values[name] - weights[name])
        assert 0 < moved.max() <= 0.11
        for quantizer in (name, f"{name}/input"):
            step = steps_of(values, quantizer)
            assert np.all(step > 0) and np.all(np.isfinite(step))
            log_ratio = values[f"ec_estimator/quantization/{quantizer}/log_ratio"]
            assert np.any(log_ratio != 0)
    clean = tf.train.load_checkpoint(os.path.join(folder, "clean"))
    assert set(clean.get_variable_to_shape_map()) == {*KERNELS, "global_step"}
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


def test_another_mode_is_refused():
    with tf.Graph().as_default():
        model()
        message = "quantize_graph: mode must be 'train' or 'eval', got 'test'"
        with pytest.raises(ec.ConfigError, match=f"^{message}$"):
            ec.quantize_graph("test", None, config())


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_graph_that_has_gradients_is_refused(mode):
    with tf.Graph().as_default():
        minimize(model()[1])
        with pytest.raises(ec.PlanError, match="gradients have been taken .* before"):
            ec.quantize_graph(mode, None, config())


@pytest.mark.parametrize("first", ["train", "eval"])
@pytest.mark.parametrize("second", ["train", "eval"])
def test_a_graph_is_quantized_once(first, second):
    with tf.Graph().as_default():
        model()
        ec.quantize_graph(first, None, config())
        with pytest.raises(ec.PlanError, match="this graph is quantized already"):
            ec.quantize_graph(second, None, config())


def test_a_graph_without_layers_is_refused():
    with tf.Graph().as_default():
        tf.nn.relu(tf.placeholder(tf.float32, [2]))
        with pytest.raises(ec.PlanError):
            ec.quantize_graph("train", None, config())


def test_a_hook_on_a_graph_that_is_not_quantized_says_what_to_call():
    with tf.Graph().as_default():
        minimize(model()[1])
        hook = ec.CompressionHook(ec.LSQQuantizer(config()))
        with pytest.raises(ec.PlanError, match=r"call quantize_graph\(mode='train'"):
            hook.begin()


@pytest.mark.parametrize(
    "field,value", [("bits", 4), ("num_trials", 7), ("fp32_layers", ("MatMul",))]
)
def test_a_hook_with_another_config_names_the_field(field, value):
    with tf.Graph().as_default():
        _, loss = model()
        ec.quantize_graph("train", None, config())
        minimize(loss)
        hook = ec.CompressionHook(ec.LSQQuantizer(config(**{field: value})))
        with pytest.raises(
            ec.ConfigError, match=f"QuantizerConfig.{field}: .*give both the same"
        ):
            hook.begin()


def test_fp32_layers_that_match_nothing_name_the_nearest():
    with tf.Graph().as_default():
        model()
        with pytest.raises(ec.ConfigError, match="'MatMull' is no layer; .*MatMul"):
            ec.quantize_graph("train", None, config(fp32_layers=("MatMull",)))


def test_a_model_dir_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("kept")
    with tf.Graph().as_default():
        model()
        with pytest.raises(ec.RunFolderError, match="is a file"):
            ec.quantize_graph("train", str(tmp_path / "file"), config())
    assert (tmp_path / "file").read_text() == "kept"


def train_from(path):
    with tf.Graph().as_default(), tf.Session(config=models.ONE_THREAD) as session:
        model()
        ec.quantize_graph("train", None, config(pretrained_model=path))
        session.run(tf.global_variables_initializer())
        return session.run({v.op.name: v for v in tf.trainable_variables("w")})


def test_training_starts_from_the_pretrained_model(tmp_path):
    path, weights = dense_checkpoint(str(tmp_path))
    for given in (path, str(tmp_path)):
        for name, value in train_from(given).items():
            np.testing.assert_allclose(value, weights[name], rtol=1e-6)


def test_a_path_without_a_checkpoint_is_refused_before_training(tmp_path):
    with pytest.raises(ec.RunFolderError, match="cannot be read"):
        train_from(str(tmp_path / "nowhere"))
    with pytest.raises(ec.RunFolderError, match="there is no checkpoint in"):
        train_from(str(tmp_path))


def test_truncated_data_is_refused_before_training(tmp_path):
    path, _ = dense_checkpoint(str(tmp_path))
    (data,) = tmp_path.glob("*.data-*")
    data.write_bytes(data.read_bytes()[:10])
    with pytest.raises(ec.RunFolderError, match="cannot be read \\('w1': "):
        train_from(path)


def test_a_checkpoint_of_another_model_is_refused_before_training(tmp_path):
    path, _ = dense_checkpoint(str(tmp_path), KERNELS, {"other": [3]})
    with pytest.raises(
        ec.RunFolderError, match="none of the model's 3 .*w1 is missing"
    ):
        train_from(path)


def test_what_a_pretrained_model_lacks_is_listed(tmp_path, caplog):
    path, weights = dense_checkpoint(str(tmp_path), ["w1"], {"w3": [4, 20]})
    with caplog.at_level("WARNING"):
        values = train_from(path)
    assert "2 variables keep their own start: w1 is missing; " in caplog.text
    assert "w3 has shape [4, 20], in the model [5, 20]" in caplog.text
    np.testing.assert_allclose(values["w2"], weights["w2"], rtol=1e-6)
    assert np.any(values["w1"] != 0)


OPTIMIZERS = {
    "sgd": lambda: tf.train.GradientDescentOptimizer(0.01),
    "momentum": lambda: tf.train.MomentumOptimizer(0.01, 0.9),
    "adam": lambda: tf.train.AdamOptimizer(0.01),
    "rmsprop": lambda: tf.train.RMSPropOptimizer(0.01, centered=True),
    "adagrad": lambda: tf.train.AdagradOptimizer(0.01),
    "ftrl": lambda: tf.train.FtrlOptimizer(0.01),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_any_optimizer_trains_the_step_sizes_without_a_global_step(optimizer, caplog):
    with tf.Graph().as_default():
        _, loss = model()
        ec.quantize_graph("train", None, config(num_trials=1))
        train_op = OPTIMIZERS[optimizer]().minimize(loss)
        hook = ec.CompressionHook(ec.LSQQuantizer(config(num_trials=1)))
        with tf.train.MonitoredSession(
            tf.train.ChiefSessionCreator(config=models.ONE_THREAD), [hook]
        ) as session:
            for _ in range(3):
                session.run(train_op)
            moved = session._tf_sess().run(tf.trainable_variables("ec_estimator"))
    assert len(moved) == 6
    assert all(np.all(np.isfinite(log_ratio)) for log_ratio in moved)
    # A gradient may be too small to move one of them.
    assert sum(np.any(log_ratio != 0) for log_ratio in moved) >= 5
    assert "no optimizer trains" not in caplog.text


def test_a_hook_trains_sparse_and_quantized_at_once():
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
