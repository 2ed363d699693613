"""Writes the ONNX files of test_engines.py; runs in the engines' environment.

    .venv-engines/bin/python -I tests/export/onnx_files.py FOLDER
"""
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def save(path, nodes, inputs, outputs, constants):
    """inputs, outputs: {name: (type, shape)}; constants: {name: array}."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(x, *of) for x, of in inputs.items()],
        [helper.make_tensor_value_info(y, *of) for y, of in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def quantized(node_type, weight, axis):
    """Nodes and constants: Q/DQ at the input "x"; int8 weights, steps on an axis."""
    constants = {
        "step": np.float32(0.5),
        "zero": np.int8(0),
        "weight": weight,
        "weight_step": np.float32([0.25, 0.5]),
        "weight_zero": np.zeros(2, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["d"]),
        helper.make_node(
            "DequantizeLinear",
            ["weight", "weight_step", "weight_zero"],
            ["w"],
            axis=axis,
        ),
        helper.make_node(node_type, ["d", "w"], ["y"]),
    ]
    return nodes, constants


def main(folder):
    real = TensorProto.FLOAT
    matrix = np.int8([[1, -2], [3, 127], [-127, 4]])
    nodes, constants = quantized("MatMul", matrix, axis=1)
    inputs, outputs = {"x": (real, ["n", 3])}, {"y": (real, ["n", 2])}
    save(f"{folder}/matmul.onnx", nodes, inputs, outputs, constants)

    kernel = np.arange(-9, 9, dtype=np.int8).reshape(2, 1, 3, 3)
    inputs, outputs = {"x": (real, [1, 1, 5, 5])}, {"y": (real, [1, 2, 3, 3])}
    nodes, constants = quantized("Conv", kernel, axis=0)
    save(f"{folder}/conv_int8.onnx", nodes, inputs, outputs, constants)

    matrix = np.random.RandomState(0).normal(size=(64, 8)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "weight"], ["y"])]
    inputs, outputs = {"x": (real, [16, 64])}, {"y": (real, [16, 8])}
    save(f"{folder}/float.onnx", nodes, inputs, outputs, {"weight": matrix})

    # Two outputs that are one tensor; names that neither paths nor np.savez take.
    nodes = [
        helper.make_node("Add", ["tower/x:0", "file"], ["sum"]),
        helper.make_node("Identity", ["sum"], ["tower/y:0"]),
        helper.make_node("Identity", ["sum"], ["also"]),
        helper.make_node("Neg", ["sum"], ["minus"]),
    ]
    inputs = {"tower/x:0": (real, ["n"]), "file": (real, ["n"])}
    outputs = dict.fromkeys(["minus", "tower/y:0", "also"], (real, ["n"]))
    save(f"{folder}/names.onnx", nodes, inputs, outputs, {})

    text = TensorProto.STRING
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    inputs, outputs = {"x": (text, ["n"])}, {"y": (text, ["n"])}
    save(f"{folder}/strings.onnx", nodes, inputs, outputs, {})


if __name__ == "__main__":
    main(sys.argv[1])
