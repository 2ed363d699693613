"""TFLite files of TensorFlow 1.15's converter, run by its interpreter."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.export.format import ExportError
from ec_estimator.export.frozen_model import FrozenModel, Port, Signature
from ec_estimator.export.parity import FLOAT, compare, failures
from ec_estimator.export.tflite_format import TFLiteFormat
from tests.export.frozen import trained


def by_hand(build, size, dtype=tf.float32):
    """A FrozenModel of build(x) -> {output key: tensor}."""
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(dtype, size, "scope/x")
        outputs = build(x)
    signature = Signature(
        {"scope/x:y": Port(x.name, size, x.dtype)},
        {
            key: Port(y.name, tuple(y.shape.as_list()), y.dtype)
            for key, y in outputs.items()
        },
    )
    return FrozenModel(graph.as_graph_def(), {"served": signature}, {}, {}, {})


@pytest.mark.parametrize(
    "network,compressed",
    [
        # A transposed convolution: resized to 3 examples, its file answers otherwise.
        ("layers", "dense"),
        pytest.param("rank3_dense", "dense", marks=pytest.mark.slow),
        ("raw", "sparse"),
        ("raw", "pruned"),
    ],
)
def test_it_answers_as_the_estimator(network, compressed, tmp_path):
    model, signature, samples, answers = trained(network, compressed)
    files = TFLiteFormat().write(model, signature, str(tmp_path), samples)
    assert sorted(files) == sorted(path.name for path in tmp_path.iterdir())
    found = TFLiteFormat().run(str(tmp_path), samples)
    assert set(found) == set(answers)
    for key, answer in answers.items():
        np.testing.assert_allclose(found[key], answer, rtol=1e-4, atol=1e-5)


def test_eight_bit_weights_are_a_quarter_of_the_bytes(tmp_path):
    model, signature, samples, answers = trained("keras_layers")
    sizes = []
    for optimizations in ((), (tf.lite.Optimize.DEFAULT,)):
        format = TFLiteFormat(optimizations)
        format.write(model, signature, str(tmp_path), samples)
        sizes.append((tmp_path / "model.tflite").stat().st_size)
    assert sizes[1] < 0.4 * sizes[0]
    found = format.run(str(tmp_path), samples)["logits"]
    error = np.abs(found - answers["logits"]).max()
    assert 0 < error < 0.02 * np.ptp(answers["logits"])
    compared = compare({"logits": answers["logits"]}, {"logits": found})
    assert failures(compared, FLOAT)
    assert failures(compared, format.float_limits) == []
    assert TFLiteFormat().float_limits is None


def test_a_quantized_model_is_refused(tmp_path):
    model, signature, samples, _ = trained("raw", "quantized")
    with pytest.raises(ExportError, match="'Conv2D' is quantized.*a scale per channel"):
        TFLiteFormat().write(model, signature, str(tmp_path), samples)
    assert not list(tmp_path.iterdir())


def test_it_is_refused_before_training():
    reason = TFLiteFormat().refuse_training(ec.QuantizerConfig())
    assert "export a quantized model as ONNX or for MNN" in reason


def halved(x):
    return tf.while_loop(lambda y: tf.reduce_max(y) > 1, lambda y: y / 2, [x])


def decided(x):
    fed = tf.placeholder_with_default(True, [])
    return tf.cond(fed, lambda: tf.nn.relu(x), lambda: tf.nn.elu(x))


@pytest.mark.parametrize(
    "build,message",
    [
        (tf.linalg.inv, "the converter lacks MatrixInverse; "),
        (halved, "the converter lacks Enter, Exit, LoopCond, Merge, Switch; "),
        (decided, "the converter failed: .* only Merge supported"),
    ],
)
def test_what_it_lacks_is_named(build, message, tmp_path):
    model = by_hand(lambda x: {"y": build(x)}, (2, 2))
    with pytest.raises(ExportError, match=f"tflite: {message}"):
        TFLiteFormat().write(model, "served", str(tmp_path), {})
    assert not list(tmp_path.iterdir())


def test_strings_are_refused(tmp_path):
    model = by_hand(lambda x: {"number": tf.strings.to_number(x)}, (None,), tf.string)
    with pytest.raises(
        ExportError, match="'scope/x:y' of signature 'served' holds str"
    ):
        TFLiteFormat().write(model, "served", str(tmp_path), {})


def two_outputs(x):
    left, right = tf.split(x, 2, axis=-1)
    return {"left": left * 2.0, "right": right, "again": right}


def test_second_outputs_of_ops_and_keys_with_colons(tmp_path):
    model = by_hand(two_outputs, (None, 4, 6))
    x = np.arange(72, dtype=np.float32).reshape(3, 4, 6)
    TFLiteFormat().write(model, "served", str(tmp_path), {"scope/x:y": x})
    found = TFLiteFormat().run(str(tmp_path), {"scope/x:y": x})
    assert set(found) == {"left", "right", "again"}
    np.testing.assert_array_equal(found["left"], 2 * x[..., :3])
    np.testing.assert_array_equal(found["right"], x[..., 3:])
    np.testing.assert_array_equal(found["again"], x[..., 3:])


@pytest.mark.parametrize("size", [(2, 4, 6), (None, None, 6), None])
def test_sizes_are_the_signature_s_or_else_the_samples(size, tmp_path):
    model = by_hand(lambda x: {"y": tf.nn.relu(x)}, (None, 4, 6))
    signature = model.signatures["served"]
    port = signature.inputs["scope/x:y"]._replace(size=size)
    served = signature._replace(inputs={"scope/x:y": port})
    model = model._replace(signatures={"served": served})
    x = np.random.RandomState(0).standard_normal((4, 4, 6)).astype(np.float32)
    TFLiteFormat().write(model, "served", str(tmp_path), {"scope/x:y": x})
    found = TFLiteFormat().run(str(tmp_path), {"scope/x:y": x})
    np.testing.assert_array_equal(found["y"], np.maximum(x, 0))
    if size != (2, 4, 6):
        with pytest.raises(ExportError, match="'scope/x:y' has the unknown shape"):
            TFLiteFormat().write(model, "served", str(tmp_path), {})


@pytest.mark.parametrize("text", ["{", '{"inputs": {}}', '{"inputs": {"x": 1}}'])
def test_damaged_names_are_an_error(text, tmp_path):
    (tmp_path / "io.json").write_text(text)
    with pytest.raises(ExportError, match="io.json' is damaged"):
        TFLiteFormat().run(str(tmp_path), {})


def test_what_its_interpreter_refuses_is_an_error(tmp_path):
    """The converter takes the sum of a squeezed tensor for one of the whole."""

    def build(x):
        y = tf.squeeze(x, [3]) + tf.ones([16, 16])
        return {"y": tf.reshape(y, [1, 256])}

    model = by_hand(build, (None, 16, 16, 1))
    inputs = {"scope/x:y": np.ones([1, 16, 16, 1], np.float32)}
    TFLiteFormat().write(model, "served", str(tmp_path), inputs)
    with pytest.raises(ExportError, match="tflite: the interpreter refuses what"):
        TFLiteFormat().run(str(tmp_path), inputs)
