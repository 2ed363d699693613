"""What real code does with variables, behind the door: all against mask x dense."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.rewrite.reads import ungated_reads
from tests.rewrite.gated import (
    check_masked,
    fresh_graph,
    mask_of,
    masking_gate,
    started,
)
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


@BOTH_KINDS
@pytest.mark.parametrize("taken", [True, False])
def test_a_layer_in_one_branch_of_a_conditional(use_resource, taken):
    def build():
        x = vectors()
        on = tf.placeholder_with_default(taken, [])
        with tf.variable_scope("m", use_resource=use_resource):
            before = tf.get_variable("w", [WIDTH, WIDTH])
            h = tf.matmul(x, before)
            h = tf.cond(
                on,
                lambda: tf.layers.dense(tf.matmul(h, before), WIDTH, tf.tanh),
                lambda: h,
            )
            return network(x, h, tf.layers.dense(h, CLASSES))

    check_masked(build)


@BOTH_KINDS
def test_a_template_called_twice_and_a_penalty_for_what_is_not_orthogonal(use_resource):
    def layer(x):
        w = tf.get_variable("w", [WIDTH, WIDTH], use_resource=use_resource)
        gram = tf.matmul(w, w, transpose_a=True)
        tf.losses.add_loss(tf.reduce_sum((gram - tf.eye(WIDTH)) ** 2))
        return tf.tanh(tf.matmul(x, w))

    def build():
        x = vectors()
        template = tf.make_template("layer", layer)
        h = template(x)
        y = template(h)
        assert len(tf.trainable_variables()) == 1
        return Network(x, [h, y], loss_of(y) + 0.1 * tf.add_n(tf.losses.get_losses()))

    check_masked(build)


@BOTH_KINDS
def test_a_penalty_on_the_gradient_of_the_input(use_resource):
    def build():
        x = vectors()
        with tf.variable_scope("m", use_resource=use_resource):
            h, logits = two_layers(x)
        (slope,) = tf.gradients(loss_of(logits), [x])
        norm = tf.norm(slope, axis=1)
        return Network(x, [h], loss_of(logits) + tf.reduce_sum((norm - 1.0) ** 2))

    check_masked(build)


@BOTH_KINDS
def test_a_penalty_on_the_gradient_of_the_kernel_is_that_of_the_masked_network(
    use_resource,
):
    """L = |xw|^2 / 2, A = x^T x: dL/dw = m A w, and the penalty's is 2 m A m A w.

    Masked at both passes: a weight that is out takes no part in the penalty either.
    """
    with fresh_graph(masking_gate):
        x = vectors()
        w = tf.get_variable("w", [WIDTH, CLASSES], use_resource=use_resource)
        (gradient,) = tf.gradients(tf.nn.l2_loss(tf.matmul(x, w)), [w])
        (penalty,) = tf.gradients(tf.reduce_sum(gradient**2), [w])
        with started() as session:
            x, w, gradient, penalty = session.run(
                [x, w.read_value(), gradient, penalty]
            )
    mask, a = mask_of("w", w.shape), x.T.dot(x)
    expected = mask * a.dot(w)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)
    expected = mask * 2 * a.dot(expected)
    np.testing.assert_allclose(penalty, expected, rtol=1e-4, atol=1e-4)


@BOTH_KINDS
def test_bare_variables(use_resource):
    def build():
        x = vectors()
        first = tf.Variable(tf.random_normal([WIDTH, WIDTH]), use_resource=use_resource)
        with tf.name_scope("scope"):
            second = tf.Variable(
                tf.random_normal([WIDTH, CLASSES]), use_resource=use_resource
            )
        assert second.op.name == "scope/Variable"
        h = tf.matmul(x, first)
        return network(x, h, tf.matmul(h, second))

    check_masked(build)


def read_once_more(use_resource):
    x = vectors()
    w = tf.get_variable("w", [WIDTH, WIDTH], use_resource=use_resource)
    h = tf.tanh(tf.matmul(x, w))
    logits = tf.matmul(h, w.read_value(), name="again")
    penalty = tf.reduce_sum(tf.abs(w.read_value() + 0.1))
    return Network(x, [h, logits], loss_of(logits) + penalty)


def test_values_that_are_read_once_more_later():
    check_masked(lambda: read_once_more(use_resource=True))


def test_of_a_reference_variable_they_are_found():
    with fresh_graph(lambda name, gradient: gradient) as graph:
        built = read_once_more(use_resource=False)
        tf.gradients(built.loss, tf.trainable_variables())
        found = set(ungated_reads(graph, {"w"}))
        assert ("w", "again") in found and len(found) == 2
        assert not list(ungated_reads(graph, {"other"}))


@BOTH_KINDS
def test_a_kernel_that_is_transposed_reshaped_and_summed(use_resource):
    def build():
        x = vectors()
        w = tf.get_variable("w", [WIDTH, WIDTH], use_resource=use_resource)
        v = tf.get_variable("v", [2, 3, CLASSES], use_resource=use_resource)
        h = tf.tanh(tf.matmul(x, tf.transpose(w)) + tf.reduce_sum(w, axis=0))
        logits = tf.matmul(h, tf.reshape(v, [WIDTH, CLASSES])) + tf.reduce_sum(v)
        return network(x, h, logits)

    check_masked(build)


def test_an_override_of_the_users_own_stays():
    """The straight-through trick of many quantized networks: an Identity's gradient."""

    @tf.RegisterGradient("TestReadsHalved")
    def halved(op, gradient):
        return gradient * 0.5

    def build():
        x = vectors()
        with tf.get_default_graph().gradient_override_map(
            {"Identity": "TestReadsHalved", "Sign": "Identity"}
        ):
            h = tf.identity(tf.sign(x))
        return network(x, h, tf.layers.dense(h, CLASSES))

    check_masked(build)


def test_a_function_with_a_gradient_of_its_own():
    @tf.custom_gradient
    def clipped(x):
        return tf.identity(x), lambda gradient: tf.clip_by_value(gradient, -0.01, 0.01)

    def build():
        x = vectors()
        h, logits = two_layers(x)
        w = tf.trainable_variables()[0]
        assert w.op.name == "dense/kernel"
        return Network(x, [h], loss_of(logits) + tf.reduce_sum(clipped(w) ** 2))

    check_masked(build)


def test_rows_of_a_table_are_handed_to_the_gate_as_they_are():
    seen = []

    def gate(name, gradient):
        seen.append((name, type(gradient)))
        if not isinstance(gradient, tf.IndexedSlices):
            return gradient
        return tf.IndexedSlices(
            gradient.values * 3.0, gradient.indices, gradient.dense_shape
        )

    def rows(gate):
        with fresh_graph(gate):
            table = tf.get_variable("table", [7, 4])
            words = tf.nn.embedding_lookup(table, [[5, 2], [2, 0]])
            gradients = tf.gradients(tf.reduce_sum(words**2), [table])
            assert isinstance(gradients[0], tf.IndexedSlices)
            with started() as session:
                return session.run([gradients[0], table.read_value()])

    (gradient, table), (same, _) = rows(gate), rows(None)
    assert seen == [("table", tf.IndexedSlices)]
    np.testing.assert_array_equal(gradient.indices, [5, 2, 2, 0])
    np.testing.assert_array_equal(gradient.indices, same.indices)
    np.testing.assert_allclose(gradient.values, 3 * 2 * table[[5, 2, 2, 0]], rtol=1e-6)
