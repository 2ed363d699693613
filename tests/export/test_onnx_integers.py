"""The integers and steps in an ONNX file are those that were trained, to the bit."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.export.frozen_model import Scale
from ec_estimator.export.onnx_marks import integers_of
from tests import models
from tests.export import onnx_runs
from tests.export.onnx_runs import ON_THE_GRID, quantizer, run_of

GAMMA = [1.0, -2.0, 0.0, 0.5, -0.25, 3.0]


@pytest.mark.parametrize(
    "scale,integers",
    [
        (Scale(8, -127, 127, 0.5), [-127, -3, -2, 0, 1, 2, 3, 127]),
        (Scale(3, -4, 3, 0.5), [-4, -3, -2, 0, 1, 2, 3, 3]),
        (Scale(1, -1, 1, 0.5), [-1, -1, -1, 1, 1, 1, 1, 1]),
        (Scale(2, 0, 3, 0.5), [0, 0, 0, 0, 1, 2, 3, 3]),
    ],
    ids=str,
)
def test_halves_are_rounded_upwards_and_ends_are_kept(scale, integers):
    values = np.float32([-100, -1.5, -1.25, 0, 0.25, 0.75, 1.5, 100])
    found = integers_of(values, np.float32(scale.steps), scale)
    assert found.dtype == np.int8
    np.testing.assert_array_equal(found, integers)


def trained(run, kernel):
    """(integers, steps) of the checkpoint: in TensorFlow's layout, [channels]."""
    reader = tf.train.load_checkpoint(run.checkpoint)
    steps = reader.get_tensor(f"ec_estimator/quantization/{kernel}/step")
    return reader.get_tensor(kernel), steps


def rounded(value, steps):
    return np.clip(np.floor(value / steps + np.float32(0.5)), -127, 127)


def test_of_a_convolution_and_products_either_way_round(tmp_path):
    run = run_of("raw", tmp_path, quantizer())
    _, _, model = run.write("onnxruntime")
    by_shape = {
        i.shape: (i, s, axis) for i, s, axis in onnx_runs.kernels(model).values()
    }
    for kernel, move, shape, axis in (
        ("w1", (3, 2, 0, 1), (8, 3, 3, 3), 0),
        ("w2", (0, 1), (8, 20), 1),
        ("w3", (1, 0), (20, 5), 1),
    ):
        integers, scales, stored_axis = by_shape[shape]
        value, steps = trained(run, kernel)
        columns = value.T if kernel == "w3" else value
        expected = rounded(columns, steps)
        if kernel != "w3":
            expected = expected.transpose(move)
        np.testing.assert_array_equal(integers, expected)
        np.testing.assert_array_equal(scales, steps)
        assert integers.dtype == np.int8 and stored_axis == axis


def test_of_depthwise_and_transposed_convolutions(tmp_path):
    def network(x, training):
        w = tf.get_variable("depthwise", [3, 3, 3, 2])
        x = tf.nn.relu(tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], "SAME"))
        x = tf.layers.conv2d_transpose(x, 4, 2, 2, name="up", use_bias=False)
        return tf.layers.dense(tf.reduce_mean(x, [1, 2]), models.CLASSES)

    run = run_of(network, tmp_path, quantizer())
    _, _, model = run.write("onnxruntime")
    found = {i.shape: (i, s, axis) for i, s, axis in onnx_runs.kernels(model).values()}

    value, steps = trained(run, "depthwise")
    expected = rounded(value.reshape(3, 3, 1, 6), steps).transpose(3, 2, 0, 1)
    integers, scales, axis = found[(6, 1, 3, 3)]
    np.testing.assert_array_equal(integers, expected)
    np.testing.assert_array_equal(scales, steps)
    assert axis == 0

    # [height, width, out, in] -> [in, out, height, width]
    value, steps = trained(run, "up/kernel")
    expected = rounded(value, steps[:, None]).transpose(3, 2, 0, 1)
    integers, scales, axis = found[(6, 4, 2, 2)]
    np.testing.assert_array_equal(integers, expected)
    np.testing.assert_array_equal(scales, steps)
    assert axis == 1


def test_a_batch_norm_turns_signs_and_scales_steps(tmp_path):
    def network(x, training):
        x = tf.layers.conv2d(x, 6, 3, name="conv")
        x = tf.layers.batch_normalization(
            x,
            name="norm",
            training=training,
            gamma_initializer=tf.constant_initializer(GAMMA),
            trainable=False,
        )
        return tf.layers.dense(tf.reduce_mean(tf.nn.relu(x), [1, 2]), models.CLASSES)

    run = run_of(network, tmp_path, quantizer())
    _, folder, model = run.write("tensorrt")
    assert onnx_runs.count(model, "BatchNormalization") == 0
    answers = onnx_runs.evaluate(folder, run.inputs)
    onnx_runs.assert_same(answers, run.reference(), ON_THE_GRID)

    value, steps = trained(run, "conv/kernel")
    reader = tf.train.load_checkpoint(run.checkpoint)
    variance = reader.get_tensor("norm/moving_variance").astype(np.float64)
    gamma = np.array(GAMMA)
    [(integers, scales)] = [
        (i, s) for i, s, _ in onnx_runs.kernels(model).values() if i.ndim == 4
    ]
    expected = (rounded(value, steps) * np.sign(gamma)).transpose(3, 2, 0, 1)
    np.testing.assert_array_equal(integers, expected)
    scaled = steps * np.abs(gamma) / np.sqrt(variance + 1e-3)
    # A step is above 0 even where nothing is left.
    scaled[gamma == 0] = steps[gamma == 0]
    np.testing.assert_allclose(scales, scaled, rtol=1e-6)
