"""The Winograd form equals the convolution, forwards and backwards."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.quantization.winograd import convolve, qualifies


def same(value):
    return value


def data(h, w, channels=3, outputs=4):
    random = np.random.RandomState(0)
    x = random.standard_normal((2, h, w, channels)).astype(np.float32)
    kernel = random.standard_normal((3, 3, channels, outputs)).astype(np.float32)
    return x, kernel


@pytest.mark.parametrize("shape", [None, (None, None, None, 3), (None, "h", "w", 3)])
@pytest.mark.parametrize(
    "padding, h, w",
    [("SAME", 1, 1), ("SAME", 8, 8), ("SAME", 5, 7), ("SAME", 6, 3)]
    + [("VALID", 3, 3), ("VALID", 8, 8), ("VALID", 5, 7), ("VALID", 6, 3)],
)
def test_it_equals_the_convolution_and_its_gradients(padding, h, w, shape):
    x, kernel = data(h, w)
    with tf.Graph().as_default(), tf.Session() as session:
        if shape is None:
            given = tf.constant(x)
        else:
            sizes = [{"h": h, "w": w}.get(size, size) for size in shape]
            given = tf.placeholder_with_default(x, sizes)
        weights = tf.constant(kernel)
        y = convolve(given, weights, padding, same, same)
        expected = tf.nn.conv2d(given, weights, strides=1, padding=padding)
        assert expected.shape.is_compatible_with(y.shape)
        out = np.random.RandomState(1).standard_normal(session.run(expected).shape)
        outputs = [
            [value, *tf.gradients(value, [given, weights], out.astype(np.float32))]
            for value in (y, expected)
        ]
        for mine, its in zip(*session.run(outputs)):
            np.testing.assert_allclose(mine, its, rtol=1e-4, atol=1e-4)


def test_quantizers_see_positions_and_columns_as_documented():
    x, kernel = data(4, 4, 2, 3)
    seen = {}

    def note(name):
        def quantize(value):
            seen[name] = value
            return value

        return quantize

    with tf.Graph().as_default(), tf.Session() as session:
        convolve(tf.constant(x), tf.constant(kernel), "VALID", note("v"), note("u"))
        values = session.run(seen)
    bt = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]])
    g = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    for image in range(2):
        for channel in range(2):
            v = bt @ x[image, :, :, channel] @ bt.T
            np.testing.assert_allclose(
                np.stack(values["v"])[:, image, channel], v.reshape(-1), atol=1e-5
            )
    u = values["u"].reshape(2, 4, 4, 3)
    for channel in range(2):
        for output in range(3):
            expected = g @ kernel[:, :, channel, output] @ g.T
            np.testing.assert_allclose(u[channel, :, :, output], expected, atol=1e-5)


@pytest.mark.parametrize(
    "size, channels, options, expected",
    [
        (3, 3, {}, True),
        (3, 3, {"padding": "VALID"}, True),
        (1, 3, {}, False),
        (3, 3, {"strides": 2}, False),
        (3, 3, {"dilations": 2}, False),
        (3, 1, {}, False),
        (3, 3, {"data_format": "NCHW"}, False),
        (3, 3, {"padding": [[0, 0], [1, 1], [1, 1], [0, 0]]}, False),
    ],
)
def test_which_convolutions_qualify(size, channels, options, expected):
    options = {"strides": 1, "padding": "SAME", **options}
    shape = [1, 3, 9, 9] if "data_format" in options else [1, 9, 9, 3]
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, shape)
        kernel = tf.placeholder(tf.float32, [size, size, channels, 6])
        assert qualifies(tf.nn.conv2d(x, kernel, **options).op) is expected
