"""A run's folder is held while a session trains there, and never longer."""
import os

import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests.core.test_lock import is_free
from tests.training.runs import estimator, raw_model, sparsifier


class Call(tf.train.SessionRunHook):
    """Calls a function after the first step."""

    def __init__(self, function):
        self._function = function

    def after_run(self, run_context, run_values):
        self._function()


class FailAtTheStart(tf.train.SessionRunHook):
    def after_create_session(self, session, coord):
        raise ValueError("no start")


def fail():
    raise ValueError("no step")


def folder(tmp_path):
    return tmp_path / "compression"


def test_it_is_held_while_a_training_goes_on(tmp_path):
    held = []
    look = Call(lambda: held.append(is_free(folder(tmp_path))))
    estimator(tmp_path).train(raw_model()[1], [look], max_steps=1)
    assert held == [False]
    assert is_free(folder(tmp_path))


@pytest.mark.parametrize("hook", [Call(fail), FailAtTheStart()])
def test_a_training_that_fails_gives_it_back(hook, tmp_path):
    with pytest.raises(ValueError, match="no "):
        estimator(tmp_path).train(raw_model()[1], [hook], max_steps=1)
    estimator(tmp_path).train(raw_model()[1], max_steps=2)
    assert is_free(folder(tmp_path))


def test_a_training_in_a_training_on_one_folder_is_refused(tmp_path):
    def train_another():
        estimator(tmp_path).train(raw_model()[1], max_steps=9)

    with pytest.raises(ec.RunFolderError, match=f"in by process {os.getpid()} of"):
        estimator(tmp_path).train(raw_model()[1], [Call(train_another)], max_steps=9)
    assert is_free(folder(tmp_path))


def test_sessions_with_a_hook_hold_it_too(tmp_path):
    x = tf.layers.dense(tf.ones([4, 4]), 8)
    train_op = tf.train.GradientDescentOptimizer(0.1).minimize(
        tf.reduce_mean(x**2), tf.train.get_or_create_global_step()
    )
    hook = ec.CompressionHook(sparsifier(), str(tmp_path))
    with tf.train.MonitoredSession(hooks=[hook]) as session:
        session.run(train_op)
        assert not is_free(tmp_path)
    assert is_free(tmp_path)
