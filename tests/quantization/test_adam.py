"""The Adam of step sizes, against NumPy."""
import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.core.state import create_variable
from ec_estimator.quantization.adam import RATE, StepAdam

# The second was not fitted yet.
FIRST = {"a": np.array([0.5, 0.0, 2.0], np.float32), "b": np.float32(0.25), "c": 3.0}


class Adam:
    """A StepAdam in a session; "c" has no gradient, "a" one of two calls."""

    def __init__(self):
        self._steps = {
            name: create_variable(name, np.shape(value), tf.float32, 0, None, True)
            for name, value in FIRST.items()
        }
        self._gradients = {
            "a": [tf.placeholder(tf.float32, [3]), tf.placeholder(tf.float32, [3])],
            "b": [tf.placeholder(tf.float32, [])],
            "c": [],
        }
        self._adam = StepAdam(self._steps)
        reads = {name: step.read_value() for name, step in self._steps.items()}
        self._update = self._adam.update(reads, self._gradients)
        self._session = tf.Session()
        self._session.run(tf.global_variables_initializer())
        for name, value in FIRST.items():
            self._steps[name].load(value, self._session)

    def move(self, a, b):
        parts = [0.25 * np.array(a), 0.75 * np.array(a)]
        feeds = dict(zip(self._gradients["a"], parts))
        self._session.run(self._update, {**feeds, self._gradients["b"][0]: b})

    def load(self, name, value):
        """Has m, v or count be what another worker has written."""
        (variable,) = (v for v in self._adam.start if v.op.name.endswith(f"/{name}"))
        variable.load(value, self._session)

    def start(self):
        for variable, value in self._adam.start.items():
            variable.load(value, self._session)

    def values(self):
        return self._session.run(self._steps)


def by_hand(step, gradients):
    """Adam on log(step), in float64."""
    step = np.array(step, np.float64)
    m, v = np.zeros_like(step), np.zeros_like(step)
    for n, gradient in enumerate(gradients, 1):
        slope = step * gradient
        m = 0.9 * m + 0.1 * slope
        v = 0.999 * v + 0.001 * slope**2
        hat = m / (1 - 0.9**n) / (np.sqrt(v / (1 - 0.999**n)) + 1e-12)
        step = step * np.exp(-RATE * hat)
    return step


def gradients_of(rows, seed):
    random = np.random.RandomState(seed)
    return random.standard_normal((rows, 3)), random.standard_normal(rows)


def assert_moved(values, a, b):
    np.testing.assert_allclose(values["a"], by_hand(FIRST["a"], a), rtol=1e-5)
    np.testing.assert_allclose(values["b"], by_hand(FIRST["b"], b), rtol=1e-5)
    assert values["a"][1] == 0 and values["c"] == 3


def test_steps_move_as_adam_moves_their_logarithms():
    a, b = gradients_of(20, seed=0)
    with tf.Graph().as_default():
        adam = Adam()
        for pair in zip(a, b):
            adam.move(*pair)
        assert_moved(adam.values(), a, b)


def test_how_large_gradients_are_is_without_effect():
    a, b = gradients_of(20, seed=1)
    with tf.Graph().as_default():
        adam = Adam()
        for one, other in zip(a, b):
            adam.move(1e-5 * one, 1e5 * other)
        assert_moved(adam.values(), a, b)


def test_a_step_whose_gradients_are_not_finite_changes_nothing():
    a, b = gradients_of(6, seed=2)
    with tf.Graph().as_default():
        adam = Adam()
        for bad in (np.nan, np.inf, -np.inf):
            adam.move(a[0], bad)
        for pair in zip(a, b):
            adam.move([bad, 1, 1], 1)
            adam.move(*pair)
        assert_moved(adam.values(), a, b)


def test_training_that_begins_anew_forgets_what_was_before():
    a, b = gradients_of(6, seed=3)
    with tf.Graph().as_default():
        adam = Adam()
        adam.move([1, 2, 3], 4)
        moved = adam.values()
        adam.start()
        for pair in zip(a, b):
            adam.move(*pair)
        found = adam.values()
    np.testing.assert_allclose(found["a"], by_hand(moved["a"], a), rtol=1e-5)
    np.testing.assert_allclose(found["b"], by_hand(moved["b"], b), rtol=1e-5)


def test_without_any_gradient_there_is_nothing_to_run():
    with tf.Graph().as_default():
        steps = {"a": create_variable("a", [3], tf.float32, 0, None, True)}
        assert StepAdam(steps).update({}, {"a": []}) == []


def test_an_m_whose_v_another_worker_has_not_written_yet_moves_no_step_size_far():
    with tf.Graph().as_default():
        adam = Adam()
        adam.move([1, 1, 1], 1)
        adam.load("m", [0.0, 1e-2, 1.0, -1e2, 0.0])
        adam.load("v", np.zeros(5))
        before = adam.values()
        for _ in range(200):
            adam.move([0, 0, 0], 0)
        found = adam.values()
    for name in ("a", "b"):
        # Ten steps of Adam and what follows them, not to 0 or infinity.
        np.testing.assert_allclose(found[name], before[name], rtol=100 * RATE)
        assert np.all((found[name] > 0) == (before[name] > 0))


def test_what_keeps_v_from_0_does_not_show_where_one_worker_trains():
    # Rare gradients have the largest m beside their v.
    a, b = gradients_of(300, seed=5)
    a[:299] *= 1e-3
    with tf.Graph().as_default():
        adam = Adam()
        for pair in zip(a, b):
            adam.move(*pair)
        assert_moved(adam.values(), a, b)
