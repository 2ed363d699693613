"""ONNX files answer as the models they were made of, fake-quant ops and all."""
import collections
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.export.onnx_targets import TARGETS
from examples import cifar10_model
from tests import models
from tests.export import onnx_runs
from tests.export.onnx_runs import FAST, ON_THE_GRID, quantizer, run_of

# Of these `make test` has each way of compression; of the others the one that engines
# are fast with.
QUICK = ("raw", "residual")
MODELS = (
    *("layers", "mobile_net", "u_net", "rank3_dense", "dnn"),
    *("keras_layers", "keras_estimator", "conv1d", "slim", "shared", "dense_net"),
    *("transformer", "dynamic_rnn", "wide_and_deep", "transposed", "vgg"),
    *("squeeze_and_excite", "batch_norm_placeholder"),
    "slim_resnet_v2",
)
TESTED = MODELS[:5]


def ways(*quick):
    """All models, all but those named as slow ones."""
    for model in (*QUICK, *MODELS):
        slow = model not in quick
        yield pytest.param(model, marks=[pytest.mark.slow] * slow)


def check(run, *targets, share=1.0):
    expected = run.reference()
    for target in targets:
        _, folder, _ = run.write(target)
        onnx_runs.assert_same(onnx_runs.evaluate(folder, run.inputs), expected, share)


def _zeros(arrays):
    """How often there are arrays of a size with a number of zeros: the converter lays
    kernels out anew, under names of its own."""
    return collections.Counter(
        (array.size, int(np.sum(array == 0))) for array in arrays
    )


@pytest.mark.parametrize("name", ways("residual"))
def test_a_float_model(name, tmp_path):
    check(run_of(name, tmp_path), "onnxruntime")


@pytest.mark.parametrize("name", ways("raw"))
def test_a_sparse_model_keeps_its_zeros(name, tmp_path):
    run = run_of(name, tmp_path, onnx_runs.sparsifier())
    check(run, "openvino")
    [folder] = tmp_path.glob("openvino")
    arrays = onnx_runs.initializers(onnx_runs.onnx.load(str(folder / "model.onnx")))
    kernels = run.planned_kernels()
    assert kernels
    assert all(np.mean(kernel == 0) >= 0.5 for kernel in kernels if kernel.size > 9)
    missing = _zeros(kernels) - _zeros(arrays.values())
    assert not missing


@pytest.mark.parametrize("name", ways(*QUICK))
def test_signed_integers(name, tmp_path):
    run = run_of(name, tmp_path, quantizer())
    check(run, "tensorrt", "onnxruntime", share=ON_THE_GRID)


@pytest.mark.parametrize("name", ways(*QUICK, *TESTED))
def test_unsigned_integers_and_outputs(name, tmp_path):
    run = run_of(name, tmp_path, quantizer(**FAST))
    check(run, "onnxruntime", share=ON_THE_GRID)


@pytest.mark.slow
@pytest.mark.parametrize("target,config", [("onnxruntime", FAST), ("tensorrt", {})])
def test_a_whole_resnet(target, config, tmp_path):
    """In its 300,000 sums an example a few lie between two integers, and go on."""
    float_run = run_of(cifar10_model.network, tmp_path / "float")
    run = run_of(cifar10_model.network, tmp_path / "int8", quantizer(**config))
    _, folder, _ = run.write(target)
    _, float_folder, _ = float_run.write(target)
    answers, expected = onnx_runs.evaluate(folder, run.inputs), run.reference()
    off = np.abs(answers["logits"] - expected["logits"]).max()
    assert off <= 0.05 * np.abs(expected["logits"]).max()
    sizes = [os.path.getsize(f"{f}/model.onnx") for f in (folder, float_folder)]
    assert sizes[0] <= 0.27 * sizes[1]


@pytest.mark.parametrize(
    "bits",
    [
        dict(bits=4, wbits=2),
        pytest.param(dict(bits=2, wbits=4, signed="auto"), marks=pytest.mark.slow),
        dict(bits=1, wbits=1),
        pytest.param(dict(bits=1, wbits=8, signed="auto"), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_fewer_bits_are_clipped_to(bits, tmp_path):
    run = run_of("raw", tmp_path, quantizer(**bits))
    check(run, "onnxruntime", share=ON_THE_GRID)


def test_engines_answer_so(tmp_path):
    """Their integer ops round biases, and multiply before they round: a step apart."""
    run = run_of("raw", tmp_path, quantizer())
    expected = run.reference()
    for target in TARGETS:
        made, folder, _ = run.write(target)
        answers = made.run(folder, run.inputs)
        assert set(answers) == set(expected)
        for name, value in expected.items():
            off = np.abs(answers[name] - value).max()
            assert off <= 0.05 * np.abs(value).max(), target


def test_sparse_and_quantized(tmp_path):
    compressors = onnx_runs.sparsifier(), quantizer(**FAST)
    check(run_of("raw", tmp_path, *compressors), "onnxruntime", share=ON_THE_GRID)


def test_tensorrt_has_one_side_of_a_residual_block_in_float(tmp_path):
    run = run_of("residual", tmp_path, quantizer(post_quant=True))
    _, _, everywhere = run.write("onnxruntime")
    _, _, model = run.write("tensorrt")
    assert onnx_runs.count(everywhere, "Add") == onnx_runs.count(model, "Add")
    made = {node.output[0]: node.op_type for node in model.graph.node}
    blocks = [
        sorted(made[name] for name in node.input)
        for node in model.graph.node
        if node.op_type == "Add" and all(name in made for name in node.input)
    ]
    assert blocks == [["Conv", "DequantizeLinear"]] * 2


def test_onnx_runtime_finds_each_convolution_rounded_on_both_sides(tmp_path):
    """What its integer ops need, though the shape is read of what is flattened."""
    run = run_of("vgg", tmp_path, quantizer(**FAST))
    _, _, model = run.write("onnxruntime")
    made = {node.output[0]: node for node in model.graph.node}
    readers = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 2
    for node in convolutions:
        assert [made[name].op_type for name in node.input[:2]] == [
            "DequantizeLinear"
        ] * 2
        [relu] = readers[node.output[0]]
        assert [n.op_type for n in readers[relu.output[0]]] == ["QuantizeLinear"]
    zeros = onnx_runs.initializers(model)
    kinds = {
        zeros[node.input[2]].dtype.name
        for node in model.graph.node
        if node.op_type == "QuantizeLinear"
    }
    assert kinds == {"uint8"}


def test_what_is_stored_as_int8_is_a_quarter(tmp_path):
    """The rest are steps, biases and the graph."""

    def network(x, training):
        x = tf.layers.dense(tf.layers.flatten(x), 400, tf.nn.relu)
        x = tf.layers.dense(x, 200, tf.nn.relu)
        return tf.layers.dense(x, models.CLASSES)

    sizes = {}
    for name, compressors in {"float": (), "int8": [quantizer()]}.items():
        run = run_of(network, tmp_path / name, *compressors)
        run.write("onnxruntime")
        file = tmp_path / name / "onnxruntime" / "model.onnx"
        sizes[name] = file.stat().st_size
    assert sizes["int8"] <= 0.27 * sizes["float"]
