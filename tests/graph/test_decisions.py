"""Which kernels no compressor takes, and why."""

import pytest
import tensorflow.compat.v1 as tf

from tests.graph.planned import (
    TAKEN,
    TRAINS_ONLY,
    attention,
    decisions,
    plan,
    some,
    with_auxiliary_head,
)


def language_model():
    """A table that is looked up, and is the output projection too."""
    table = tf.get_variable("embedding", [11, 4])
    x = tf.nn.embedding_lookup(table, tf.placeholder(tf.int32, [2]))
    x = tf.layers.dense(x, 4, name="dense")
    return [tf.matmul(x, table, transpose_b=True, name="logits")]


@pytest.mark.parametrize("resource", [False, True])
def test_an_embedding_table_stays_dense_where_it_is_the_projection_too(resource):
    def network():
        with tf.variable_scope("", use_resource=resource):
            return language_model()

    assert decisions(network) == {
        "dense/MatMul": TAKEN,
        "logits": "its kernel 'embedding' is an embedding table",
    }


def test_a_partitioned_embedding_table_stays_dense():
    def network():
        with tf.variable_scope("", partitioner=tf.fixed_size_partitioner(2)):
            table = tf.get_variable("embedding", [12, 4])
        x = tf.nn.embedding_lookup(table, tf.placeholder(tf.int32, [2]))
        x = tf.layers.dense(x, 4, name="dense")
        return [tf.matmul(x, tf.convert_to_tensor(table), transpose_b=True, name="out")]

    assert decisions(network)["out"] == "its kernel 'embedding' is an embedding table"


def test_a_sparse_lookup_makes_an_embedding_table():
    def network():
        table = tf.get_variable("embedding", [11, 4])
        x = tf.nn.embedding_lookup_sparse(
            table, tf.sparse_placeholder(tf.int64, [2, 5]), None, combiner="sum"
        )
        x = tf.layers.dense(x, 4, name="dense")
        return [tf.matmul(x, table, transpose_b=True, name="logits")]

    assert (
        decisions(network)["logits"] == "its kernel 'embedding' is an embedding table"
    )


def test_a_lookup_in_what_a_layer_puts_out_is_no_embedding():
    def network():
        y = tf.layers.dense(some(2, 4), 8, name="dense")
        return [tf.gather(y, tf.placeholder(tf.int32, [1]))]

    assert decisions(network) == {"dense/MatMul": TAKEN}


def test_a_head_that_predictions_do_not_read_is_left_alone():
    assert decisions(with_auxiliary_head) == {
        "trunk/MatMul": TAKEN,
        "auxiliary/MatMul": TRAINS_ONLY,
        "head/MatMul": TAKEN,
    }


def test_every_layer_counts_as_served_when_the_predictions_are_not_known():
    def network():
        with_auxiliary_head()

    assert set(decisions(network).values()) == {TAKEN}


def test_a_kernel_that_trains_elsewhere_too_is_compressed():
    def network():
        w = tf.get_variable("w", [4, 4])
        y = tf.matmul(some(2, 4), w, name="served")
        tf.matmul(y, w, name="auxiliary")
        return [y]

    found = plan(network)
    assert found.targets == {"sparsity": ("w",)}
    assert [row.decisions["sparsity"] for row in found.layers] == [TAKEN, TRAINS_ONLY]


def shared():
    w = tf.get_variable("w", [4, 4])
    x = tf.matmul(some(2, 4), w, name="first/product")
    x = tf.matmul(x, w, name="second/product")
    return [tf.layers.dense(x, 3, name="head")]


def test_a_kernel_shared_with_an_excluded_layer_is_left_alone():
    assert decisions(shared, exclude_scopes=["second"]) == {
        "first/product": "shares its kernel with 'second/product', which is left alone",
        "second/product": "is in exclude_scopes 'second'",
        "head/MatMul": TAKEN,
    }


def test_a_kernel_shared_with_a_layer_that_is_not_included_is_left_alone():
    assert decisions(shared, include_scopes=["first", "head"])["first/product"] == (
        "shares its kernel with 'second/product', which is left alone"
    )


def test_a_shared_kernel_is_compressed_once():
    found = plan(shared)
    assert found.targets == {"sparsity": ("w", "head/kernel")}
    assert list(found.kernels) == ["w", "head/kernel"]
    assert found.kernels["w"].size == 16


def test_a_kernel_that_does_not_train_is_left_alone():
    def network():
        x = tf.layers.dense(some(2, 4), 8, name="frozen", trainable=False)
        return [tf.layers.dense(x, 3, name="head")]

    assert decisions(network) == {
        "frozen/MatMul": "its kernel 'frozen/kernel' is not trainable",
        "head/MatMul": TAKEN,
    }


def test_a_serving_graph_in_which_nothing_is_trainable_says_nothing_about_kernels():
    def network():
        x = tf.layers.dense(some(2, 4), 8, name="one", trainable=False)
        return [tf.layers.dense(x, 3, name="two", trainable=False)]

    assert decisions(network) == {"one/MatMul": TAKEN, "two/MatMul": TAKEN}


def test_a_depthwise_kernel_is_refused_with_the_reason():
    def network():
        x = tf.layers.separable_conv2d(some(2, 8, 8, 4), 6, 3, name="layer")
        return [x]

    assert decisions(network) == {
        "layer/separable_conv2d/depthwise": "is depthwise: few weights, and no engine "
        "has a sparse kernel for it",
        "layer/separable_conv2d": TAKEN,
    }


def test_a_layer_without_a_kernel_keeps_its_reason():
    assert decisions(attention)["scores"] == "multiplies two activations"
