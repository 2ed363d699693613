"""Models whose first layer's channels are frozen, each by another op."""
import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import function

from tests.channels.parts import conv, layer_norm, layers, relu, some, weights


def frozen_by(change):
    """A model whose first layer has eight channels that meet `change`. A second layer
    beside it has four channels that stay free."""

    def build():
        x = some(None, 8, 8, 3)
        beside = layers.dense(relu(layers.dense(x, 4, name="free")), 3)
        return [change(relu(layers.dense(x, 8, name="first"))), beside]

    return build


def _read(x):
    return layers.dense(x, 3, name="reader")


def _last_conv(x):
    return conv(x, 2, 1, name="reader")


def _shuffle(x):
    x = tf.transpose(tf.reshape(x, [-1, 8, 8, 2, 4]), [0, 1, 2, 4, 3])
    return _last_conv(tf.reshape(x, [-1, 8, 8, 8]))


def _two_axes(x):
    """A kernel on the left makes rows beside the channels; both become one axis."""
    x = tf.matmul(weights("rows", 5, 64), tf.reshape(x, [-1, 64, 8]))
    return _read(tf.reshape(x, [-1, 40]))


def _while_loop(x):
    return _read(
        tf.while_loop(lambda i, _: i < 2, lambda i, y: (i + 1, y + y), [0, x])[1]
    )


def _dynamic_rnn(x):
    cell = tf.nn.rnn_cell.GRUCell(5)
    x = tf.reshape(x, [-1, 64, 8])
    return _read(tf.nn.dynamic_rnn(cell, x, dtype=tf.float32)[0])


def _size(x):
    return tf.cast(tf.shape(x)[-1], tf.float32)


def _by(x, w):
    return tf.tensordot(x, w, [[-1], [0]])


def _offset_weights(x):
    """The kernel is not zero where its first variable is."""
    return _by(x, weights("w", 8, 3) + weights("offset", 3))


def _attention_over_channels(x):
    x = tf.reshape(x, [-1, 64, 8])
    return tf.matmul(x, x, transpose_b=True)


def _counted(x):
    """How many are large, then as large as they are."""
    return _by(tf.to_float(tf.argsort(x)), weights("counts", 8, 3)) + _read(x)


def _function(x):
    @function.Defun(tf.float32)
    def double(y):
        return 2.0 * y

    y = double(x)
    y.set_shape(x.shape)
    return _read(y)


def _crossed(x):
    """Columns where channels are expected, and the other way round."""
    return tf.transpose(x, [0, 3, 2, 1])


# {name: (model, type of the op that freezes the first layer's channels)}.
FROZEN = {
    "the input": (lambda x: _read(x + some(None, 8, 8, 8)), "AddV2"),
    "layer norm": (lambda x: _read(layer_norm(x, "norm")), "Mean"),
    "l2 normalize": (lambda x: _read(tf.nn.l2_normalize(x, -1)), "Sum"),
    "local response": (lambda x: _read(tf.nn.lrn(x)), "LRN"),
    "softmax": (lambda x: _read(tf.nn.softmax(x)), "Softmax"),
    "channel shuffle": (_shuffle, "Reshape"),
    "two axes": (_two_axes, "Reshape"),
    "space to depth": (lambda x: _last_conv(tf.space_to_depth(x, 2)), "SpaceToDepth"),
    "top k": (lambda x: _read(tf.nn.top_k(x, 3)[0]), "TopKV2"),
    "argmax": (lambda x: tf.argmax(x, -1), "ArgMax"),
    "argsort": (_counted, "TopKV2"),
    "max": (lambda x: tf.reduce_max(x, -1), "Max"),
    "mean of all": (lambda x: _read(x / tf.reduce_mean(x)), "Mean"),
    "cumulative sum": (lambda x: _read(tf.cumsum(x, -1)), "Cumsum"),
    "attention over channels": (_attention_over_channels, "BatchMatMulV2"),
    "while loop": (_while_loop, "Enter"),
    "dynamic rnn": (_dynamic_rnn, "Transpose"),
    "function": (_function, "double"),
    # Sizes that would change.
    "size": (lambda x: _read(x / tf.sqrt(_size(x))), "Cast"),
    "size less one": (lambda x: _read(x / tf.to_float(tf.shape(x)[-1] - 1)), "Sub"),
    "number of entries": (lambda x: _read(x / tf.to_float(tf.size(x))), "Cast"),
    "range": (lambda x: _read(x * tf.to_float(tf.range(tf.shape(x)[-1]))), "Range"),
    "one hot": (lambda x: _read(x + tf.one_hot(2, tf.shape(x)[-1])), "OneHot"),
    "filled": (lambda x: _read(x * tf.to_float(tf.fill([8], tf.shape(x)[3]))), "Fill"),
    "border": (lambda x: tf.range(20)[tf.shape(x)[-1] :], "StridedSlice"),
    # Positions that would move.
    "unequal split": (lambda x: _read(tf.split(x, [2, 6], -1)[0]), "SplitV"),
    "slice": (lambda x: _read(tf.slice(x, [0, 0, 0, 2], [-1, -1, -1, 4])), "Slice"),
    "strided slice": (lambda x: _read(x[..., 1:]), "StridedSlice"),
    "backwards": (lambda x: _read(x + x[..., ::-1]), "StridedSlice"),
    "every other": (lambda x: _read(x[..., ::2]), "StridedSlice"),
    "one channel": (lambda x: x[..., 2], "StridedSlice"),
    "reverse": (lambda x: _read(tf.reverse(x, [-1])), "ReverseV2"),
    "gather": (lambda x: _read(tf.gather(x, [0, 3, 1], axis=3)), "GatherV2"),
    "pad": (lambda x: _read(tf.pad(x, [[0, 0]] * 3 + [[0, 2]])), "Pad"),
    "tile": (lambda x: _read(tf.tile(x, [1, 1, 1, 2])), "Tile"),
    "unstack": (lambda x: tf.unstack(x, axis=3)[0], "Unpack"),
    "constant vector": (lambda x: _read(x * np.arange(8.0)), "Mul"),
    # Kernels that a mask of their variable does not silence.
    "constant kernel": (lambda x: _by(x, tf.ones([8, 3])), "MatMul"),
    "positive kernel": (lambda x: _by(x, tf.nn.softplus(weights("w", 8, 3))), "MatMul"),
    "offset kernel": (_offset_weights, "MatMul"),
    "normed kernel": (
        lambda x: _by(x, tf.nn.l2_normalize(weights("w", 8, 3), 0)),
        "Sum",
    ),
    # Layers that take the channels for pixels.
    "convolved": (lambda x: conv(_crossed(x), 2, name="reader"), "Conv2D"),
    "pooled": (lambda x: layers.max_pooling2d(_crossed(x), 2, 1), "MaxPool"),
    "resized": (
        lambda x: tf.image.resize_bilinear(_crossed(x), [4, 4]),
        "ResizeBilinear",
    ),
    "dilated": (
        lambda x: conv(_crossed(x), 2, dilation_rate=2, name="reader"),
        "SpaceToBatchND",
    ),
    "transposed convolution": (
        lambda x: layers.conv2d_transpose(_crossed(x), 2, 2, name="reader"),
        "AddV2",
    ),
    "pooled over": (
        lambda x: tf.nn.max_pool2d(x, [1, 1, 1, 2], [1, 1, 1, 2], "VALID"),
        "MaxPool",
    ),
}
