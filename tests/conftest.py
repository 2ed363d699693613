"""What all tests share: profiles of the property tests, threads, no idle work."""
import os

import pytest

from tests import idle_work
from tests.properties import register_profiles

# One thread a session: two workers on two cores take nothing from each other. Processes
# that tests start inherit it.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

register_profiles()


@pytest.fixture(scope="session", autouse=True)
def no_idle_work():
    with idle_work.left_away():
        yield
