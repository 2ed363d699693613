"""The coverage report as a user reads it: every layer, and where the weights are."""
import re

import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.config import SparsifierConfig
from ec_estimator.core.columns import columns
from ec_estimator.graph.coverage import format_coverage, format_totals
from ec_estimator.graph.fold import fold
from ec_estimator.sparsity.sparsifier import Sparsifier
from tests.graph.planned import TAKEN, Second, attention, plan


def cells(report):
    return [re.split(r"\s{2,}", line) for line in report.splitlines()]


def test_it_lists_every_layer_and_counts():
    lines = cells(format_coverage(plan(attention)))
    assert lines[0] == ["layer", "op", "kernel", "weights", "sparsity"]
    assert set("".join(lines[1])) == {"-"}
    assert lines[2] == ["query/Tensordot/MatMul", "MatMul", "query/kernel", "16", TAKEN]
    assert lines[3] == ["scores", "BatchMatMulV2", "multiplies two activations"]
    assert format_totals(plan(attention)).splitlines() == [
        "sparsity: 1 of 2 layers; kernels with 16 of the model's 20 weights (80.0%)",
        "  left alone: 1 layer: multiplies two activations",
        "  left alone: 4 weights of biases, norms and the like",
    ]


def with_table():
    table = tf.get_variable("words", [50, 4], partitioner=tf.fixed_size_partitioner(2))
    x = tf.nn.embedding_lookup(table, [0, 3])
    return [tf.layers.dense(tf.layers.dense(x, 4, name="one"), 3, name="head")]


def test_embedding_tables_are_listed_with_their_reason_and_share():
    report = format_coverage(plan(with_table, exclude_scopes=("head",)))
    assert ["words", "lookup", "words", "200"] + (
        ["embedding table: looked up, never multiplied"]
    ) in cells(report)
    assert report.splitlines()[-4:] == [
        "sparsity: 1 of 2 layers; kernels with 16 of the model's 235 weights (6.8%)",
        "  left alone: 1 layer with 12 weights: is in exclude_scopes 'head'",
        "  left alone: 1 embedding table with 200 weights",
        "  left alone: 7 weights of biases, norms and the like",
    ]


def deep():
    """Four blocks of three units; the second convolution of block 1 is wider."""
    x = tf.placeholder(tf.float32, [1, 8, 8, 4], "x")
    for block in range(1, 5):
        for unit in range(1, 4):
            with tf.variable_scope(f"n/block{block}/unit_{unit}"):
                x = tf.layers.conv2d(x, 4, 3, padding="same", name="conv")
                size = 5 if block == 1 else 3
                x = tf.layers.conv2d(x, 4, size, padding="same", name="wide")
    return [x]


def test_alike_layers_are_a_row_and_others_are_not():
    lines = cells(format_coverage(plan(deep)))
    every = "n/block{1..4}/unit_{1..3}/conv"
    first, rest = "n/block1/unit_{1..3}/wide", "n/block{2..4}/unit_{1..3}/wide"
    assert [line[0] for line in lines[2:5]] == [
        f"{every}/Conv2D (12 layers)",
        f"{first}/Conv2D (3 layers)",
        f"{rest}/Conv2D (9 layers)",
    ]
    assert lines[2][1:] == ["Conv2D", f"{every}/kernel", "144", TAKEN]
    assert lines[5] == [""]


def test_what_a_folded_name_shows():
    names = ["a1/b", "a3/b", "a3/c", "a01", "a2", "a3"]
    rows = [((name,), "same") for name in names] + [(("a5/b",), "other")]
    assert fold(rows) == [
        (("a{1,3}/b",), "same", 2),
        (("a3/c",), "same", 1),
        # No number that is not there is shown.
        (("a{01,2,3}",), "same", 3),
        (("a5/b",), "other", 1),
    ]


def test_a_folded_row_has_a_layer_for_each_combination_it_shows():
    def row(block, unit, conv):
        name = f"block{block}/unit_{unit}/conv{conv}"
        return (name, f"{name}/w_{block}"), "same"

    # conv1 of unit 1 is not among them: {1,2} x {1,2} would show a layer too many.
    rows = [row(7, 1, 2), row(7, 2, 1), row(7, 2, 2), row(8, 2, 1), row(8, 2, 2)]
    assert fold(rows) == [
        (("block7/unit_1/conv2", "block7/unit_1/conv2/w_7"), "same", 1),
        (("block{7,8}/unit_2/conv{1,2}", "block{7,8}/unit_2/conv{1,2}/w_{7,8}"),)
        + ("same", 4),
    ]


def test_no_line_is_longer_than_120_letters():
    def network():
        scope = "/".join(f"a_scope_with_a_long_name_{'xyz'[i]}" for i in range(3))
        with tf.variable_scope(scope):
            x = tf.layers.conv2d(tf.ones([1, 8, 8, 4]), 4, 3, name="conv")
            x = tf.layers.dense(tf.layers.flatten(x), 3, name="head")
        return [x]

    config = SparsifierConfig()
    made = plan(network, Sparsifier(config), Second(config))
    lines = format_coverage(made).splitlines()
    assert 110 < max(map(len, lines)) <= 120
    assert "is no convolution" in " ".join(format_totals(made).split())


def test_a_cell_that_is_too_wide_is_cut_after_a_slash_or_space():
    assert columns(("name", "n"), [("one/two three/x", "10")], (1,), 13) == [
        "name        n",
        "---------  --",
        "one/two    10",
        "three/x",
    ]


@pytest.mark.parametrize("width", [None, 40])
def test_a_table_that_fits_is_as_wide_as_its_cells(width):
    assert columns(("a",), [("bb",)], (), width) == ["a", "--", "bb"]
