"""Gradients in a finished graph are those of its masked kernels."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.training.attachment import attach_to_finished_graph
from tests import models
from tests.training.sessions import build, sparsifier

SHAPES = {
    "layers": (9, 9, 3),
    "raw": (8, 8, 3),
    "keras_layers": (8, 8, 3),
    "rnn": (6, 10),
    "rank3": (6, 10),
    "conv1d": (12, 6),
    "placeholder": (8, 8, 3),
}
NETWORKS = {
    "layers": models._layers_network,
    "raw": models._raw_network,
    "keras_layers": models._keras_layers_network,
    "rnn": models._rnn_network,
    "rank3": models._rank3_network,
    "conv1d": models._conv1d_network,
    "placeholder": models._placeholder_network,
}


def optimizer_inputs(graph):
    """{variable name: what its ApplyGradientDescent op gets}."""
    return {
        op.inputs[0].op.name: op.inputs[2]
        for op in graph.get_operations()
        if op.type == "ApplyGradientDescent"
    }


def by_hand(network, shape, kernels, masks, partitioner=None):
    """The same graph with the masks multiplied in where variables are read, by the
    getter that TensorFlow offers for it."""

    def getter(getter, name, *args, **kwargs):
        variable = getter(name, *args, **kwargs)
        if variable.op.name not in kernels:
            return variable
        return variable * masks[variable.op.name]

    tf.set_random_seed(3)
    x, y = tf.data.make_one_shot_iterator(models.dataset(shape)()).get_next()
    with tf.variable_scope("net", custom_getter=getter, partitioner=partitioner):
        logits = network(x["x"], False)
    loss = tf.losses.sparse_softmax_cross_entropy(y, logits)
    variables = tf.trainable_variables()
    gradients = tf.gradients(loss, variables)
    return {v.op.name: g for g, v in zip(gradients, variables)}


# Keras layers do not ask a getter, so their masked graph cannot be made by hand this
# way; test_sgd_moves_only_what_is_alive covers them. In a loop the gradient as the user
# holds it is summed up before any op of ours can see it: there it is what the optimizer
# gets that counts.
@pytest.mark.parametrize("model", sorted(set(NETWORKS) - {"keras_layers"}))
def test_gradients_equal_those_of_a_graph_masked_by_hand(model):
    network, shape = NETWORKS[model], SHAPES[model]
    with tf.Graph().as_default() as graph:
        gradients, _ = build(network, shape)
        attachment = attach_to_finished_graph(graph, [sparsifier()])
        with tf.Session(config=models.ONE_THREAD) as session:
            session.run(tf.global_variables_initializer())
            attachment.attached[0].run_trial(session, 1, 0.5)
            values = {v.op.name: session.run(v) for v in tf.trainable_variables()}
            if model == "rnn":
                gradients = optimizer_inputs(graph)
            actual = session.run(gradients)
    masks = {n: (values[n] != 0).astype(np.float32) for n in attachment.names}
    assert all(0.4 < m.mean() < 0.6 for m in masks.values())
    with tf.Graph().as_default():
        expected = by_hand(network, shape, attachment.names, masks)
        with tf.Session(config=models.ONE_THREAD) as session:
            session.run(tf.global_variables_initializer())
            for variable in tf.trainable_variables():
                variable.load(values[variable.op.name], session)
            expected = session.run(expected)
    assert set(actual) == set(expected)
    for name in expected:
        np.testing.assert_allclose(
            actual[name], expected[name], rtol=1e-5, atol=1e-7, err_msg=name
        )


@pytest.mark.parametrize("model", sorted(NETWORKS))
def test_gradients_are_found_in_the_graph_of_every_model(model, caplog):
    with tf.Graph().as_default() as graph:
        build(NETWORKS[model], SHAPES[model])
        with caplog.at_level("WARNING"):
            attach_to_finished_graph(graph, [sparsifier()])
    assert "No gradient" not in caplog.text


@pytest.mark.parametrize("model", sorted(NETWORKS))
@pytest.mark.parametrize("imported", [False, True])
def test_sgd_moves_only_what_is_alive(model, imported, tmp_path):
    with tf.Graph().as_default() as graph:
        _, train_op = build(NETWORKS[model], SHAPES[model])
        meta = tf.train.export_meta_graph()
    if imported:
        with tf.Graph().as_default() as graph:
            tf.train.import_meta_graph(meta)
            train_op = graph.get_operation_by_name(train_op.name)
    with graph.as_default():
        attachment = attach_to_finished_graph(graph, [sparsifier()])
        with tf.Session(config=models.ONE_THREAD) as session:
            session.run(tf.global_variables_initializer())
            attachment.attached[0].run_trial(session, 1, 0.5)
            variables = [
                v for v in tf.global_variables() if v.op.name in attachment.names
            ]
            before = session.run(variables)
            session.run(train_op)
            after = session.run(variables)
    assert variables
    for old, new in zip(before, after):
        assert np.any(old == 0)
        np.testing.assert_array_equal(new[old == 0], 0)
        assert np.any(new[old != 0] != old[old != 0])


def test_partitions_get_the_gradients_of_their_own_masks():
    network = models._raw_network
    partitioner = tf.fixed_size_partitioner(2)
    with tf.Graph().as_default() as graph:
        gradients, _ = build(network, (8, 8, 3), partitioner)
        attachment = attach_to_finished_graph(graph, [sparsifier()])
        assert len(attachment.names) == 6  # Three kernels in two parts.
        with tf.Session(config=models.ONE_THREAD) as session:
            session.run(tf.global_variables_initializer())
            attachment.attached[0].run_trial(session, 1, 0.5)
            values, actual = session.run(
                [{v.op.name: v for v in tf.trainable_variables()}, gradients]
            )
    for name in attachment.names:
        np.testing.assert_array_equal(actual[name][values[name] == 0], 0)
        assert np.any(actual[name][values[name] != 0] != 0)
