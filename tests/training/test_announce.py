"""What a user sees of a run without setting anything, and that it is seen once."""
import logging

import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.training.announce import announce
from tests.training.runs import estimator, raw_model


@pytest.fixture
def tensorflows_log():
    """TensorFlow's logger as a program finds it: nothing but warnings, on its own."""
    logger, root = tf.get_logger(), logging.getLogger()
    before = logger.level, logger.propagate, root.level
    logger.propagate = False
    root.setLevel(logging.WARNING)
    logger.setLevel(logging.NOTSET)
    yield logger
    logger.level, logger.propagate = before[:2]
    root.setLevel(before[2])


def test_plan_trials_and_summary_show_once_where_nothing_was_set(
    tensorflows_log, tmp_path, capfd
):
    estimator(tmp_path).train(raw_model()[1], max_steps=7)
    shown = capfd.readouterr()
    assert shown.err.count("sparsity: 3 of 3 layers; kernels with") == 1
    for trial in (1, 2, 3):
        assert shown.err.count(f"sparsity: trial {trial}/3 before step") == 1
    assert shown.err.count("sparsity: trial 3 of 3\n") == 1
    # The short form; the table is for the log, and for `plan`.
    assert "MatMul" not in shown.err
    assert shown.out == ""


@pytest.mark.parametrize(
    "level,printed,logged",
    [("DEBUG", 0, 1), ("INFO", 0, 1), ("WARNING", 1, 0), ("ERROR", 0, 0)],
)
def test_a_line_goes_to_the_log_or_to_stderr(
    tensorflows_log, capfd, level, printed, logged
):
    tensorflows_log.setLevel(level)
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    tensorflows_log.addHandler(handler)
    try:
        announce(tf.Graph(), "100 % of it")
    finally:
        tensorflows_log.removeHandler(handler)
    assert [record.getMessage() for record in records] == ["100 % of it"] * logged
    assert capfd.readouterr().err.splitlines().count("100 % of it") == printed
