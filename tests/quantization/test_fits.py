"""Step sizes against a fine search in NumPy."""
import numpy as np
import pytest

from ec_estimator.quantization.fits import fit_binary, fit_steps

RANGES = [(-127, 127)] + [(-(2 ** (b - 1)), 2 ** (b - 1) - 1) for b in range(2, 9)]
RANGES += [(0, 2**b - 1) for b in range(1, 9)]


def run(function, x, *args):
    return function(x.astype(np.float32), *args)


def errors(x, steps, low, high):
    """Squared error of each step for one column."""
    q = np.clip(np.floor(x[None] / steps[:, None] + 0.5), low, high)
    return np.square(x[None] - steps[:, None] * q).sum(1)


@pytest.mark.parametrize("low, high", RANGES)
@pytest.mark.parametrize("kind", ["normal", "laplace", "uniform", "relu"])
def test_the_error_is_within_5_percent_of_the_best(low, high, kind):
    random = np.random.RandomState(3)
    x = {
        "normal": random.standard_normal((2000, 3)),
        "laplace": random.laplace(size=(2000, 3)),
        "uniform": random.uniform(-1, 1, (2000, 3)),
        "relu": np.maximum(random.standard_normal((2000, 3)), 0),
    }[kind] * [0.01, 1.0, 300.0]
    if low == 0:
        x = np.abs(x)
    found = run(fit_steps, x, low, high)
    for column, step in zip(x.T, found):
        widest = np.abs(column).max() / min(high, -low or high)
        tried = np.linspace(widest / 400, widest * 1.2, 1000)
        best = errors(column, tried, low, high).min()
        assert errors(column, np.array([step]), low, high)[0] <= best * 1.05


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e37])
def test_the_scale_of_the_data_does_not_matter(scale):
    x = np.random.RandomState(4).uniform(-1, 1, (500, 1)).astype(np.float32)
    expected = run(fit_steps, x, -8, 7)
    found = run(fit_steps, x * np.float32(scale), -8, 7)
    np.testing.assert_allclose(found / scale, expected, rtol=1e-3)


def test_a_far_outlier_does_not_hide_the_rest():
    x = np.random.RandomState(4).standard_normal(4000)
    x[0] = 40.0
    (found,) = run(fit_steps, x[:, None], -2, 1)
    tried = np.linspace(0.05, 40, 4000)
    best = errors(x, tried, -2, 1).min()
    assert errors(x, np.array([found]), -2, 1)[0] <= best * 1.05


def test_zeros_give_no_step():
    assert run(fit_steps, np.zeros((9, 2)), -8, 7).tolist() == [0, 0]


def test_unsigned_integers_see_nothing_in_negative_values():
    assert run(fit_steps, -np.ones((9, 1)), 0, 15).tolist() == [0]


@pytest.mark.parametrize("value", [1e-30, 0.3, -2.0, 1e20])
def test_a_constant_is_met(value):
    (step,) = run(fit_steps, np.full((50, 1), value), -8, 7)
    assert np.isfinite(step) and step > 0
    q = np.clip(np.floor(value / step + 0.5), -8, 7)
    np.testing.assert_allclose(q * step, value, rtol=1e-5)


def test_a_column_does_not_see_another():
    x = np.random.RandomState(0).standard_normal((100, 2))
    both = run(fit_steps, x, -4, 3)
    alone = run(fit_steps, x[:, :1], -4, 3)
    np.testing.assert_allclose(both[0], alone[0], rtol=1e-6)


def test_nan_stays_nan():
    x = np.array([[1.0, 2.0], [np.nan, 1.0]])
    found = run(fit_steps, x, -8, 7)
    assert np.isnan(found[0]) and np.isfinite(found[1])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("low", [-8, 0])
def test_what_is_not_finite_is_nan(value, low):
    x = np.array([[1.0, 2.0], [value, 1.0]])
    for found in (run(fit_steps, x, low, 7), run(fit_binary, x)):
        assert np.isnan(found[0]) and np.isfinite(found[1])


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_an_empty_tensor_has_no_steps_or_steps_of_0(shape):
    x = np.zeros(shape)
    assert run(fit_steps, x, -8, 7).tolist() == [0] * shape[1]
    assert run(fit_binary, x).tolist() == [0] * shape[1]


@pytest.mark.parametrize("shape", [(9, 40000), (300000, 2)])
def test_many_and_long_columns_are_fitted_like_few_and_short_ones(shape):
    x = np.random.RandomState(1).standard_normal(shape).astype(np.float32)
    found = run(fit_steps, x, -2, 1)
    for column in (0, shape[1] - 1):
        alone = run(fit_steps, x[:, column : column + 1], -2, 1)
        np.testing.assert_allclose(found[column], alone[0], rtol=1e-6)
    # Of a normal distribution's best four steps 0.996, less for being one more below.
    if shape[1] == 2:
        assert np.all(np.abs(found - 1.0) < 0.1)


def test_what_is_given_is_left_as_it_is():
    x = np.random.RandomState(2).standard_normal((50, 4)).astype(np.float32)
    before = x.copy()
    run(fit_steps, x, 0, 7)
    run(fit_binary, x)
    np.testing.assert_array_equal(x, before)


def test_one_signed_bit_takes_the_mean_magnitude():
    assert run(fit_binary, np.array([[1.0, -3.0], [-2.0, 5.0]])).tolist() == [1.5, 4.0]
