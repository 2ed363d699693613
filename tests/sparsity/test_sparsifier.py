"""The trials of a Sparsifier, on kernels of a few weights whose fate is known."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec


def sparsifier(ratio, num_trials=1, **kwargs):
    return ec.Sparsifier(
        ec.SparsifierConfig(
            target_sparse_ratio=ratio, step_interval=1, num_trials=num_trials, **kwargs
        )
    )


class Training:
    """Gradient descent on kernels of one column that moves them as each step says."""

    def __init__(self, compressor, **kernels):
        with tf.Graph().as_default():
            self._variables = {
                name: tf.get_variable(
                    name, initializer=np.array(column, np.float32)[:, np.newaxis]
                )
                for name, column in kernels.items()
            }
            # The gradient of x @ kernel is x, so this is what a step subtracts.
            self._moves = {
                name: tf.placeholder_with_default(np.zeros_like([column]), None)
                for name, column in kernels.items()
            }
            loss = tf.add_n(
                [
                    tf.reduce_sum(tf.matmul(tf.to_float(self._moves[name]), kernel))
                    for name, kernel in self._variables.items()
                ]
            )
            step = tf.train.create_global_step()
            self._train = tf.train.GradientDescentOptimizer(1.0).minimize(loss, step)
            hook = ec.CompressionHook(compressor)
            self._session = tf.train.MonitoredSession(hooks=[hook])
            self._masks = {
                variable.op.name.split("/")[2]: variable
                for variable in tf.global_variables()
                if variable.op.name.endswith("/mask")
            }

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self._session.close()

    def step(self, **moves):
        feeds = {self._moves[name]: [column] for name, column in moves.items()}
        self._session.run(self._train, feeds)

    def weights(self, name):
        return self._session.run(self._variables[name])[:, 0].tolist()

    def mask(self, name):
        return self._session.run(self._masks[name])[:, 0].tolist()


def test_what_is_gone_stays_gone_even_beside_a_live_zero():
    # Cubic ratios of 0.2625 and 0.3: both trials have one weight of four to remove.
    with Training(sparsifier(0.3, num_trials=2), w=[3.0, 2.0, 4.0, 1.0]) as training:
        training.step(w=[3.0, 0.0, 0.0, 5.0])
        training.step()
        assert training.weights("w") == [0.0, 2.0, 4.0, 0.0]
        assert training.mask("w") == [1.0, 1.0, 1.0, 0.0]


def test_ratio_1_keeps_the_best_block_and_says_so(caplog):
    compressor = sparsifier(1.0, sparse_block_shape=(2, 1))
    with caplog.at_level("INFO"):
        with Training(compressor, w=[3.0, -1.0, 1.0, -4.0, 2.0, 0.0]) as training:
            training.step()
            assert training.weights("w") == [0.0, 0.0, 1.0, -4.0, 0.0, 0.0]
    assert "sparsity: w keeps its last block" in caplog.text


def test_a_kernel_keeps_its_best_block_against_all_others(caplog):
    compressor = sparsifier(0.6, sort_range="global")
    with caplog.at_level("INFO"):
        with Training(compressor, low=[0.2, 0.3], high=[3.0, 5.0, 4.0]) as training:
            training.step()
            # Three of five weights go; the last of `low` is not among them.
            assert training.weights("low") == pytest.approx([0.0, 0.3])
            assert training.weights("high") == [0.0, 5.0, 0.0]
    assert "sparsity: low keeps its last block" in caplog.text


def test_a_kernel_of_a_single_block_stays_dense_and_the_log_says_so(caplog):
    compressor = sparsifier(1.0, sparse_block_shape=(4, 1))
    with caplog.at_level("INFO"):
        with Training(compressor, w=[3.0, 1.0, 4.0]) as training:
            training.step()
            assert training.weights("w") == [3.0, 1.0, 4.0]
    assert "sparsity: w is a single block and stays dense" in caplog.text


def test_nan_in_a_kernel_is_an_error_at_the_trial():
    with Training(sparsifier(0.5), w=[3.0, float("nan")]) as training:
        with pytest.raises(ec.CompressionError, match="kernel 'w' holds NaN at a tri"):
            training.step()
