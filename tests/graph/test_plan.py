"""What a plan says of kernels and compressors, and as JSON."""
import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.config import SparsifierConfig
from ec_estimator.core.errors import PlanError
from ec_estimator.graph.layers import find_layers
from ec_estimator.sparsity.sparsifier import Sparsifier
from tests.graph.planned import (
    NOTHING,
    TAKEN,
    TRAINS_ONLY,
    Second,
    attention,
    plan,
    some,
    towers,
    with_auxiliary_head,
)


def test_a_model_without_layers_has_nothing_to_compress():
    pattern = (
        "nothing to compress: the model's 'infer' graph has no convolution or matrix "
        "product$"
    )
    with pytest.raises(PlanError, match=pattern):
        plan(lambda: [tf.nn.relu(some(2, 4))])


def test_nothing_to_compress_says_why_for_all_layers():
    def network():
        x = some(2, 3, 4)
        x = tf.matmul(x, x, transpose_b=True)
        x = tf.matmul(x, x)
        return [tf.layers.dense(x, 4, name="head")]

    message = (
        "sparsity: nothing to compress in the 3 layers of the model's 'infer' graph: "
        "2 x multiplies two activations; 1 x is in exclude_scopes 'head'"
    )
    with pytest.raises(PlanError, match=f"^{re.escape(message)}$"):
        plan(network, exclude_scopes=["head"])


def mixed():
    x = tf.layers.conv2d(some(2, 8, 8, 3), 5, 3, name="conv")
    return [tf.layers.dense(tf.layers.flatten(x), 4, name="head")]


def test_each_compressor_decides_for_itself():
    found = plan(
        mixed,
        Sparsifier(SparsifierConfig(exclude_scopes=["conv"])),
        Second(SparsifierConfig()),
    )
    assert found.targets == {"sparsity": ("head/kernel",), "second": ("conv/kernel",)}
    assert set(found.kernels) == {"conv/kernel", "head/kernel"}
    assert [row.decisions for row in found.layers] == [
        {"sparsity": "is in exclude_scopes 'conv'", "second": TAKEN},
        {"sparsity": TAKEN, "second": "is no convolution"},
    ]


def test_each_compressor_needs_something_to_compress():
    with pytest.raises(PlanError, match="^second: nothing to compress"):
        plan(
            towers,
            Sparsifier(SparsifierConfig()),
            Second(SparsifierConfig()),
        )


def test_the_plan_as_json():
    found = plan(mixed, Sparsifier(SparsifierConfig()), Second(SparsifierConfig()))
    assert found.to_dict() == {
        "mode": "infer",
        "details": {},
        "kernels": {
            "conv/kernel": {
                "shape": [3, 3, 3, 5],
                "parts": ["conv/kernel"],
                "matrix_shape": [27, 5],
                "compressors": ["sparsity", "second"],
            },
            "head/kernel": {
                "shape": [180, 4],
                "parts": ["head/kernel"],
                "matrix_shape": [180, 4],
                "compressors": ["sparsity"],
            },
        },
    }


def test_the_coverage_as_json():
    assert plan(attention).coverage_dict() == {
        "mode": "infer",
        "layers": [
            {
                "op": "query/Tensordot/MatMul",
                "op_type": "MatMul",
                "kernel": "query/kernel",
                "weights": 16,
                "decisions": {"sparsity": TAKEN},
            },
            {
                "op": "scores",
                "op_type": "BatchMatMulV2",
                "kernel": "",
                "weights": 0,
                "decisions": {"sparsity": "multiplies two activations"},
            },
        ],
        "others": {"tables": {}, "remaining": 4},
    }


def test_layers_of_the_training_graph_are_added_once():
    def training():
        with_auxiliary_head()
        tf.matmul(some(2, 3), tf.nn.relu(some(3, 3)), name="penalty")

    def serving():
        x = tf.layers.dense(some(2, 4), 8, name="trunk")
        return [tf.layers.dense(x, 3, name="head")]

    with tf.Graph().as_default() as graph:
        training()
    found = plan(serving).bound(find_layers(graph), NOTHING)
    assert {(row.op, row.kernel, row.weights) for row in found.layers} == {
        ("trunk/MatMul", "trunk/kernel", 32),
        ("head/MatMul", "head/kernel", 24),
        ("auxiliary/MatMul", "auxiliary/kernel", 24),
        ("penalty", "", 0),
    }
    added = {row.op: row.decisions for row in found.layers[2:]}
    assert added == {
        "auxiliary/MatMul": {"sparsity": TRAINS_ONLY},
        "penalty": {"sparsity": TRAINS_ONLY},
    }
    assert set(found.kernels) == {"trunk/kernel", "head/kernel"}


def test_a_kernel_under_another_op_name_in_training_is_no_new_layer():
    with tf.Graph().as_default() as graph:
        with tf.name_scope("clone"):
            towers()
    # tf.layers names its ops after the variable scope; only the kernels agree.
    found = plan(towers)
    assert found.bound(find_layers(graph), NOTHING).layers == found.layers


def test_partitions_count_as_one_kernel():
    def network():
        with tf.variable_scope("", partitioner=tf.fixed_size_partitioner(2)):
            return [tf.layers.dense(some(2, 6), 4, use_bias=False, name="dense")]

    found = plan(network)
    parts = ("dense/kernel/part_0", "dense/kernel/part_1")
    assert found.targets == {"sparsity": ("dense/kernel",)}
    assert found.kernels["dense/kernel"].parts == parts
    assert np.prod(found.kernels["dense/kernel"].matrix_shape) == 24
