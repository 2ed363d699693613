"""What MNN makes of compressed models: the integers that they were trained with."""
import json
import os
import re
import subprocess

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.contrib import predictor

import ec_estimator as ec
from ec_estimator.core.errors import RunFolderError
from ec_estimator.export import mnn_format, mnn_process
from ec_estimator.export.format import EngineMissing, ExportError
from ec_estimator.export.frozen_model import FrozenModel, Port, Signature, freeze_model
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
    x = tf.layers.conv2d(x, 64, 3, activation=tf.nn.relu)
    x = tf.layers.conv2d(x, 64, 3, activation=tf.nn.relu)
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
        (every_layer, {"signed": "auto"}),
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
    for name in ("rnn/while/basic_rnn_cell/MatMul", "MatMul", "depthwise", "MatMul_1"):
        assert re.search(rf"[ /]{name}[, ]", warning)
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
        "sparse": lambda model_fn: ec.compress(model_fn, sparsifier),
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        estimator = trained(wide, folder, wrap)
        answers, sizes[name] = written(estimator, folder)
        if name != "int8":
            for key, expected in served(estimator, folder).items():
                np.testing.assert_allclose(answers[key], expected, atol=1e-5)
    assert sizes["int8"] < 0.35 * sizes["float"]
    assert sizes["sparse"] < 0.7 * sizes["float"]


def test_a_pruned_model_is_written_as_it_is(tmp_path):
    pruner = ec.Pruner(
        ec.PrunerConfig(compression_ratio=0.5, step_interval=1, num_trials=1)
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
    kernels = [small.get_variable_value(n) for n in small.get_variable_names()]
    assert size < 4 * sum(k.size for k in kernels if k.ndim > 1) + 8000


def frozen(build, **signatures):
    """A model without training: build() -> ({key: input}, {key: output})."""
    with tf.Graph().as_default() as graph:
        inputs, outputs = build()
        port = lambda t: Port(t.name, tuple(t.shape.as_list()), t.dtype)  # noqa: E731
        signature = Signature(
            {key: port(tensor) for key, tensor in inputs.items()},
            {key: port(tensor) for key, tensor in outputs.items()},
        )
        return FrozenModel(graph.as_graph_def(), {"one": signature}, {}, {}, {})


def test_several_inputs_and_outputs_of_any_name_and_type(tmp_path):
    table = np.random.RandomState(0).standard_normal((7, 4)).astype(np.float32)

    def build():
        ids = tf.placeholder(tf.int64, [None], "in/ids")
        x = tf.placeholder(tf.float32, [None, 4], "x")
        unread = tf.placeholder(tf.float32, [None], "unread")
        y = tf.gather(tf.constant(table), ids) + x
        outputs = {"a/b:c": y, "best": tf.argmax(y, 1), "words": tf.as_string(ids)}
        return {"the/ids:0": ids, "x": x, "unread": unread}, outputs

    given = {
        "the/ids:0": np.array([0, 3, 6]),
        "x": np.random.RandomState(1).standard_normal((3, 4)).astype(np.float32),
        "unread": np.zeros(3, np.float32),
    }
    MnnFormat().write(frozen(build), "one", str(tmp_path), given)
    answers = MnnFormat().run(str(tmp_path), given)
    expected = table[given["the/ids:0"]] + given["x"]
    assert set(answers) == {"a/b:c", "best"}
    np.testing.assert_allclose(answers["a/b:c"], expected, atol=1e-6)
    np.testing.assert_array_equal(answers["best"], expected.argmax(1))
    assert answers["best"].dtype == np.int64


def test_images_of_bytes_go_in_and_images_come_out_with_their_channels_last(tmp_path):
    random = np.random.RandomState(0)
    kernel = random.standard_normal((3, 3, 2, 5)).astype(np.float32)
    image = random.randint(0, 256, (2, 6, 7, 2)).astype(np.uint8)

    def build():
        x = tf.placeholder(tf.uint8, [None, None, None, 2], "x")
        y = tf.nn.conv2d(tf.cast(x, tf.float32), tf.constant(kernel), 1, "VALID")
        return {"x": x}, {"y": y}

    MnnFormat().write(frozen(build), "one", str(tmp_path), {"x": image})
    answer = MnnFormat().run(str(tmp_path), {"x": image})["y"]
    expected = sum(
        image[:, r : r + 4, c : c + 5].astype(np.float32) @ kernel[r, c]
        for r in range(3)
        for c in range(3)
    )
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-2)


def strings_in():
    x = tf.placeholder(tf.string, [None], "x")
    return {"x": x}, {"y": tf.strings.to_number(x)}


def strings_out():
    x = tf.placeholder(tf.float32, [None], "x")
    return {"x": x}, {"y": tf.as_string(x)}


def strange_op():
    x = tf.placeholder(tf.float32, [3, 3], "x")
    return {"x": x}, {"y": tf.linalg.logdet(tf.matmul(x, x, transpose_b=True))}


@pytest.mark.parametrize(
    "build, message",
    [
        (strings_in, "input 'x' is of string, and MNN reads numbers only"),
        (strings_out, r"outputs \['y'\] are strings"),
        (strange_op, "its converter refuses the model: .*Not Support: .*Cholesky"),
    ],
)
def test_what_it_cannot_take_is_an_error(build, message, tmp_path):
    with pytest.raises(ExportError, match=message):
        MnnFormat().write(frozen(build), "one", str(tmp_path), {"x": np.eye(3)})


def test_a_layer_that_the_converter_left_in_float_is_an_error(tmp_path, monkeypatch):
    estimator = trained(pools, tmp_path, quantized())
    monkeypatch.setattr(mnn_format, "quantized_tensors", lambda path: set())
    with pytest.raises(ExportError, match="left the layer with kernel 'conv2d/kernel'"):
        written(estimator, tmp_path)


def test_one_bit_with_a_sign_is_refused_before_training_and_after(tmp_path):
    def refusal(**kwargs):
        return MnnFormat().refuse_training(ec.QuantizerConfig(**kwargs))

    assert "QuantizerConfig.bits" in refusal(bits=1)
    assert not refusal(bits=1, signed=False)
    assert not refusal()
    estimator = trained(pools, tmp_path, quantized(bits=1))
    with pytest.raises(ExportError, match="'x' is rounded to -1 and \\+1"):
        written(estimator, tmp_path)


def doubled():
    x = tf.placeholder(tf.float32, [None, 2], "x")
    return {"x": x}, {"y": 2 * x}


def test_its_processes_know_nothing_of_ours_and_start_no_telemetry(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("HTTPS_PROXY", "http://localhost:9")
    monkeypatch.setenv("SECRET", "1")
    calls, run = [], subprocess.run
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda *args, **kw: calls.append((args, kw)) or run(*args, **kw),
    )
    x = np.ones((1, 2), np.float32)
    MnnFormat().write(frozen(doubled), "one", str(tmp_path), {"x": x})
    np.testing.assert_array_equal(MnnFormat().run(str(tmp_path), {"x": x})["y"], 2 * x)
    assert len(calls) == 2
    for (command,), kwargs in calls:
        known = {"PATH", "LD_LIBRARY_PATH", "TMPDIR", "SYSTEMROOT", "PYTHONPATH"}
        assert set(kwargs["env"]) <= known
        assert "shell" not in kwargs
        # Neither the console script, nor the module behind it, nor mnncompress.
        assert not any("MNN.tools" in part or "mnncompress" in part for part in command)
        assert os.path.basename(command[0]).startswith("python")
    loaded = "import _tools, sys, MNN; print(*(n for n in sys.modules))"
    names, code = mnn_process._run(["-c", loaded], str(tmp_path))
    assert code == 0
    assert not [n for n in names.split() if n.startswith(("MNN.tools", "aliyun"))]


def test_without_the_package_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(mnn_process.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineMissing, match=r"pip install 'ec_estimator\[mnn\]'"):
        MnnFormat().write(
            frozen(doubled), "one", str(tmp_path), {"x": np.ones((1, 2), np.float32)}
        )


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"inputs": {"x": 1}, "outputs": {}, "dtypes": {}}']
    + ['{"inputs": {}, "outputs": {"y": "y"}, "dtypes": {}}'],
)
def test_damaged_files_are_an_error(text, tmp_path):
    (tmp_path / PORTS).write_text(text)
    with pytest.raises(RunFolderError, match="is damaged"):
        MnnFormat().run(str(tmp_path), {})


def test_a_damaged_model_is_an_error(tmp_path):
    ports = {"inputs": {"x": "x"}, "outputs": {"y": "y"}, "dtypes": {"y": "float32"}}
    (tmp_path / PORTS).write_text(json.dumps(ports))
    (tmp_path / MODEL).write_bytes(b"nothing")
    with pytest.raises(ExportError, match="the engine fails"):
        MnnFormat().run(str(tmp_path), {"x": X})
