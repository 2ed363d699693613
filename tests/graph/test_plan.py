"""Which kernels a compressor takes, and why not the others."""
import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.config import SparsifierConfig
from ec_estimator.core.errors import ConfigError, PlanError
from ec_estimator.graph.coverage import format_coverage
from ec_estimator.graph.layers import find_layers
from ec_estimator.graph.plan import make_plan
from ec_estimator.sparsity.sparsifier import Sparsifier

TRAINS_ONLY = "only trains: the predictions do not read it"


class Second(Sparsifier):
    """A compressor beside the Sparsifier that takes convolutions only."""

    name = "second"

    def _refusal(self, layer):
        return "" if layer.op_type == "Conv2D" else "is no convolution"


def plan(network, *compressors, **config):
    """The plan of a network; it returns its predictions."""
    compressors = compressors or (Sparsifier(SparsifierConfig(**config)),)
    with tf.Graph().as_default() as graph:
        outputs = network()
    return make_plan("infer", graph, find_layers(graph), outputs, compressors)


def decisions(*args, **config):
    """{op: decision} of the only compressor."""
    return {row.op: row.decisions["sparsity"] for row in plan(*args, **config).layers}


def some(*shape):
    return tf.placeholder(tf.float32, shape, "x")


def towers():
    """tower/one and tower/two, then head; [2, 4] -> [2, 3]."""
    x = some(2, 4)
    with tf.variable_scope("tower"):
        x = tf.layers.dense(x, 8, name="one")
        x = tf.layers.dense(x, 8, name="two")
    return [tf.layers.dense(x, 3, name="head")]


ONE, TWO, HEAD = "tower/one/MatMul", "tower/two/MatMul", "head/MatMul"
TAKEN = "compressed"
NOTHING = {"sparsity": frozenset()}


def test_without_scopes_every_layer_is_compressed():
    assert decisions(towers) == {ONE: TAKEN, TWO: TAKEN, HEAD: TAKEN}


def test_include_scopes_takes_those_layers_only():
    reason = "is in none of include_scopes"
    found = decisions(towers, include_scopes=["tower"])
    assert found == {ONE: TAKEN, TWO: TAKEN, HEAD: reason}
    found = decisions(towers, include_scopes=["tower/two", "head"])
    assert found == {ONE: reason, TWO: TAKEN, HEAD: TAKEN}


def test_exclude_scopes_leaves_those_layers_alone():
    found = decisions(towers, exclude_scopes=["tower/one", "head"])
    assert found == {
        ONE: "is in exclude_scopes 'tower/one'",
        TWO: TAKEN,
        HEAD: "is in exclude_scopes 'head'",
    }


def test_exclude_scopes_wins_over_include_scopes():
    found = decisions(towers, include_scopes=["tower"], exclude_scopes=["tower/two"])
    assert found == {
        ONE: TAKEN,
        TWO: "is in exclude_scopes 'tower/two'",
        HEAD: "is in none of include_scopes",
    }


@pytest.mark.parametrize("scope", ["head", "head/MatMul", "head/kernel"])
def test_a_layer_goes_by_scope_op_or_kernel(scope):
    found = decisions(towers, include_scopes=[scope])
    assert [op for op, decision in found.items() if decision == TAKEN] == [HEAD]


@pytest.mark.parametrize("field", ["include_scopes", "exclude_scopes"])
@pytest.mark.parametrize(
    "scope,nearest", [("tower/tow", "tower/two"), ("haed", "head"), ("tow", "tower")]
)
def test_a_scope_that_matches_nothing_is_an_error_with_the_nearest_names(
    field, scope, nearest
):
    pattern = (
        rf"^SparsifierConfig\.{field}: '{scope}' matches no layer; "
        rf"nearest: (.+, )?{nearest}(, .+)?$"
    )
    with pytest.raises(ConfigError, match=pattern):
        plan(towers, **{field: [scope]})


def test_a_scope_unlike_any_other_still_gets_names():
    pattern = (
        "^SparsifierConfig.exclude_scopes: 'QQQ' matches no layer; nearest: tower, "
    )
    with pytest.raises(ConfigError, match=pattern):
        plan(towers, exclude_scopes=["QQQ"])


@pytest.mark.parametrize("scope", ["tower/o", "towe", "ower", "one", "Tower"])
def test_part_of_a_name_is_no_scope(scope):
    with pytest.raises(ConfigError, match=f"'{scope}' matches no layer"):
        plan(towers, include_scopes=[scope])


def test_one_scope_that_matches_does_not_excuse_another():
    with pytest.raises(ConfigError, match="include_scopes: 'heads' matches no layer"):
        plan(towers, include_scopes=["tower", "heads"])


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


def with_auxiliary_head():
    x = tf.layers.dense(some(2, 4), 8, name="trunk")
    tf.layers.dense(x, 3, name="auxiliary")
    return [tf.layers.dense(x, 3, name="head")]


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


def attention():
    x = tf.layers.dense(some(2, 3, 4), 4, name="query")
    return [tf.matmul(x, x, transpose_b=True, name="scores")]


def test_a_layer_without_a_kernel_keeps_its_reason():
    assert decisions(attention)["scores"] == "multiplies two activations"


def test_a_model_without_layers_has_nothing_to_compress():
    pattern = "nothing to compress: the model has no convolution or matrix product$"
    with pytest.raises(PlanError, match=pattern):
        plan(lambda: [tf.nn.relu(some(2, 4))])


def test_nothing_to_compress_says_why_for_all_layers():
    def network():
        x = some(2, 3, 4)
        x = tf.matmul(x, x, transpose_b=True)
        x = tf.matmul(x, x)
        return [tf.layers.dense(x, 4, name="head")]

    message = (
        "sparsity: nothing to compress in the model's 3 layers: "
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
    }


def test_the_coverage_report_lists_every_layer_and_counts():
    lines = format_coverage(plan(attention)).splitlines()
    cells = [re.split(r"\s{2,}", line) for line in lines]
    assert cells[0] == ["layer", "op", "kernel", "weights", "sparsity"]
    assert set(lines[1]) == {"-", " "}
    assert cells[2] == ["query/Tensordot/MatMul", "MatMul", "query/kernel", "16", TAKEN]
    assert cells[3] == ["scores", "BatchMatMulV2", "multiplies two activations"]
    assert lines[4] == "sparsity: 1 kernels with 16 weights, 1 of 2 layers"
    assert len(lines) == 5


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
