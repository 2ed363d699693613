"""What all tests share: profiles of the property tests, threads, no idle work, and
which tests have one worker."""
import gc
import os

import pytest

from tests import idle_work
from tests.launcher import Launcher
from tests.properties import register_profiles

# One thread a session: two workers on two cores take nothing from each other. Processes
# that tests start inherit it.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

register_profiles()


@pytest.fixture(scope="session", autouse=True)
def no_idle_work():
    with idle_work.left_away():
        yield
        # TensorFlow logs unused tensors when they go: here, while there is a log.
        gc.collect()


@pytest.fixture(scope="session")
def launcher():
    """Runs `python -m ec_estimator`, examples and pages: one import for all of them."""
    with Launcher("ec_estimator", "sklearn.datasets") as launcher:
        yield launcher


# Before xdist reads the marks.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Gives tests that share a fixture of their module to one worker: each other one
    would make it anew."""
    for item in items:
        fixtures = item._fixtureinfo.name2fixturedefs.values()
        shares = any(found[-1].scope == "module" for found in fixtures)
        if shares and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.split("::")[0]))
