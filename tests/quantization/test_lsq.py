"""LSQ's numbers and gradients, against its formulas element by element."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.quantization.lsq import (
    Quantizer,
    fake_quantize,
    frozen_fake_quantize,
    frozen_step,
    of_activations,
    of_weights,
    range_of,
    trained_step,
)

CHANNELS = 3
STEPS = np.array([0.25, 0.5, 0.0625], np.float32)
QUANTIZERS = {
    **{f"signed{bits}": of_activations(bits, True) for bits in range(1, 9)},
    **{f"unsigned{bits}": of_activations(bits, False) for bits in range(1, 9)},
    **{f"weights{bits}": of_weights(bits, CHANNELS) for bits in range(1, 9)},
}
ALL = pytest.mark.parametrize("name", QUANTIZERS)


def step_of(quantizer, factor=1.0):
    return (STEPS if quantizer.steps else STEPS[0]) * np.float32(factor)


def values(quantizer, step, seed=0, rows=40):
    """Values inside the range, and outside of it on both sides: [rows, channels]."""
    widest = 1.5 * max(quantizer.high, -quantizer.low)
    random = np.random.RandomState(seed)
    return (random.uniform(-widest, widest, (rows, CHANNELS)) * step).astype(np.float32)


def run(x, step, quantizer, output_gradient=None):
    """Forward value; with a gradient of the output also dx and dstep."""
    with tf.Graph().as_default(), tf.Session() as session:
        given, size = tf.constant(x, tf.float32), tf.constant(step, tf.float32)
        q = fake_quantize(given, size, quantizer)
        if output_gradient is None:
            return session.run(q)
        gradient = tf.constant(output_gradient, tf.float32)
        return session.run([q, *tf.gradients(q, [given, size], gradient)])


def reference(x, step, quantizer, output_gradient):
    """LSQ, element by element (Esser et al. 2020, equations 1 to 3), in float64."""
    x, step = np.asarray(x, np.float64), np.asarray(step, np.float64)
    ratio = x / step
    inside = (quantizer.low <= ratio) & (ratio <= quantizer.high)
    outside = np.where(ratio > 0, quantizer.high, quantizer.low)
    if quantizer.bits == 1 and quantizer.low < 0:
        integers = np.where(x >= 0, 1, -1)
    else:
        integers = np.clip(np.floor(ratio + 0.5), quantizer.low, quantizer.high)
    d_step = output_gradient * np.where(inside, integers - ratio, outside)
    return (
        integers * step,
        output_gradient * inside,
        d_step.sum(0) if quantizer.steps else d_step.sum(),
    )


@ALL
def test_what_is_served_is_what_was_trained(name):
    quantizer = QUANTIZERS[name]
    step = step_of(quantizer)
    # Not where a rounding error decides between two integers.
    x = values(quantizer, step, rows=4000)
    x = x[np.all(np.abs(x / step % 1 - 0.5) > 1e-3, 1)]
    assert len(x) > 3000
    with tf.Graph().as_default(), tf.Session() as session:
        limits = range_of(tf.constant(step), quantizer)
        served = session.run(frozen_fake_quantize(tf.constant(x), *limits, quantizer))
    np.testing.assert_allclose(served, run(x, step, quantizer), rtol=1e-6, atol=1e-6)


# x / step for the literal integers below; ends in halves, so that ties are seen.
RATIOS = [-300.0, -128.0, -2.5, -1.5, -0.5, -0.25, 0.0, 0.5, 1.5, 2.5, 127.5, 300.0]
LITERALS = {
    "signed1": [-1, -1, -1, -1, -1, -1, 1, 1, 1, 1, 1, 1],
    "signed2": [-2, -2, -2, -1, 0, 0, 0, 1, 1, 1, 1, 1],
    "signed3": [-4, -4, -2, -1, 0, 0, 0, 1, 2, 3, 3, 3],
    "signed4": [-8, -8, -2, -1, 0, 0, 0, 1, 2, 3, 7, 7],
    "signed5": [-16, -16, -2, -1, 0, 0, 0, 1, 2, 3, 15, 15],
    "signed6": [-32, -32, -2, -1, 0, 0, 0, 1, 2, 3, 31, 31],
    "signed7": [-64, -64, -2, -1, 0, 0, 0, 1, 2, 3, 63, 63],
    "signed8": [-128, -128, -2, -1, 0, 0, 0, 1, 2, 3, 127, 127],
    "unsigned1": [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1],
    "unsigned2": [0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 3, 3],
    "unsigned3": [0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 7, 7],
    "unsigned4": [0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 15, 15],
    "unsigned5": [0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 31, 31],
    "unsigned6": [0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 63, 63],
    "unsigned7": [0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 127, 127],
    "unsigned8": [0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 128, 255],
    # A kernel's are those of signed activations, but for -128.
    "weights8": [-127, -127, -2, -1, 0, 0, 0, 1, 2, 3, 127, 127],
}


@ALL
def test_a_value_is_the_step_times_the_integer_written_here(name):
    quantizer = QUANTIZERS[name]
    integers = LITERALS.get(name) or LITERALS[name.replace("weights", "signed")]
    step = step_of(quantizer)
    # Steps that are powers of two, so that a tie is one in float32 as well.
    x = np.tile(np.array(RATIOS)[:, None], CHANNELS) * step
    expected = np.tile(np.array(integers)[:, None], CHANNELS) * step
    np.testing.assert_array_equal(run(x, step, quantizer), expected)


@ALL
@pytest.mark.parametrize("factor", [1.0, 0.37, 1e-4, 91.3])
def test_a_channel_has_at_most_2_to_the_bits_values_all_multiples_of_its_step(
    name, factor
):
    quantizer = QUANTIZERS[name]
    step = step_of(quantizer, factor)
    q = run(values(quantizer, step, rows=3000), step, quantizer)
    for column, size in zip(q.T, np.broadcast_to(step, CHANNELS)):
        integers = column / size
        np.testing.assert_allclose(integers, np.round(integers), atol=1e-4)
        distinct = set(np.round(integers))
        assert distinct <= set(range(quantizer.low, quantizer.high + 1))
        assert 2 <= len(np.unique(column)) <= 2**quantizer.bits


@ALL
@pytest.mark.parametrize("factor", [1.0, 0.37, 1e-4, 91.3])
def test_forward_and_backward_equal_an_element_wise_lsq(name, factor):
    quantizer = QUANTIZERS[name]
    step = step_of(quantizer, factor)
    x = values(quantizer, step, seed=1)
    out = np.random.RandomState(2).standard_normal(x.shape).astype(np.float32)
    expected = reference(x, step, quantizer, out)
    for actual, mine in zip(run(x, step, quantizer, out), expected):
        scale = np.abs(mine).max()
        np.testing.assert_allclose(actual, mine, rtol=1e-5, atol=1e-5 * scale)


@ALL
@pytest.mark.parametrize("shape", [(CHANNELS,), (2, 4, 5, CHANNELS)])
def test_tensors_of_any_rank_are_quantized_as_their_matrix(name, shape):
    quantizer = QUANTIZERS[name]
    step = step_of(quantizer)
    rows = int(np.prod(shape)) // CHANNELS
    x = values(quantizer, step, seed=3, rows=rows)
    out = np.ones(shape, np.float32)
    q, dx, d_step = run(x.reshape(shape), step, quantizer, out)
    flat = reference(x, step, quantizer, out.reshape(-1, CHANNELS))
    np.testing.assert_allclose(q, flat[0].reshape(shape), rtol=1e-5)
    np.testing.assert_array_equal(dx, flat[1].reshape(shape))
    np.testing.assert_allclose(d_step, flat[2], rtol=1e-4, atol=1e-4)


@ALL
@pytest.mark.parametrize("side", [-1, 1])
def test_where_all_is_clipped_the_gradient_is_the_numeric_one(name, side):
    quantizer = QUANTIZERS[name]
    step = step_of(quantizer)
    end = quantizer.high if side > 0 else quantizer.low
    # So far out that it is clipped with the other step sizes below as well.
    x = (np.full((4, CHANNELS), end * 1.5) + side * 2.0) * step
    _, dx, d_step = run(x, step, quantizer, np.ones(x.shape))
    above = run(x, step * 1.125, quantizer).astype(np.float64)
    below = run(x, step * 0.875, quantizer).astype(np.float64)
    numeric = (above - below) / (0.25 * step)
    numeric = numeric.sum(0) if quantizer.steps else numeric.sum()
    np.testing.assert_allclose(d_step, numeric, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(dx, 0)


@ALL
def test_inside_the_gradient_is_the_numeric_one_less_what_is_passed_through(name):
    """With the integers held, d(step * integer)/dstep is the integer; the rounding,
    passed straight through, takes x / step of it."""
    quantizer = QUANTIZERS[name]
    step = step_of(quantizer)
    ratio = 0.75 if quantizer.high == 1 else quantizer.high - 0.75
    x = np.full((4, CHANNELS), ratio) * step
    _, dx, d_step = run(x, step, quantizer, np.ones(x.shape))
    # So little that no integer changes.
    little = 1 / 1024
    numeric = run(x, step * (1 + little), quantizer).astype(np.float64)
    numeric = (numeric - run(x, step * (1 - little), quantizer)) / (2 * little * step)
    expected = numeric - x / step
    expected = expected.sum(0) if quantizer.steps else expected.sum()
    np.testing.assert_allclose(d_step, expected, rtol=2e-3, atol=2e-3)
    np.testing.assert_array_equal(dx, 1)


@pytest.mark.parametrize("name", sorted(set(QUANTIZERS) - {"signed1", "weights1"}))
def test_zero_stays_exactly_zero(name):
    quantizer = QUANTIZERS[name]
    for factor in np.random.RandomState(5).lognormal(-3, 4, 20):
        step = step_of(quantizer, factor)
        assert not np.any(run(np.zeros((2, CHANNELS)), step, quantizer))


@pytest.mark.parametrize("name", ["signed1", "weights1"])
def test_one_signed_bit_has_no_zero(name):
    quantizer = QUANTIZERS[name]
    step = step_of(quantizer)
    q = run(np.zeros((2, CHANNELS)), step, quantizer)
    np.testing.assert_array_equal(q, np.broadcast_to(step, q.shape))


def test_kernels_of_8_bits_are_symmetric():
    assert of_weights(8, 5) == Quantizer(8, -127, 127, 5)
    assert of_weights(4, 5) == Quantizer(4, -8, 7, 5)


def run_trained(step, fallback):
    with tf.Graph().as_default(), tf.Session() as session:
        given = tf.constant(step, tf.float32)
        trained = trained_step(given, tf.constant(fallback, tf.float32))
        (gradient,) = tf.gradients(trained, given, tf.constant([3.0, -2.0, 0.5]))
        return session.run([trained, gradient])


def test_where_nothing_was_fitted_the_fallback_is_taken_and_no_gradient_given():
    step, gradient = run_trained([0.0, 0.5, 0.0], [0.125, 8.0, 0.0])
    np.testing.assert_allclose(step, [0.125, 0.5, 1e-12], rtol=1e-6)
    np.testing.assert_array_equal(gradient, [0, -2, 0])


def test_a_frozen_step_can_be_divided_by():
    with tf.Graph().as_default(), tf.Session() as session:
        frozen = session.run(frozen_step(tf.constant([0.5, 0.0])))
    np.testing.assert_allclose(frozen, [0.5, 1e-12], rtol=1e-6)
