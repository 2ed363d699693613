"""The door: what flows into variables comes out gated, however layers are made."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.rewrite.door import gated_reads
from tests.rewrite.gated import check_masked, fresh_graph, identity_gate, nodes, started
from tests.rewrite.ways import WAYS

EVERY_WAY = pytest.mark.parametrize("way", WAYS)


def seeds(graph):
    """{op's name: its two seeds} of the ops that draw random numbers."""
    return {
        op.name: (op.get_attr("seed"), op.get_attr("seed2"))
        for op in graph.get_operations()
        if op.type in ("RandomUniform", "RandomStandardNormal", "TruncatedNormal")
    }


def trained(way, gate):
    """(nodes, seeds, types of variables, values after 5 steps)."""
    with fresh_graph(gate) as graph:
        network = WAYS[way]()
        train_op = tf.train.MomentumOptimizer(0.1, 0.9).minimize(network.loss)
        variables = tf.global_variables()
        types = {v.op.name: type(v) for v in variables}
        built, random = nodes(graph), seeds(graph)
        with started() as session:
            first = session.run([v.read_value() for v in variables])
            for _ in range(5):
                session.run(train_op)
            last = session.run([v.read_value() for v in variables])
    assert any(np.any(a != b) for a, b in zip(first, last))
    return built, random, types, dict(zip(types, last))


@EVERY_WAY
def test_an_identity_gate_changes_neither_the_graph_nor_a_bit_of_training(way):
    built, random, types, values = trained(way, None)
    built_behind, random_behind, types_behind, values_behind = trained(
        way, identity_gate
    )
    assert [n.name for n in built_behind] == [n.name for n in built]
    assert random_behind == random
    # First values and dropout.
    assert len(random) >= 2
    assert types_behind == types
    assert built_behind == built
    for name, value in values.items():
        np.testing.assert_array_equal(values_behind[name], value, name)


@EVERY_WAY
def test_gradients_of_kernels_are_masked_and_no_other_gradient_changes(way):
    check_masked(WAYS[way])


@EVERY_WAY
def test_the_gate_is_asked_by_the_names_of_the_variables_ops(way):
    asked = []

    def gate(name, gradient):
        asked.append((name, gradient.shape.as_list()))
        return gradient

    with fresh_graph(gate):
        loss = WAYS[way]().loss
        assert asked == []
        variables = tf.trainable_variables()
        tf.gradients(loss, variables)
    shapes = {v.op.name: v.shape.as_list() for v in variables}
    assert {name for name, _ in asked} == set(shapes)
    assert all(shape == shapes[name] for name, shape in asked)


@pytest.mark.parametrize("way", ["tf_layers", "partitioned", "keras_layers"])
def test_gradients_taken_after_the_context_has_closed_are_gated(way):
    def zero(name, gradient):
        return gradient * 0.0

    with fresh_graph(None) as graph:
        with gated_reads(graph, zero):
            loss = WAYS[way]().loss
        gradients = tf.gradients(loss, tf.trainable_variables())
        with started() as session:
            for gradient in session.run(gradients):
                assert not np.any(gradient)
