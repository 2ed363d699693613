"""How the zeros of a frozen graph's kernels lie."""
from typing import NamedTuple, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.graph.layers import fed_ops, matrix_view
from ec_estimator.graph.op_types import HANDS_ON, LAYER_OPS
from ec_estimator.rewrite.kernels import follow


class Zeros(NamedTuple):
    """Of a kernel, seen as [taps, output channels].

    kernel: name of the constant; matrix_shape: its sizes.
    sparsity: fraction of exact zeros.
    block: the largest (rows, columns) such that all zeros fill whole blocks, cut off at
      the edges; (1, 1) if there are none.
    """

    kernel: str
    matrix_shape: Tuple[int, int]
    sparsity: float
    block: Tuple[int, int]


def find_zeros(graph_def):
    """The zeros of the kernels of a frozen graph.

    Returns:
      {layer's op name: Zeros}, without the products of two activations.
    """
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        kernels = _kernels(graph)
        matrices = {name: matrix for name, (_, matrix) in kernels.items()}
        with tf.Session() as session:
            values = session.run(matrices)
    return {
        name: Zeros(
            kernels[name][0],
            matrix.shape,
            float(np.mean(matrix == 0)),
            block_of(matrix == 0),
        )
        for name, matrix in values.items()
    }


def _kernels(graph):
    """{layer's op name: (name of its constant, its matrix)}"""
    fed = fed_ops(graph)
    kernels = {}
    for op in graph.get_operations():
        for index in LAYER_OPS.get(op.type, ()) if op in fed else ():
            # What is inside a loop or a conditional cannot be fetched there.
            operand = op.inputs[index]
            while operand.op.type in HANDS_ON:
                operand = operand.op.inputs[0]
            if operand.op not in fed and graph.is_fetchable(operand):
                matrix = follow(matrix_view(op, index), operand)
                kernels[op.name] = (_constant(operand.op), matrix)
    return kernels


def block_of(zeros):
    """The largest block that a pattern is made of.

    Blocks of c columns it is where it changes, going right, at multiples of c only, in
    whatever row. So c is the greatest common divisor of all columns where it changes.

    Example: [[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]] changes at columns 2 and 4, and in
    row 1: (1, 2).

    Args:
      zeros: bool [rows, columns].

    Returns:
      (rows, columns)
    """
    if not zeros.any():
        return (1, 1)
    sides = []
    for axis, size in enumerate(zeros.shape):
        changes = np.diff(zeros.astype(np.int8), axis=axis).any(axis=1 - axis)
        places = np.flatnonzero(changes) + 1
        sides.append(int(np.gcd.reduce(places)) if places.size else size)
    return tuple(sides)


def _constant(op):
    while op.type != "Const":
        op = op.inputs[0].op
    return op.name
