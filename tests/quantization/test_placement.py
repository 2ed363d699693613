"""Which quantizer each tensor gets."""
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.graph.layers import find_layers
from ec_estimator.graph.plan import make_plan
from tests.quantization.test_rewire import MODES, ops


def test_fp32_layers_and_scopes_are_left_alone(tmp_path):
    graph = ops(MODES.PREDICT, tmp_path, fp32_layers=("MatMul",))
    (product,) = [o for o in graph.get_operations() if o.type == "MatMul"]
    assert not any(i.op.type.startswith("FakeQuant") for i in product.inputs)


def test_fp32_layers_that_are_no_layer_are_an_error_with_the_nearest(tmp_path):
    with pytest.raises(ec.ConfigError, match="'MatMull' is no layer; nearest: MatMul"):
        ops(MODES.PREDICT, tmp_path, fp32_layers=("MatMull",))


def test_first_and_last_layer_have_bits_of_their_own(tmp_path):
    graph = ops(MODES.PREDICT, tmp_path, bits=3, wbits=2, first_last_bits=8)
    bits = {
        o.name[len("ec_estimator/quantization/") :]: o.get_attr("num_bits")
        for o in graph.get_operations()
        if o.type.startswith("FakeQuant")
    }
    assert bits == {
        "conv/kernel/quantized": 8,
        "conv/kernel/input/quantized": 8,
        "depthwise/kernel/quantized": 2,
        "depthwise/kernel/input/quantized": 3,
        "dense/kernel/quantized": 8,
        "dense/kernel/input/quantized": 8,
    }


def test_auto_is_unsigned_behind_a_relu_only(tmp_path):
    graph = ops(MODES.PREDICT, tmp_path, signed="auto")
    low = {}
    with tf.Session(graph=graph) as session:
        for op in graph.get_operations():
            if op.type == "FakeQuantWithMinMaxVars":
                feeds = {}
                for o in graph.get_operations():
                    if o.name.endswith("/step_size") and o.outputs[0].shape.rank == 0:
                        feeds[o.outputs[0]] = 0.1
                low[op.name.split("/")[2]] = session.run(op.inputs[1], feeds)
    assert low["depthwise"] == 0
    assert low["conv"] < 0 and low["dense"] < 0


def test_a_kernel_used_both_ways_round_is_fitted_as_it_is_quantized():
    """By the columns of its first reader, here [6, 4] of a variable [4, 6]."""
    with tf.Graph().as_default() as graph:
        w = tf.get_variable("w", [4, 6])
        x = tf.matmul(tf.placeholder(tf.float32, [2, 6]), w, transpose_b=True)
        tf.matmul(tf.tanh(x), w)
        plan = make_plan(
            "session",
            graph,
            find_layers(graph),
            None,
            [ec.LSQQuantizer(ec.QuantizerConfig())],
        )
    placement = plan.details["quantization"]
    assert placement.quantizers["w"].steps == 4
    assert placement.kernels["w"].matrix_shape == (6, 4)


def placed(build, **config):
    """The Placement of a model; `build` makes what it predicts of a placeholder."""
    with tf.Graph().as_default() as graph:
        outputs = build(tf.placeholder(tf.float32, [2, 8, 6]))
        quantizer = ec.LSQQuantizer(ec.QuantizerConfig(**config))
        plan = make_plan("infer", graph, find_layers(graph), outputs, [quantizer])
    return plan.details["quantization"]


@pytest.mark.parametrize("activation", [None, tf.nn.relu])
def test_of_a_layer_that_is_predicted_no_output_is_quantized(activation):
    placement = placed(
        lambda x: [tf.layers.dense(x[:, 0], 4, activation)], post_quant=True
    )
    assert placement.outputs == ()


def test_an_output_is_quantized_after_the_bias_behind_a_squeeze():
    placement = placed(
        lambda x: [tf.reduce_mean(tf.layers.conv1d(x, 4, 3), 1)], post_quant=True
    )
    [output] = placement.outputs
    assert output.tensor == "conv1d/BiasAdd:0"
