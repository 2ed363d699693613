"""Random networks of the ops that channels pass through."""
import tensorflow.compat.v1 as tf
from hypothesis import strategies as st

from tests.channels.parts import conv, depthwise, head, layers, relu, some

# A recipe is a list of (op, number, number): the numbers choose inputs and widths.
STEPS = st.tuples(st.integers(0, 12), st.integers(0, 50), st.integers(0, 50))
RECIPES = st.lists(STEPS, min_size=2, max_size=12)


def network(recipe):
    """Builds a recipe; every step takes one or two of the tensors made before it."""

    def build():
        made = [conv(some(2, 6, 6, 3), 4)]
        for number, (kind, a, b) in enumerate(recipe):
            x = made[-1 - a % min(3, len(made))]
            made.append(_STEPS[kind % len(_STEPS)](made, x, b, f"step_{number}"))
        last = made[-1]
        flat = layers.dense(relu(layers.dense(layers.flatten(last), 6)), 3)
        outputs = [head(tf.concat(made[-2:], -1)), flat]
        # Nothing is made in vain: what predicts nothing is in no plan.
        return outputs + [head(x) for x in made if not x.consumers()]

    return build


def _conv(made, x, b, name):
    return relu(conv(x, 2 + b % 5))


def _batch_norm(made, x, b, name):
    return relu(layers.batch_normalization(x, fused=bool(b % 2)))


def _depthwise(made, x, b, name):
    return depthwise(x, 1 + b % 2, name)


def _pool(made, x, b, name):
    return layers.max_pooling2d(x, 3, 1, "same")


def _concat(made, x, b, name):
    return tf.concat([x, made[b % len(made)]], -1)


def _split(made, x, b, name):
    width = x.shape.as_list()[-1]
    parts = 2 if width % 2 == 0 else 3 if width % 3 == 0 else 1
    pieces = tf.split(x, parts, -1)
    return tf.concat(pieces[1:] + pieces[:1], -1) if b % 2 else pieces[0]


def _combine(made, x, b, name):
    """With any earlier tensor of the same width, or else a projection to it."""
    width = x.shape.as_list()[-1]
    fits = [y for y in made if y.shape.as_list()[-1] == width]
    other = fits[b % len(fits)] if b % 3 else conv(made[0], width, 1)
    return (tf.add, tf.multiply, tf.maximum)[b % 3](x, other)


def _excite(made, x, b, name):
    width = x.shape.as_list()[-1]
    s = tf.sigmoid(layers.dense(tf.reduce_mean(x, [1, 2]), width))
    return x * tf.reshape(s, [-1, 1, 1, width])


def _dense(made, x, b, name):
    return relu(layers.dense(x, 2 + b % 5))


def _pad(made, x, b, name):
    return tf.pad(x, [[0, 0], [1, 0], [0, 1], [0, 0]])[:, 1:, :-1]


def _permuted(made, x, b, name):
    x = tf.transpose(x, [0, 3, 1, 2])
    x = relu(tf.reshape(x, [2, -1, 36]))
    return tf.transpose(tf.reshape(x, [2, -1, 6, 6]), [0, 2, 3, 1])


def _sliced(made, x, b, name):
    """Freezes."""
    return x[..., b % 2 :]


def _transposed_conv(made, x, b, name):
    return relu(layers.conv2d_transpose(x, 2 + b % 5, 2, 1, "same"))


_STEPS = [
    *(_conv, _batch_norm, _depthwise, _pool, _concat, _split, _combine, _excite),
    *(_dense, _pad, _permuted, _sliced, _transposed_conv),
]
