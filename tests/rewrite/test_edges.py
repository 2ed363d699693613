"""A layer's own share of a kernel's gradient is seen, by all who want to."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.rewrite.edges import (
    leave_branches,
    observe_gradient,
    observe_with,
    reads_anchors,
)
from tests.models import ONE_THREAD


class Observer:
    """Fetches of what it was shown: [(tensor, gradient)]."""

    def __init__(self):
        self.seen = []

    def of(self, op, index):
        observe_gradient(self, op, index, lambda *shown: self.seen.append(shown))


def random(*shape):
    return np.random.RandomState(sum(shape)).standard_normal(shape).astype(np.float32)


X, W = random(5, 3), random(3, 4)


def run(fetches):
    with tf.Session(config=ONE_THREAD) as session:
        session.run(tf.global_variables_initializer())
        return session.run(fetches)


@pytest.mark.parametrize("use_resource", [False, True])
def test_a_regularizer_of_the_same_kernel_is_not_in_it(use_resource):
    with tf.Graph().as_default():
        w = tf.get_variable("w", initializer=W, use_resource=use_resource)
        y = tf.matmul(X, w)
        one, other = Observer(), Observer()
        one.of(y.op, 1), other.of(y.op, 1)
        loss = tf.nn.l2_loss(y) + 3 * tf.nn.l2_loss(w)
        (whole,) = tf.gradients(loss, [w])
        assert len(one.seen) == len(other.seen) == 1
        whole, ((kernel, share),), ((_, again),) = run([whole, one.seen, other.seen])
    expected = X.T.dot(X.dot(W))
    np.testing.assert_array_equal(kernel, W)
    np.testing.assert_allclose(share, expected, rtol=1e-5)
    np.testing.assert_array_equal(again, share)
    np.testing.assert_allclose(whole, expected + 3 * W, rtol=1e-5)


@pytest.mark.parametrize("taken", [True, False])
def test_in_a_branch_what_is_seen_does_not_depend_on_the_branch(taken):
    with tf.Graph().as_default() as graph:
        w = tf.get_variable("w", initializer=W)
        observer = Observer()

        def branch():
            return tf.matmul(X, w, name="a") + 2 * tf.matmul(X, w, name="b")

        y = tf.cond(tf.constant(taken), branch, lambda: tf.zeros([5, 4]))
        for name in ("cond/a", "cond/b"):
            observer.of(graph.get_operation_by_name(name), 1)
        tf.gradients(tf.nn.l2_loss(y), [w])
        # The two layers come in by one Switch, and their sum is seen once.
        [(_, share)] = observer.seen
        share = run(share)
    expected = 9 * X.T.dot(X.dot(W)) if taken else np.zeros([3, 4])
    np.testing.assert_allclose(share, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("outer", [True, False])
@pytest.mark.parametrize("inner", [True, False])
def test_what_was_seen_in_a_branch_can_leave_it(outer, inner):
    with tf.Graph().as_default() as graph:
        # Read in the branch where its reader is.
        w = tf.get_variable("w", initializer=W, use_resource=True)
        zeros, observer = tf.zeros([5, 4]), Observer()

        def branch():
            return tf.cond(
                tf.logical_and(tf.constant(inner), True),
                lambda: zeros,
                lambda: tf.matmul(X, w, name="layer"),
            )

        y = tf.cond(tf.constant(outer), branch, lambda: 2 * zeros)
        observer.of(graph.get_operation_by_name("cond/cond/layer"), 1)
        tf.gradients(tf.nn.l2_loss(y), [w])
        [(kernel, share)] = observer.seen
        share = run(leave_branches(share, kernel.op))
    taken = outer and not inner
    expected = X.T.dot(X.dot(W)) if taken else np.zeros([3, 4])
    np.testing.assert_allclose(share, expected, rtol=1e-4, atol=1e-5)


def test_in_a_loop_the_turns_are_summed_up():
    with tf.Graph().as_default() as graph:
        w = tf.get_variable("w", initializer=random(3, 3))
        observer = Observer()
        _, y = tf.while_loop(
            lambda turn, _: turn < 2,
            lambda turn, x: (turn + 1, tf.matmul(x, w, name="layer")),
            (0, tf.constant(X)),
        )
        observer.of(graph.get_operation_by_name("while/layer"), 1)
        (whole,) = tf.gradients(tf.nn.l2_loss(y), [w])
        [(_, share)] = observer.seen
        share, whole, w = run([share, whole, w])
    y = X.dot(w).dot(w)
    expected = X.dot(w).T.dot(y) + X.T.dot(y.dot(w.T))
    np.testing.assert_allclose(share, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(share, whole)


def test_a_call_for_another_variable_shows_nothing():
    with tf.Graph().as_default():
        w = tf.get_variable("w", initializer=W)
        v = tf.get_variable("v", initializer=random(4, 2))
        h = tf.matmul(X, w)
        observer = Observer()
        observer.of(h.op, 1)
        tf.gradients(tf.nn.l2_loss(tf.matmul(h, v)), [v])
        assert observer.seen == []


def plain(scaled):
    return scaled(tf.constant(X))


def in_turns(scaled):
    """The same three times."""
    return tf.while_loop(
        lambda i, y: i < 3,
        lambda i, y: (i + 1, y + scaled(tf.constant(X))),
        [0, tf.zeros([5, 4])],
    )[1]


def in_a_branch(scaled):
    return tf.cond(
        tf.constant(True), lambda: scaled(tf.constant(X)), lambda: tf.zeros([5, 4])
    )


@pytest.mark.parametrize("kind", ["reference", "resource", "partitioned"])
@pytest.mark.parametrize("place,times", [(plain, 1), (in_turns, 3), (in_a_branch, 1)])
def test_a_gradient_comes_with_that_of_an_anchor(kind, place, times):
    with tf.Graph().as_default():
        parts = tf.fixed_size_partitioner(3) if kind == "partitioned" else None
        options = {"use_resource": kind == "resource", "partitioner": parts}
        start = tf.ones_initializer()
        w = tf.convert_to_tensor(
            tf.get_variable("w", [3, 4], initializer=start, **options)
        )
        other = tf.get_variable("other", [3, 4], initializer=start)
        step = tf.get_variable("step", initializer=2.0, trainable=False)
        seen = []
        observed = observe_with([w], step.read_value(), seen.append)
        assert reads_anchors(observed.op) and not reads_anchors(w.op)

        def scaled(x):
            return tf.matmul(observed * x, w) + tf.matmul(x, other)

        loss = tf.reduce_sum(place(scaled))
        tf.gradients(loss, [other])
        assert not seen
        variables = [v for v in tf.trainable_variables() if v is not other]
        given = tf.concat(tf.gradients(loss, variables), 0)
        given, (gradient,) = run([given, seen])
    np.testing.assert_allclose(gradient, times * 4 * X.sum(), rtol=1e-5)
    # Of which the anchor has no part.
    expected = np.tile(X.sum(0)[:, None], 4) * 2 * times
    np.testing.assert_allclose(given, expected, rtol=1e-5)


def test_without_an_anchor_a_tensor_stays_what_it_is():
    with tf.Graph().as_default():
        tensor = tf.constant(1.0)
        assert observe_with([], tensor, None) is tensor
