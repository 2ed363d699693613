"""What a user sees of a run: its plan, its trials, its end; once, at any log level.

TensorFlow shows nothing below a warning unless it is told to, and these lines are none.
"""
import logging
import sys

import tensorflow.compat.v1 as tf

from ec_estimator.core.memory import recall, remember
from ec_estimator.graph.coverage import format_layers, format_totals

# What a graph remembers of who shows lines to the user.
_ANNOUNCER = "announcer"


def announce(graph, line):
    """Shows a line, or several, of the run in a graph.

    It goes where TensorFlow's log goes if that takes it; otherwise to stderr, unless
    the user has turned off warnings too.
    """
    recall(graph, _ANNOUNCER, _log_or_print)(line)


def announce_with(graph, show):
    """Has a function show the lines of the run in a graph."""
    remember(graph, _ANNOUNCER, show)


def announce_plan(graph, plan):
    """Shows a plan's totals, and logs all of its layers."""
    tf.logging.info("Compression plan:\n%s", format_layers(plan))
    announce(graph, f"Compression plan, in all:\n{format_totals(plan)}")


def _log_or_print(line):
    level = tf.get_logger().getEffectiveLevel()
    if level <= logging.INFO:
        tf.logging.info("%s", line)
    elif level <= logging.WARNING:
        print(line, file=sys.stderr, flush=True)
