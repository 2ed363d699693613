"""What all tests share: profiles of the property tests, threads, silence."""
import os

import pytest
from tensorflow.python.util import deprecation

from tests.properties import register_profiles

# One thread a session: two workers on two cores take nothing from each other. Processes
# that tests start inherit it.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

register_profiles()


@pytest.fixture(scope="session", autouse=True)
def no_deprecation_warnings():
    """TensorFlow asks for the caller's signature at every deprecated call, which is a
    tenth of all that the tests do, though it warns once a place."""
    with deprecation.silence():
        yield
