"""What short runs spend much time with, and no test looks at."""
import contextlib
import gc
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
    otherwise, and stays. Python's collector looks at what was imported again and again,
    a twentieth of the time.
    """
    with deprecation.silence(), _fewer_collections():
        with mock.patch.object(training_util, "write_graph", _nothing):
            yield


@contextlib.contextmanager
def _fewer_collections():
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(20000, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
