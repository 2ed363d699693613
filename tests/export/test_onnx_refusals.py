"""What ONNX or an engine cannot hold is said in a sentence, and what would help."""
import sys

import numpy as np
import onnx
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.export.format import EngineMissing, ExportError
from ec_estimator.export.frozen_model import FrozenModel, Port, Signature
from ec_estimator.export.onnx_format import OnnxFormat
from tests.export import onnx_runs
from tests.export.onnx_runs import quantizer, run_of


def frozen(build):
    """A model without layers: build(graph) -> (inputs, outputs) by key."""
    with tf.Graph().as_default() as graph:
        inputs, outputs = build()
    ports = [
        {k: Port(t.name, tuple(t.shape.as_list()), t.dtype) for k, t in tensors.items()}
        for tensors in (inputs, outputs)
    ]
    signatures = {"serve": Signature(*ports)}
    return FrozenModel(graph.as_graph_def(), signatures, {}, {}, {}, frozenset())


def write(build, folder, target="onnxruntime"):
    made = OnnxFormat(target)
    made.write(frozen(build), "serve", str(folder), {})
    return made


def number(name="x"):
    return tf.placeholder(tf.float32, [None, 3], name)


@pytest.mark.parametrize(
    "target,config,reason",
    [
        ("tensorrt", dict(signed="auto"), "QuantizerConfig.signed='auto' .* signed=Tr"),
        ("tensorrt", dict(signed=False), "QuantizerConfig.signed=False"),
        ("tensorrt", dict(int8_winograd=True), "QuantizerConfig.int8_winograd=True"),
        ("tensorrt", dict(), "^$"),
        ("onnxruntime", dict(post_quant=True), "QuantizerConfig.signed=True .*'auto'"),
        ("onnxruntime", dict(signed="auto"), "QuantizerConfig.post_quant=False"),
        ("onnxruntime", dict(signed="auto", post_quant=True), "^$"),
        ("openvino", dict(), "^$"),
        ("openvino", dict(int8_winograd=True), "QuantizerConfig.int8_winograd=True"),
    ],
)
def test_what_training_has_to_be_like(target, config, reason):
    import re

    found = OnnxFormat(target).refuse_training(ec.QuantizerConfig(**config))
    assert re.search(reason, found), found


def test_unknown_targets():
    with pytest.raises(ValueError, match="'ort' is not one of onnxruntime, openvino"):
        OnnxFormat("ort")


def test_unsigned_activations_for_tensorrt(tmp_path):
    run = run_of("raw", tmp_path, quantizer(signed="auto"))
    with pytest.raises(ExportError, match="unsigned integers.*QuantizerConfig.signed"):
        run.write("tensorrt")


def test_winograd_convolutions(tmp_path):
    run = run_of("vgg", tmp_path, quantizer(int8_winograd=True))
    with pytest.raises(ExportError, match="'conv2d/Conv2D' was trained as.*winograd"):
        run.write("onnxruntime")


def test_strings_that_the_graph_parses(tmp_path):
    def build():
        examples = tf.placeholder(tf.string, [None], "examples")
        spec = {"x": tf.FixedLenFeature([3], tf.float32)}
        parsed = tf.parse_example(examples, spec)["x"]
        return {"examples": examples}, {"y": parsed}

    with pytest.raises(ExportError, match="input 'examples' .* takes strings"):
        write(build, tmp_path)
    assert not list(tmp_path.iterdir())


def test_ops_without_an_onnx_form(tmp_path):
    def build():
        x = number()
        return {"x": x}, {"y": tf.lbeta(x) + tf.digamma(x)[:, 0]}

    with pytest.raises(ExportError, match="Digamma.*no ONNX form; build it"):
        write(build, tmp_path)


def test_tables(tmp_path):
    def build():
        table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer([1, 2], [3.0, 4.0], tf.int64), 0.0
        )
        x = tf.placeholder(tf.int64, [None], "x")
        return {"x": x}, {"y": table.lookup(x)}

    with pytest.raises(ExportError, match="HashTable"):
        write(build, tmp_path)


def test_outputs_that_are_strings_are_left_out(tmp_path):
    def build():
        x = number()
        return {"x": x}, {"y": x * 2.0, "text": tf.as_string(x)}

    made = write(build, tmp_path)
    assert set(made.run(str(tmp_path), {"x": np.ones([2, 3], np.float32)})) == {"y"}


def test_outputs_that_are_all_strings(tmp_path):
    def build():
        x = number()
        return {"x": x}, {"text": tf.as_string(x)}

    with pytest.raises(ExportError, match="outputs text are strings"):
        write(build, tmp_path)


def test_any_names_several_inputs_and_outputs_that_are_inputs_or_the_same(tmp_path):
    def build():
        one, two = number("scope/a"), number("b")
        total = tf.add(one, two, name="scope/sum")
        outputs = {"x": total, "same:0": total, "as_it/is": two}
        return {"x": one, "in/put:0": two}, outputs

    made = write(build, tmp_path)
    inputs = {
        "x": np.ones([2, 3], np.float32),
        "in/put:0": np.full([2, 3], 2, np.float32),
    }
    answers = made.run(str(tmp_path), inputs)
    assert {name: value[0, 0] for name, value in answers.items()} == {
        "x": 3,
        "same:0": 3,
        "as_it/is": 2,
    }
    model = onnx.load(str(tmp_path / "model.onnx"))
    assert [port.name for port in model.graph.input] == ["x", "in/put:0"]


@pytest.mark.parametrize("package", ["onnx", "tf2onnx"])
def test_a_package_that_is_missing(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EngineMissing, match=r"pip install 'ec_estimator\[onnx\]'"):
        write(lambda: ({"x": number()}, {}), tmp_path)


def test_an_engine_that_is_missing(tmp_path, monkeypatch):
    def build():
        x = number()
        return {"x": x}, {"y": x * 2.0}

    made = write(build, tmp_path)
    monkeypatch.setenv("EC_ESTIMATOR_ENGINES", str(tmp_path / "python"))
    with pytest.raises(EngineMissing, match="onnxruntime"):
        made.run(str(tmp_path), {"x": np.ones([2, 3], np.float32)})


def test_what_others_print_is_left_out(tmp_path):
    def build():
        x = number()
        return {"x": x}, {"y": tf.Print(x, [x], "mine") * 2.0}

    made = write(build, tmp_path)
    assert onnx_runs.count(onnx.load(str(tmp_path / "model.onnx")), "Mul") == 1
    answer = made.run(str(tmp_path), {"x": np.ones([2, 3], np.float32)})
    np.testing.assert_array_equal(answer["y"], np.full([2, 3], 2))
