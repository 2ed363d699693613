"""Getters of users, within the door and around it: all against mask x dense."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tests.rewrite.door import gated_reads
from tests.rewrite.gated import check_masked, fresh_graph, started
from tests.rewrite.ways import (
    CLASSES,
    WIDTH,
    Network,
    loss_of,
    network,
    two_layers,
    vectors,
)

BOTH_KINDS = pytest.mark.parametrize("use_resource", [False, True])


def float16_getter(getter, name, shape=None, dtype=tf.float32, *args, **kwargs):
    """The official ResNets': stores float32, hands out float16, passes by position."""
    if dtype != tf.float16:
        return getter(name, shape, dtype, *args, **kwargs)
    variable = getter(name, shape, tf.float32, *args, **kwargs)
    return tf.cast(variable, tf.float16, name=name + "_cast")


def by_position(getter, name, shape, dtype, *args, **kwargs):
    return getter(name, shape, dtype, *args, **kwargs)


def by_keyword(getter, **kwargs):
    return getter(**kwargs)


def by_keyword_with_name(getter, name, **kwargs):
    return getter(name=name, **kwargs)


def doubled(getter, *args, **kwargs):
    """Hands out a tensor, as weight normalization does."""
    return getter(*args, **kwargs) * 2.0


@BOTH_KINDS
def test_a_getter_that_hands_out_float16(use_resource):
    def build():
        x = vectors()
        with tf.variable_scope(
            "m", custom_getter=float16_getter, use_resource=use_resource
        ):
            w = tf.get_variable("w", [WIDTH, WIDTH], tf.float16)
            assert w.dtype == tf.float16
            h = tf.tanh(tf.matmul(tf.cast(x, tf.float16), w))
            logits = tf.layers.dense(h, CLASSES)
        assert {v.dtype.base_dtype for v in tf.trainable_variables()} == {tf.float32}
        return network(x, h, logits)

    check_masked(build)


@pytest.mark.parametrize(
    "getter", [by_position, by_keyword, by_keyword_with_name, doubled]
)
def test_a_getter_of_the_users(getter):
    def build():
        x = vectors()
        with tf.variable_scope("m", custom_getter=getter):
            return network(x, *two_layers(x))

    check_masked(build)


@pytest.mark.parametrize(
    "outer,inner",
    [
        (by_position, by_keyword),
        (by_position, float16_getter),
        (by_keyword, by_keyword_with_name),
        (doubled, by_position),
        (doubled, doubled),
    ],
)
def test_nested_getters(outer, inner):
    def build():
        x = vectors()
        with tf.variable_scope("outer", custom_getter=outer):
            with tf.variable_scope("inner", custom_getter=inner):
                return network(x, *two_layers(x))

    check_masked(build)


def test_a_getter_around_the_context():
    def build():
        x = vectors()
        return network(x, *two_layers(x))

    def around(gate):
        with fresh_graph(None) as graph:
            with tf.variable_scope("m", custom_getter=doubled):
                if gate is None:
                    loss = build().loss
                else:
                    with gated_reads(graph, gate):
                        loss = build().loss
            variables = tf.trainable_variables()
            assert [v.op.name.split("/")[0] for v in variables] == ["m"] * 4
            with started() as session:
                return session.run(tf.gradients(loss, variables))

    for gated, dense in zip(around(lambda name, g: g * 0.5), around(None)):
        np.testing.assert_allclose(gated, dense * 0.5, rtol=1e-6)


@BOTH_KINDS
def test_moving_averages_that_a_getter_hands_out(use_resource):
    """A mean teacher: the student trains, the teacher is asked for by a getter."""

    def build():
        x = vectors()
        with tf.variable_scope("m", use_resource=use_resource):
            h, student = two_layers(x)
        average = tf.train.ExponentialMovingAverage(0.9)
        update = average.apply(tf.trainable_variables())

        def averaged(getter, name, *args, **kwargs):
            variable = getter(name, *args, **kwargs)
            return average.average(variable)

        with tf.variable_scope("m", reuse=True, custom_getter=averaged):
            teacher = tf.layers.dense(
                tf.layers.dense(x, WIDTH, tf.tanh, name="dense"),
                CLASSES,
                name="dense_1",
            )
        assert len(tf.trainable_variables()) == 4
        with tf.control_dependencies([update]):
            distance = tf.reduce_sum((student - 0.5 * teacher) ** 2)
        return Network(x, [h, student], loss_of(student) + distance)

    check_masked(build)
