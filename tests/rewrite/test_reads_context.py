"""The door opens for one graph, keeps its names, and leaves nothing when it closes."""
import gc
import threading
import weakref

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.rewrite.door import gated_reads
from tests.rewrite.gated import fresh_graph, identity_gate, nodes, started
from tests.rewrite.ways import two_layers, vectors


def zeros(name, gradient):
    return tf.zeros_like(gradient)


def is_overridden(op):
    return "_gradient_op_type" in op.node_def.attr


def a_read(use_resource, name="v"):
    """The op that reads a new variable."""
    return tf.get_variable(name, [2], use_resource=use_resource).value().op


def opened_and_left(graph, how):
    """Opens and closes the context, with a layer made inside."""
    try:
        with gated_reads(graph, zeros):
            two_layers(vectors())
            if how == "by an exception":
                raise KeyError("user code")
    except KeyError:
        assert how == "by an exception"


HOW = pytest.mark.parametrize("how", ["ordinarily", "by an exception"])


@HOW
def test_no_override_is_left_in_the_graph(how):
    with fresh_graph(None) as graph:
        with gated_reads(graph, zeros):
            assert is_overridden(a_read(False, "ref"))
            assert is_overridden(a_read(True, "resource"))
        opened_and_left(graph, how)
        assert not is_overridden(tf.identity(1.0).op)
        for use_resource, name in ((False, "w"), (True, "v")):
            read = a_read(use_resource, name)
            assert read.type in ("Identity", "ReadVariableOp")
            assert not is_overridden(read)
        for op in (tf.Variable([1.0]).value().op, tf.gather([1.0], [0]).op):
            assert not is_overridden(op)


@HOW
def test_no_getter_and_no_creator_is_left(how):
    with fresh_graph(None) as graph:
        scope = tf.get_variable_scope()
        opened_and_left(graph, how)
        assert tf.get_variable_scope() is scope
        assert scope.custom_getter is None
        called = []

        def creator(next_creator, **kwargs):
            called.append(next_creator)
            return next_creator(**kwargs)

        with tf.variable_creator_scope(creator):
            tf.Variable([1.0])
    with tf.Graph().as_default(), tf.variable_creator_scope(creator):
        tf.Variable([1.0])
    # Below it lies TensorFlow's own, as in a graph that was never opened.
    assert called[0].__code__ is called[1].__code__


@HOW
@pytest.mark.parametrize("use_resource", [False, True])
def test_variables_made_afterwards_are_not_gated(how, use_resource):
    with fresh_graph(None) as graph:
        opened_and_left(graph, how)
        before = tf.trainable_variables()
        w = tf.get_variable("w", [3], use_resource=use_resource)
        v = tf.Variable([1.0, 2.0, 3.0], use_resource=use_resource)
        loss = 2.0 * tf.reduce_sum(w) + 3.0 * tf.reduce_sum(v)
        with started() as session:
            gradients = session.run(tf.gradients(loss, [w, v]))
        assert len(before) == 4
    np.testing.assert_array_equal(gradients, [[2.0] * 3, [3.0] * 3])


def test_an_exception_of_user_code_comes_out_as_it_is():
    with fresh_graph(None) as graph:
        with pytest.raises(ZeroDivisionError, match="user code"):
            with gated_reads(graph, zeros):
                raise ZeroDivisionError("user code")


def test_opened_inside_of_scopes_it_changes_no_name():
    def built(gate):
        with fresh_graph(None) as graph:
            with tf.variable_scope("outer"), tf.name_scope("of_names"):
                with tf.variable_scope("inner"):
                    if gate is None:
                        h, _ = two_layers(vectors())
                    else:
                        with gated_reads(graph, gate):
                            h, _ = two_layers(vectors())
                    tf.identity(h, "after")
            return nodes(graph)

    assert built(identity_gate) == built(None)


def test_user_code_holds_the_variable_itself():
    with fresh_graph(None):
        types = [
            type(tf.get_variable(f"v{use_resource}", [2], use_resource=use_resource))
            for use_resource in (False, True)
        ]
    with fresh_graph(zeros):
        w = tf.get_variable("w", [2], use_resource=False)
        v = tf.get_variable("v", [2], use_resource=True)
        assert [type(w), type(v)] == types
        for ours, listed in zip([w, v], tf.trainable_variables()):
            assert ours is listed


def scaled_by(factor):
    def gate(name, gradient):
        return gradient * factor

    return gate


def test_two_graphs_that_are_open_at_once_have_a_gate_each():
    first, second = tf.Graph(), tf.Graph()
    losses = {}
    with first.as_default(), gated_reads(first, scaled_by(2.0)):
        v = tf.get_variable("v", [2])
        with second.as_default(), gated_reads(second, scaled_by(3.0)):
            losses[second] = tf.reduce_sum(tf.get_variable("v", [2]))
        losses[first] = tf.reduce_sum(v) + tf.reduce_sum(tf.get_variable("w", [2]))
    for graph, expected in ((first, [2.0, 2.0]), (second, [3.0])):
        with graph.as_default():
            gradients = tf.gradients(losses[graph], tf.trainable_variables())
            with started() as session:
                found = session.run(gradients)
        np.testing.assert_array_equal(found, [[n, n] for n in expected])


def test_a_graph_that_is_built_while_another_is_open_has_no_gate():
    with fresh_graph(zeros):
        with tf.Graph().as_default():
            v = tf.get_variable("v", [2])
            assert not is_overridden(v.value().op)
            (gradient,) = tf.gradients(2.0 * tf.reduce_sum(v), [v])
            with started() as session:
                np.testing.assert_array_equal(session.run(gradient), [2.0, 2.0])


def test_two_threads_build_two_graphs_with_a_gate_each():
    """Each waits for the other at every step, so that the two are open together."""
    barrier, found, errors = threading.Barrier(2, timeout=60), {}, []

    def build(factor):
        try:
            with tf.Graph().as_default() as graph:
                with gated_reads(graph, scaled_by(factor)):
                    barrier.wait()
                    w = tf.get_variable("w", [2], use_resource=factor == 3.0)
                    barrier.wait()
                    h = tf.keras.layers.Dense(2, use_bias=False)(w[None])
                    barrier.wait()
                    loss = tf.reduce_sum(w) + 0.0 * tf.reduce_sum(h)
                barrier.wait()
                gradients = tf.gradients(loss, [w])
                with started() as session:
                    found[factor] = session.run(gradients)[0]
        except Exception as error:
            barrier.abort()
            errors.append(error)

    threads = [threading.Thread(target=build, args=(n,)) for n in (2.0, 3.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    np.testing.assert_array_equal(found[2.0], [2.0, 2.0])
    np.testing.assert_array_equal(found[3.0], [3.0, 3.0])


def test_a_graph_is_forgotten_with_its_gate():
    """A gate holds tensors of its graph, such as masks; train_and_evaluate makes one
    graph after the other."""

    def build_and_forget():
        with fresh_graph(None) as graph:
            mask = tf.zeros([])
            with gated_reads(graph, lambda name, gradient: gradient * mask):
                v = tf.get_variable("v", [2])
            assert tf.gradients(tf.reduce_sum(v), [v])
        return weakref.ref(graph)

    forgotten = build_and_forget()
    gc.collect()
    assert forgotten() is None


@pytest.mark.parametrize("use_resource", [False, True])
def test_a_copy_of_the_graph_has_ordinary_gradients(use_resource):
    """As tf.train.import_meta_graph makes one from the file beside a checkpoint."""
    with fresh_graph(zeros):
        v = tf.get_variable("v", [4, 2], use_resource=use_resource)
        rows = tf.nn.embedding_lookup(v, [1])
        tf.identity(2.0 * tf.reduce_sum(v) + tf.reduce_sum(rows), "loss")
        copied = tf.train.export_meta_graph()
    with tf.Graph().as_default():
        tf.train.import_meta_graph(copied)
        (v,) = tf.trainable_variables()
        loss = tf.get_default_graph().get_tensor_by_name("loss:0")
        gradient = tf.convert_to_tensor(tf.gradients(loss, [v])[0])
        with started() as session:
            found = session.run(gradient)
    np.testing.assert_array_equal(found, [[2, 2], [3, 3], [2, 2], [2, 2]])
