"""A progress bar for training on a terminal."""
import sys

import tensorflow.compat.v1 as tf
from tqdm import tqdm

from ec_estimator.training.announce import announce_with


class ProgressBar(tf.train.SessionRunHook):
    """Shows steps, speed and time left on stderr.

    Args:
      max_steps: step at which training ends, or None.
    """

    def __init__(self, max_steps):
        self._max_steps = max_steps
        self._bar = None

    def begin(self):
        self._step = tf.train.get_global_step()
        # A line of its own would tear the bar.
        announce_with(
            tf.get_default_graph(), lambda line: tqdm.write(line, file=sys.stderr)
        )

    def after_create_session(self, session, coord):
        if self._bar:
            self._bar.close()
        self._bar = tqdm(
            total=self._max_steps,
            initial=int(session.run(self._step)),
            unit="step",
            dynamic_ncols=True,
        )

    def before_run(self, run_context):
        return tf.train.SessionRunArgs(self._step)

    def after_run(self, run_context, run_values):
        # It may be the step before this run's update; `end` makes up for that.
        self._bar.update(max(0, int(run_values.results) - self._bar.n))

    def end(self, session):
        self._bar.update(max(0, int(session.run(self._step)) - self._bar.n))
        self._bar.close()
