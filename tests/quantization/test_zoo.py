"""Every kind of model, quantized: coverage, steps, distinct values, its export, and
that the same is quantized in every mode."""
import json
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests.models import LARGE, MODELS
from tests.quantization import quantized_ops

# Of most models 4 bits are the same code as 8; of these there are both in `make test`.
OF_BOTH_WIDTHS = ("raw",)
# wide_and_deep has all of dnn, keras_layers the layers of keras_estimator.
HAS_A_TWIN = ("dnn", "keras_estimator")


def widths():
    for model in MODELS:
        for bits in (8, 4):
            repeats = bits == 4 and model not in OF_BOTH_WIDTHS
            slow = repeats or model in (*LARGE, *HAS_A_TWIN)
            yield pytest.param(model, bits, marks=[pytest.mark.slow] * slow)


FAKE_QUANT = ("FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel")


def quantize(**kwargs):
    config = ec.QuantizerConfig(**{"step_interval": 2, "num_trials": 2, **kwargs})
    return lambda model_fn: ec.compress(model_fn, ec.LSQQuantizer(config))


def export(estimator, input_fn, folder):
    """(path of a SavedModel, the features of one batch)."""
    with tf.Graph().as_default(), tf.Session() as session:
        batch = tf.data.make_one_shot_iterator(input_fn().take(1)).get_next()
        features = session.run(batch)[0]

    def receiver():
        given = {
            name: tf.placeholder(value.dtype, (None,) + value.shape[1:])
            for name, value in features.items()
        }
        return tf.estimator.export.ServingInputReceiver(given, given)

    path = estimator.export_saved_model(str(folder), receiver).decode()
    return path, features


def run_saved_model(path, features):
    """(outputs by name, the graph)."""
    with tf.Graph().as_default() as graph, tf.Session() as session:
        loaded = tf.saved_model.load(session, ["serve"], path)
        signature = next(
            s for s in loaded.signature_def.values() if set(s.inputs) == set(features)
        )
        feeds = {signature.inputs[name].name: v for name, v in features.items()}
        outputs = {name: info.name for name, info in signature.outputs.items()}
        return session.run(outputs, feeds), graph


def assert_same(results, expected, most=1e-5):
    common = [
        name
        for name in set(results) & set(expected[0])
        if results[name].dtype == np.float32
    ]
    assert common
    for name in common:
        rows = np.stack([row[name] for row in expected])
        np.testing.assert_allclose(results[name], rows, rtol=0, atol=most)


def assert_few_values_per_channel(path, bits):
    """A kernel's quantized values are at most 2^bits distinct per channel."""
    with tf.Graph().as_default() as graph, tf.Session() as session:
        tf.saved_model.load(session, ["serve"], path)
        kernels = [
            op.outputs[0]
            for op in graph.get_operations()
            if op.type == "FakeQuantWithMinMaxVarsPerChannel"
        ]
        assert kernels
        for kernel, value in zip(kernels, session.run(kernels)):
            for channel in value.reshape(-1, value.shape[-1]).T:
                assert len(np.unique(channel)) <= 2**bits, kernel.name


@pytest.mark.parametrize("model, bits", widths())
def test_a_model_trains_quantized_and_its_export_predicts_the_same(
    model, bits, tmp_path
):
    estimator, input_fn = MODELS[model](str(tmp_path), quantize(bits=bits, wbits=bits))
    estimator.train(input_fn, max_steps=4)
    evaluation = estimator.evaluate(input_fn, steps=2)
    assert np.isfinite(evaluation["loss"])

    with open(tmp_path / "compression" / "coverage.json") as file:
        layers = json.load(file)["layers"]
    decisions = [layer["decisions"]["quantization"] for layer in layers]
    assert all(decisions)
    assert "compressed" in decisions

    reader = tf.train.load_checkpoint(str(tmp_path))
    names = reader.get_variable_to_shape_map()
    fitted = [n for n in names if n.startswith("ec_estimator/") and n.endswith("/step")]
    assert len(fitted) > 1
    for name in fitted:
        step = reader.get_tensor(name)
        assert np.all(np.isfinite(step)) and np.all(step > 0), name
    # The last trial comes before step 4, and a step has been trained since.
    assert reader.get_tensor("ec_estimator/quantization/adam/count") >= 1
    assert np.mean(reader.get_tensor("ec_estimator/quantization/adam/m") != 0) > 0.5

    path, features = export(estimator, input_fn, tmp_path / "export")
    results, graph = run_saved_model(path, features)
    assert_same(results, list(estimator.predict(lambda: input_fn().take(1))))
    quantizers = [op for op in graph.get_operations() if op.type in FAKE_QUANT]
    assert quantizers
    assert_few_values_per_channel(path, bits)
    for op in quantizers:
        for tensor in op.inputs[1:]:
            # Into a loop a constant comes through Enter.
            source = tensor.op.inputs[0] if tensor.op.type == "Enter" else tensor
            assert source.op.type == "Const"
    assert not [
        v for v in graph.get_collection("variables") if "ec_estimator" in v.op.name
    ]
    assert os.path.exists(os.path.join(path, "scales.json"))
    found = quantized_ops.everywhere(estimator, input_fn, path)
    assert quantized_ops.assert_same(found)
