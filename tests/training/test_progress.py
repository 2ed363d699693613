"""The bar that a terminal shows."""
import tensorflow.compat.v1 as tf

from ec_estimator.training.announce import announce
from ec_estimator.training.progress import ProgressBar


def test_bar_ends_exactly_at_the_last_step(capsys):
    with tf.Graph().as_default():
        step = tf.train.get_or_create_global_step()
        train_op = step.assign_add(1)
        bar = ProgressBar(5)
        with tf.train.MonitoredSession(hooks=[bar]) as session:
            for _ in range(5):
                session.run(train_op)
            announce(step.graph, "a line between")
    shown = capsys.readouterr()
    assert "100%" in shown.err and "5/5" in shown.err and "6/5" not in shown.err
    assert shown.err.count("a line between") == 1 and not shown.out
