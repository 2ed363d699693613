"""What all tests share: profiles of the property tests, threads, no idle work."""
import os

import pytest
from tensorflow.python.training import training_util
from tensorflow.python.util import deprecation

from tests.properties import register_profiles

# One thread a session: two workers on two cores take nothing from each other. Processes
# that tests start inherit it.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

register_profiles()


@pytest.fixture(scope="session", autouse=True)
def no_deprecation_warnings():
    """TensorFlow takes the signature of what is called at every deprecated call, a
    tenth of the time of all tests, though it warns once a place."""
    with deprecation.silence():
        yield


@pytest.fixture(scope="session", autouse=True)
def no_graph_as_text():
    """Each training writes its graph as text, a fifth of its time here; nobody reads
    it. The graph in the checkpoint's .meta file is written otherwise, and stays."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_util, "write_graph", lambda *args, **kwargs: None)
        yield
