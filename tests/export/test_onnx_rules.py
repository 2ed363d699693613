"""What breaks TensorRT's rules is found, and said with the node's name."""
import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ec_estimator.export.onnx_rules import broken_rules


def constants(**changed):
    arrays = {
        "step": np.float32(0.5),
        "zero": np.int8(0),
        "integers": np.ones((4, 4, 1, 1), np.int8),
        "steps": np.full(4, 0.5, np.float32),
        "zeros": np.zeros(4, np.int8),
        "bias": np.zeros(4, np.float32),
        **changed,
    }
    return [numpy_helper.from_array(np.asarray(a), name) for name, a in arrays.items()]


def quantized(x, name):
    return [
        helper.make_node("QuantizeLinear", [x, "step", "zero"], [f"{name}/q"]),
        helper.make_node("DequantizeLinear", [f"{name}/q", "step", "zero"], [name]),
    ]


def kernel(name="w", axis=0):
    inputs = ["integers", "steps", "zeros"]
    return [helper.make_node("DequantizeLinear", inputs, [name], axis=axis)]


def conv(x, w, y, *bias):
    return [helper.make_node("Conv", [x, w, *bias], [y])]


def model(nodes, output="y", **changed):
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 2, 2])
        for name in ("x", output)
    ]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], constants(**changed))
    opset = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


def a_layer(**changed):
    nodes = [*quantized("x", "xq"), *kernel(), *conv("xq", "w", "y", "bias")]
    return model(nodes, **changed)


def a_block(*shortcut_or_branch):
    nodes = [*quantized("x", "xq"), *kernel(), *conv("xq", "w", "c")]
    if "branch" in shortcut_or_branch:
        nodes += quantized("c", "cq")
    branch = "cq" if "branch" in shortcut_or_branch else "c"
    shortcut = "xq" if "shortcut" in shortcut_or_branch else "x"
    return model([*nodes, helper.make_node("Add", [shortcut, branch], ["y"])])


@pytest.mark.parametrize(
    "made", [a_layer(), a_block("shortcut"), a_block("branch"), a_block()]
)
def test_what_keeps_the_rules(made):
    onnx.checker.check_model(made, full_check=True)
    assert broken_rules(made) == []


def without_zero_point():
    made = a_layer()
    del made.graph.node[0].input[2]
    return made


def without_quantized_input():
    return model([*kernel(), *conv("x", "w", "y")])


def with_quantized_bias():
    nodes = [
        *quantized("x", "xq"),
        *kernel(),
        helper.make_node("DequantizeLinear", ["zeros", "step", "zero"], ["b"]),
        *conv("xq", "w", "y", "b"),
    ]
    return model(nodes)


def with_scales_of_other_channels():
    return model([*quantized("x", "xq"), *kernel(axis=1), *conv("xq", "w", "y")])


def with_quantized_output():
    nodes = [*quantized("x", "xq"), *kernel(), *conv("xq", "w", "c")]
    return model([*nodes, *quantized("c", "y")])


def with_integers_that_others_read():
    made = a_layer()
    made.graph.node.append(helper.make_node("Neg", ["xq/q"], ["other"]))
    return made


def with_another_step():
    made = a_layer()
    made.graph.node[1].input[1] = "other"
    made.graph.initializer.append(numpy_helper.from_array(np.float32(0.25), "other"))
    return made


@pytest.mark.parametrize(
    "made,rule",
    [
        (without_zero_point(), "QuantizeLinear 'xq/q': its zero point has to be there"),
        (a_layer(zero=np.uint8(0)), "'xq': its zero point has to be int8 and 0, is ui"),
        (a_layer(zero=np.int8(3)), "its zero point has to be int8 and 0, is int8 3"),
        (a_layer(step=np.float32(0)), "its scale has to be a constant above 0"),
        (a_layer(steps=np.float32([1, np.inf, 1, 1])), "'w': its scale has to be"),
        (a_layer(step=np.full(4, 1, np.float32)), "not one a channel"),
        (
            a_layer(integers=np.ones((4, 4, 1, 1), np.uint8)),
            "'w': integers of a kernel have to be int8, are uint8",
        ),
        (without_quantized_input(), "Conv 'y': its kernel is quantized and its input"),
        (with_quantized_bias(), "Conv 'y': its bias has to be float"),
        (with_scales_of_other_channels(), "along axis 1, and .* of Conv 'y' along 0"),
        (with_quantized_output(), "'y': an output of the model has to be float"),
        (with_integers_that_others_read(), "a DequantizeLinear of the same scale"),
        (with_another_step(), "a DequantizeLinear of the same scale"),
        (a_block("branch", "shortcut"), "Add 'y': both inputs are quantized"),
    ],
)
def test_what_breaks_one_is_named(made, rule):
    found = broken_rules(made)
    assert any(re.search(rule, sentence) for sentence in found), found
