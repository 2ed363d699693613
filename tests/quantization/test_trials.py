"""A trial: what it fits, what it sets, and what it leaves in the graph: nothing."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.graph.views import follow
from ec_estimator.quantization import trials
from ec_estimator.quantization.winograd import convolve, transform_array

MODES = tf.estimator.ModeKeys
STATE = "ec_estimator/quantization/"


class Spied(ec.LSQQuantizer):
    def inject(self, *args):
        self.attached = super().inject(*args)
        return self.attached


def model_fn(features, labels, mode):
    """A convolution, a transposed one, and a dense layer in two parts."""
    x = tf.layers.conv2d(features["x"], 10, 3, padding="same", name="conv")
    x = tf.layers.conv2d_transpose(tf.tanh(x), 50, 2, name="up")
    with tf.variable_scope("dense", partitioner=tf.fixed_size_partitioner(2)):
        kernel = tf.get_variable("kernel", [50, 6])
    y = tf.matmul(tf.reduce_mean(tf.tanh(x), [1, 2]), kernel)
    return finish(mode, y)


def finish(mode, y):
    if mode == MODES.PREDICT:
        return tf.estimator.EstimatorSpec(mode, {"y": y})
    loss = tf.reduce_mean(tf.square(y))
    optimizer = tf.train.MomentumOptimizer(0.1, 0.9)
    step = tf.train.get_or_create_global_step()
    return tf.estimator.EstimatorSpec(
        mode, loss=loss, train_op=optimizer.minimize(loss, step)
    )


class Run:
    """A training graph that nothing can be added to, and a session on it."""

    def __init__(self, folder, model_fn=model_fn, **config):
        config = {"wbits": 3, **config}
        quantizer = Spied(ec.QuantizerConfig(**config))
        self._graph = tf.Graph()
        with self._graph.as_default():
            tf.set_random_seed(1)
            x = np.random.RandomState(0).standard_normal((4, 6, 6, 12)).astype("f")
            self.spec = ec.compress(model_fn, quantizer)(
                {"x": tf.constant(x)}, None, MODES.TRAIN, tf.estimator.RunConfig(folder)
            )
            self.variables = {v.op.name: v for v in tf.global_variables()}
            initialize = tf.global_variables_initializer()
        self._graph.finalize()
        self.session = tf.Session(graph=self._graph)
        self.session.run(initialize)
        self.attached = quantizer.attached

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.session.close()

    def value(self, name):
        return self.session.run(self.variables[name])

    def load(self, name, value):
        self.variables[name].load(value, self.session)

    def state(self):
        names = [n for n in self.variables if n.startswith(STATE)]
        return self.session.run({name: self.variables[name] for name in names})


def error(column, step, low, high):
    q = np.clip(np.floor(column / step + 0.5), low, high)
    return np.square(column - step * q).sum()


def assert_best(matrix, steps, low, high):
    """The columns' error is within 10 percent of that of a fine search."""
    assert steps.shape == (matrix.shape[1],)
    mine, best = 0.0, 0.0
    for column, step in zip(matrix.T.astype(np.float64), steps):
        widest = np.abs(column).max() / min(high, -low)
        tried = np.linspace(widest / 200, widest * 1.2, 1000)
        best += min(error(column, s, low, high) for s in tried)
        mine += error(column, step, low, high)
    assert mine <= best * 1.1


@pytest.mark.parametrize("fetched", [1, 2**26])
def test_every_kernel_is_fitted_as_its_layer_sees_it(fetched, tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "_FETCHED", fetched)
    with Run(str(tmp_path)) as run:
        run.attached.start(run.session)
        up = run.value("up/kernel").transpose(0, 1, 3, 2)
        parts = [run.value(f"dense/kernel/part_{part}") for part in (0, 1)]
        matrices = {
            "conv/kernel": run.value("conv/kernel").reshape(108, 10),
            "up/kernel": up.reshape(40, 50),
            "dense/kernel": np.concatenate(parts),
        }
        for name, matrix in matrices.items():
            assert_best(matrix, run.value(f"{STATE}{name}/step"), -4, 3)
        # Tensors have not been seen yet.
        assert run.value(f"{STATE}up/kernel/input/step") == 0


def test_a_trial_fits_tensors_counts_and_starts_training_afresh(tmp_path):
    with Run(str(tmp_path), bits=4) as run:
        run.attached.start(run.session)
        for _ in range(5):
            run.session.run(run.spec.train_op)
        recent = run.value(f"{STATE}up/kernel/input/recent")
        report = run.attached.run_trial(run.session, 7, 0.0)
        after = run.state()
        step = after[f"{STATE}up/kernel/input/step"]
        assert_best(recent, step[None], -8, 7)
        assert after[f"{STATE}trial"] == 7
        assert report.steps["up/kernel/input"] == [step, step]
        scalars = report.scalars()
        np.testing.assert_allclose(scalars["up/kernel/input/step_size"], step)
        np.testing.assert_allclose(scalars["up/kernel/input/range"], step * 7)
        outside = (recent > step * 7.5) | (recent < step * -8.5)
        assert scalars["up/kernel/input/clipping_rate"] == np.mean(outside)


def test_zeros_keep_their_step_or_take_a_range_of_1(tmp_path):
    with Run(str(tmp_path)) as run:
        run.load("conv/kernel", np.zeros((3, 3, 12, 10), np.float32))
        run.load(f"{STATE}conv/kernel/step", np.array([0.5] + [0] * 9, np.float32))
        run.session.run(run.spec.loss)
        report = run.attached.run_trial(run.session, 1, 0.0)
        found = run.value(f"{STATE}conv/kernel/step")
        np.testing.assert_allclose(found, [0.5] + [1 / 3] * 9, rtol=1e-6)
        assert report.steps["conv/kernel"] == [0, 0]


@pytest.mark.parametrize(
    "name", ["dense/kernel/part_1", f"{STATE}up/kernel/input/recent"]
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_an_error_and_nothing_is_set(name, value, tmp_path):
    with Run(str(tmp_path)) as run:
        bad = run.value(name).copy()
        bad[0] = value
        run.load(name, bad)
        before = run.state()
        quantizer = name.replace(STATE, "").rsplit("/", 1)[0]
        with pytest.raises(ec.CompressionError, match=f"'{quantizer}' holds NaN"):
            run.attached.run_trial(run.session, 1, 0.0)
        for key, value in run.state().items():
            np.testing.assert_array_equal(value, before[key])


def test_a_winograd_kernel_is_fitted_as_the_quantized_kernel_is_transformed(tmp_path):
    with Run(str(tmp_path), int8_winograd=True, wbits=2) as run:
        run.attached.start(run.session)
        step = run.value(f"{STATE}conv/kernel/step")
        kernel = run.value("conv/kernel")
        kernel = np.clip(np.floor(kernel / step + 0.5), -2, 1) * step
        g = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
        u = np.einsum("ip,jq,pqco->cijo", g, g, kernel).reshape(12, 160)
        found = run.value(f"{STATE}conv/kernel/winograd_kernel/step")
        widest = np.abs(u).max(0) / 127
        mine, its = (
            sum(error(c, s, -127, 127) for c, s in zip(u.T, steps))
            for steps in (found, widest)
        )
        # What was fitted to any other kernel would do no better than the widest step.
        assert mine < 0.1 * its


def test_an_array_is_transformed_like_a_tensor():
    kernel = np.random.RandomState(0).standard_normal((3, 3, 2, 5)).astype(np.float32)
    seen = []

    def note(value):
        seen.append(value)
        return value

    with tf.Graph().as_default(), tf.Session() as session:
        convolve(tf.zeros([1, 4, 4, 2]), tf.constant(kernel), "SAME", list, note)
        expected = session.run(seen[0])
    np.testing.assert_allclose(transform_array(kernel), expected, rtol=1e-6, atol=1e-6)


def test_an_array_follows_a_view():
    array = np.arange(24).reshape(2, 3, 4)
    view = (("transpose", (0, 2, 1)), ("reshape", (8, 3)))
    found = follow(view, array)
    assert found.shape == (8, 3)
    assert found[5].tolist() == [array[1, row, 1] for row in range(3)]


def test_a_kernel_that_a_transposed_convolution_reads_first_is_turned_back(tmp_path):
    def tied(features, labels, mode):
        kernel = tf.get_variable("kernel", [3, 3, 4, 6])
        x = tf.layers.conv2d(features["x"], 6, 1, name="first")
        x = tf.nn.conv2d_transpose(x, kernel, [4, 6, 6, 4], 1)
        return finish(mode, tf.nn.conv2d(tf.tanh(x), kernel, 1, "SAME"))

    with Run(str(tmp_path), tied, int8_winograd=True, wbits=8) as run:
        run.attached.start(run.session)
        u = transform_array(run.value("kernel"))
        found = run.value(f"{STATE}kernel/winograd_kernel/step")
        widest = np.abs(u).max(0) / 127
        np.testing.assert_allclose(found, widest, rtol=0.5)
        assert np.corrcoef(found, widest)[0, 1] > 0.9
