"""What goes into an .mnn file and comes out of it, what cannot, and the processes."""
import json
import os
import subprocess

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.core.errors import RunFolderError
from ec_estimator.export import mnn_format, mnn_process
from ec_estimator.export.format import EngineMissing, ExportError
from ec_estimator.export.frozen_model import (
    FrozenModel,
    Port,
    Signature,
    freeze_model,
)
from ec_estimator.export.mnn_format import MODEL, PORTS, MnnFormat
from ec_estimator.export.mnn_params import compression_params
from tests.export.test_mnn import (
    SERVING,
    X,
    pools,
    quantized,
    receiver,
    trained,
    winograd,
    written,
)


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


@pytest.mark.parametrize(
    "change, fault",
    [
        (lambda layers: layers[:-3], "'head/kernel' is in float"),
        (
            lambda layers: [layer._replace(winograd=None) for layer in layers],
            "'conv2d/kernel' is no Winograd convolution",
        ),
        (
            lambda layers: [
                la._replace(weights=la.weights._replace(scales=2 * la.weights.scales))
                for la in layers
            ],
            "'conv2d/kernel' has other steps of its kernel",
        ),
        (
            lambda layers: [
                la._replace(output=la.output._replace(low=-7)) for la in layers
            ],
            "'conv2d/kernel' puts out other integers",
        ),
    ],
    ids=["float", "no winograd", "steps", "bits"],
)
def test_a_layer_that_the_converter_did_not_keep_is_an_error(
    change, fault, winograd_model, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        mnn_format,
        "compression_params",
        lambda layers, block: compression_params(change(layers), block),
    )
    with pytest.raises(ExportError, match=f"did not keep .*{fault}"):
        MnnFormat().write(winograd_model, SERVING, str(tmp_path), {"x": X})


@pytest.fixture(scope="module")
def winograd_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("winograd")
    estimator = trained(winograd, folder, quantized(int8_winograd=True))
    return freeze_model(estimator, receiver, estimator.latest_checkpoint())


def test_64_bit_integers_go_in_and_come_out(tmp_path):
    def build():
        ids = tf.placeholder(tf.int64, [None, 2], "ids")
        return {"ids": ids}, {"twice": ids * 2, "sum": tf.reduce_sum(ids, 1)}

    ids = np.array([[0, -3], [2**20, 5]])
    MnnFormat().write(frozen(build), "one", str(tmp_path), {"ids": ids})
    answers = MnnFormat().run(str(tmp_path), {"ids": ids})
    np.testing.assert_array_equal(answers["twice"], ids * 2)
    np.testing.assert_array_equal(answers["sum"], ids.sum(1))
    assert answers["twice"].dtype == answers["sum"].dtype == np.int64
    with pytest.raises(ExportError, match="input 'ids' has numbers that .*int32"):
        MnnFormat().run(str(tmp_path), {"ids": ids + 2**31})


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


def test_an_output_that_is_not_its_ops_first_is_refused(tmp_path):
    def build():
        x = tf.placeholder(tf.float32, [None, 4], "x")
        return {"x": x}, {"right": tf.split(x, 2, 1)[1]}

    with pytest.raises(ExportError, match="'split:1' is not the first of its op"):
        MnnFormat().write(frozen(build), "one", str(tmp_path), {"x": np.ones((1, 4))})


def test_without_examples_there_is_a_sentence(tmp_path):
    def build():
        x = tf.placeholder(tf.float32, [None, 4], "x")
        return {"x": x}, {"y": x * 2}

    with pytest.raises(ExportError, match="give the exporter an input_fn"):
        MnnFormat().write(frozen(build), "one", str(tmp_path), {})
