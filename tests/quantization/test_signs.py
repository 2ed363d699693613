"""What is found to be never negative really is, and what may be is not."""
import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.quantization.signs import is_never_negative


def raw():
    return tf.placeholder(tf.float32, [2, 4, 4, 3])


def relu():
    return tf.nn.relu(raw())


def loop(body):
    """A tensor that goes round a loop."""
    return tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, body(x)), [0, relu()])


NEVER = {
    "relu": relu,
    "relu6": lambda: tf.nn.relu6(raw()),
    "sigmoid": lambda: tf.sigmoid(raw()),
    "softmax": lambda: tf.nn.softmax(raw()),
    "max_pool_of_relu": lambda: tf.nn.max_pool2d(relu(), 2, 2, "SAME"),
    "mean_of_relu": lambda: tf.reduce_mean(relu(), [1, 2]),
    "concat_of_relus": lambda: tf.concat([relu(), relu()], 3),
    "residual_add_of_relus": lambda: relu() + relu(),
    "add_n_of_relus": lambda: tf.add_n([relu(), relu()]),
    "flattened_relu": lambda: tf.layers.flatten(relu()),
    "padded_relu": lambda: tf.pad(relu(), [[0, 0], [1, 1], [1, 1], [0, 0]]),
    "dropout_of_relu": lambda: tf.nn.dropout(relu(), rate=0.3),
    "no_dropout_of_relu": lambda: tf.layers.dropout(relu(), 0.3, training=False),
    "piece_of_relu": lambda: tf.split(relu(), 3, 3)[1],
    "constant": lambda: tf.constant([0.0, 2.0]),
    "relu_times_2": lambda: relu() * 2.0,
    "maximum_with_0": lambda: tf.maximum(raw(), 0.0),
    "0_maximum": lambda: tf.maximum(0.0, raw()),
    "clipped_from_0": lambda: tf.maximum(tf.minimum(raw(), 6.0), 0.0),
    "hard_sigmoid": lambda: relu() * tf.nn.relu6(raw() + 3.0) / 6.0,
    "cast_bytes": lambda: tf.cast(tf.placeholder(tf.uint8, [2]), tf.float32),
    "cast_comparison": lambda: tf.cast(raw() < 1.0, tf.float32),
}
PERHAPS = {
    "input": raw,
    "variable": lambda: tf.get_variable("v", [3]),
    "concat_of_relu_and_raw": lambda: tf.concat([relu(), raw()], 3),
    "residual_add_of_relu_and_raw": lambda: relu() + raw(),
    "difference_of_relus": lambda: relu() - relu(),
    "negated_relu": lambda: -relu(),
    "relu_less_than_shifted": lambda: relu() + -1.0,
    "relu_times_minus_2": lambda: relu() * -2.0,
    "tanh": lambda: tf.tanh(raw()),
    "leaky_relu": lambda: tf.nn.leaky_relu(raw()),
    "leaky_maximum": lambda: tf.maximum(raw(), 0.2 * raw()),
    "maximum_with_minus_1": lambda: tf.maximum(raw(), -1.0),
    "minimum_with_0": lambda: tf.minimum(raw(), 0.0),
    "max_pool_of_raw": lambda: tf.nn.max_pool2d(raw(), 2, 2, "SAME"),
    "dropout_of_raw": lambda: tf.nn.dropout(raw(), rate=0.3),
    "negative_constant": lambda: tf.constant([1.0, -2.0]),
    "batch_norm_of_relu": lambda: tf.layers.batch_normalization(relu()),
    "bias_of_relu": lambda: tf.nn.bias_add(relu(), tf.get_variable("b", [3])),
    "cast_of_raw": lambda: tf.cast(raw(), tf.float16),
    "cast_integers": lambda: tf.cast(tf.placeholder(tf.int32, [2]), tf.float32),
    "shrinking_in_a_loop": lambda: loop(lambda x: x - 1.0)[1],
}


@pytest.mark.parametrize("tensor", NEVER)
def test_never_negative(tensor):
    with tf.Graph().as_default():
        assert is_never_negative(NEVER[tensor]())


@pytest.mark.parametrize("tensor", PERHAPS)
def test_perhaps_negative(tensor):
    with tf.Graph().as_default():
        assert not is_never_negative(PERHAPS[tensor]())
