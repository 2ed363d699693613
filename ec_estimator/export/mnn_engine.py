"""Runs an .mnn file; a script for a process of its own, without TensorFlow.

    python mnn_engine.py MODEL INPUT,INPUT OUTPUT,OUTPUT

Reads inputs.npz and writes outputs.npz, whose arrays are named by their positions.
"""
import sys

import numpy as np


def main(model, inputs, outputs):
    from MNN import nn

    inputs, outputs = inputs.split(","), outputs.split(",")
    with np.load("inputs.npz") as arrays:
        given = [_variable(arrays[str(i)]) for i in range(len(inputs))]
    answers = nn.load_module_from_file(model, inputs, outputs).forward(given)
    arrays = {str(i): _array(answer) for i, answer in enumerate(answers)}
    np.savez("outputs.npz", **arrays)


def _variable(array):
    from MNN import expr

    types = {"float32": expr.float, "int32": expr.int, "uint8": expr.uint8}
    variable = expr.placeholder(array.shape, expr.NHWC, types[array.dtype.name])
    variable.write(array)
    return variable


def _array(variable):
    from MNN import expr

    # Convolutions leave channels in groups of four.
    if variable.data_format == expr.NC4HW4:
        variable = expr.convert(variable, expr.NHWC)
    return np.array(variable.read())


if __name__ == "__main__":
    main(*sys.argv[1:])
