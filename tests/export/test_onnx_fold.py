"""What is folded into a kernel's steps, and what stays because it is not the same."""
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from ec_estimator.export.onnx_fold import fold

random = np.random.RandomState(0)
NORM = ["gamma", "beta", "mean", "variance"]
CONSTANTS = {
    "integers": random.randint(-127, 128, (4, 4, 2, 2)).astype(np.int8),
    "matrix": random.randint(-127, 128, (4, 4)).astype(np.int8),
    "steps": np.float32([0.01, 0.02, 0.03, 0.04]),
    "zeros": np.zeros(4, np.int8),
    "gamma": np.float32([2, -1, 0, 0.5]),
    "beta": np.float32([1, 2, 3, 4]),
    "mean": np.float32([0.5, 0, -0.5, 1]),
    "variance": np.float32([1, 4, 0.25, 2]),
    "bias": np.float32([1, -1, 2, -2]),
    "factor": np.float32([1, -2, 3, 0]).reshape(4, 1, 1),
    "row": np.float32([1, -2, 3, 0]),
    "scalar": np.float32(-3),
    "per_example": np.float32([1, 2, 3, 4]).reshape(4, 1, 1, 1),
    "cube": np.float32([[[1, 2, 3, 4]]]),
}


def node(op_type, *inputs, y="y", **attributes):
    return helper.make_node(op_type, list(inputs), [y], **attributes)


def layer(op_type="Conv", y="c", bias=(), **attributes):
    name = "matrix" if op_type in ("MatMul", "Gemm") else "integers"
    axis = 0 if op_type == "Conv" else 1
    return [
        node("DequantizeLinear", name, "steps", "zeros", y="w", axis=axis),
        node(op_type, "x", "w", *bias, y=y, **attributes),
    ]


def model(nodes, outputs=("y",), rank=None):
    shape = [4, 4] if any(n.op_type in ("MatMul", "Gemm") for n in nodes) else [4] * 4
    size = [None] * (rank or len(shape))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, size) for n in outputs],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in CONSTANTS.items()],
    )
    opset = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=opset, ir_version=7)


def answers(made):
    session = onnxruntime.InferenceSession(
        made.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    [port] = session.get_inputs()
    x = np.random.RandomState(1).standard_normal(port.shape).astype(np.float32)
    return session.run(None, {"x": x})


def folded(made):
    """The ops that are left; checks that the answers are."""
    before = answers(made)
    fold(made)
    onnx.checker.check_model(made)
    for one, other in zip(before, answers(made)):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-4)
    return [n.op_type for n in made.graph.node]


@pytest.mark.parametrize("op_type", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("bias", [(), ("bias",)])
@pytest.mark.parametrize(
    "behind",
    [
        [node("BatchNormalization", "c", *NORM)],
        [node("Mul", "c", "factor")],
        [node("Mul", "scalar", "c")],
        [node("Add", "c", "factor", y="d"), node("Mul", "d", "factor")],
        [node("Mul", "c", "factor", y="d"), node("BatchNormalization", "d", *NORM)],
    ],
    ids=lambda nodes: "_".join(n.op_type for n in nodes),
)
def test_what_is_folded_into_a_convolution(op_type, bias, behind):
    made = model(layer(op_type, bias=bias) + behind)
    assert folded(made) == ["DequantizeLinear", op_type]


@pytest.mark.parametrize("op_type", ["MatMul", "Gemm"])
def test_what_is_folded_into_a_product(op_type):
    behind = [node("Add", "c", "bias", y="d"), node("Mul", "d", "row")]
    left = ["DequantizeLinear", op_type] + ["Add"] * (op_type == "MatMul")
    assert folded(model(layer(op_type) + behind)) == left


@pytest.mark.parametrize(
    "behind,outputs",
    [
        # The layer's own output is read by others.
        ([node("Mul", "c", "factor"), node("Relu", "c", y="z")], ("y", "z")),
        ([node("Mul", "c", "factor")], ("y", "c")),
        # Not a factor a channel.
        ([node("Mul", "c", "row")], ("y",)),
        ([node("Mul", "c", "per_example")], ("y",)),
        ([node("Mul", "c", "x")], ("y",)),
        ([node("Relu", "c", y="r"), node("Mul", "r", "factor")], ("y",)),
    ],
)
def test_what_stays_behind_a_convolution(behind, outputs):
    assert "Mul" in folded(model(layer(pads=[0, 0, 1, 1]) + behind, outputs))


def test_a_bias_alone_stays_behind_a_product():
    made = model([*layer("MatMul"), node("Add", "c", "bias")])
    assert folded(made) == ["DequantizeLinear", "MatMul", "Add"]


def test_a_factor_that_adds_an_axis_stays():
    made = model([*layer("MatMul"), node("Mul", "c", "cube")], rank=3)
    assert folded(made) == ["DequantizeLinear", "MatMul", "Mul"]


def test_two_layers_of_one_kernel_are_folded_apart():
    nodes = [
        *layer(y="c"),
        node("Mul", "c", "factor"),
        node("Conv", "x", "w", y="z"),
    ]
    made = model(nodes, ("y", "z"))
    assert sorted(folded(made)) == ["Conv"] * 2 + ["DequantizeLinear"] * 2
