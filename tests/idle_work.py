"""What TensorFlow spends much of short runs with, and no test looks at."""
import contextlib
from unittest import mock

from tensorflow.python.training import training_util
from tensorflow.python.util import deprecation


def _nothing(*_, **__):
    """No Mock, which would remember the graphs."""


@contextlib.contextmanager
def left_away():
    """Inside, TensorFlow does not look for deprecated arguments, nor write graphs as
    text.

    It takes the signature of what is called at every deprecated call, a tenth of the
    time of all tests, though it warns once a place. Each training writes its graph as
    text, a fifth of its time here; the graph in the checkpoint's .meta file is written
    otherwise, and stays.
    """
    with deprecation.silence():
        with mock.patch.object(training_util, "write_graph", _nothing):
            yield
