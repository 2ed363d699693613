"""What two builds of a network have in common, and what tells others apart."""
import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.graph.walk import ancestors
from ec_estimator.shrink.structure import layer_structures


def structures(network, width=8, prepare=lambda x: x, resource=False):
    with tf.Graph().as_default():
        x = prepare(tf.placeholder(tf.float32, [None, 8, 8, 3]))
        with tf.variable_scope("", use_resource=resource):
            return layer_structures(ancestors([network(x, width)]))


def conv(x, width, name):
    return tf.layers.conv2d(x, width, 3, padding="same", name=name)


def plain(x, width):
    x = tf.nn.relu(conv(x, width, "a"))
    x = tf.nn.relu(conv(x, width, "b")) + x
    return tf.layers.dense(tf.layers.flatten(x), 5, name="head")


def with_another_activation(x, width):
    x = tf.nn.relu(conv(x, width, "a"))
    x = tf.nn.elu(conv(x, width, "b")) + x
    return tf.layers.dense(tf.layers.flatten(x), 5, name="head")


def with_another_shortcut(x, width):
    h = conv(x, width, "a")
    x = tf.nn.relu(conv(tf.nn.relu(h), width, "b")) + h
    return tf.layers.dense(tf.layers.flatten(x), 5, name="head")


@pytest.mark.parametrize(
    "other",
    [
        {"width": 6},
        {"prepare": lambda x: tf.image.flip_left_right((x - 1.0) / 2.0)},
        {"resource": True},
    ],
    ids=lambda other: min(other),
)
def test_sizes_inputs_and_kinds_of_variables_do_not_matter(other):
    assert structures(plain) == structures(plain, **other)


def test_each_layer_has_one():
    assert set(structures(plain)) == {"a/kernel", "b/kernel", "head/kernel"}


@pytest.mark.parametrize("network", [with_another_activation, with_another_shortcut])
def test_what_lies_between_layers_matters_to_the_layer_after_it(network):
    one, other = structures(plain), structures(network)
    assert one["a/kernel"] == other["a/kernel"]
    assert one["head/kernel"] != other["head/kernel"]
