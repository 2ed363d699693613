"""Run folders for the tests of what a run leaves on disk."""
import pytest

from ec_estimator.core.folder import RunFolder
from tests.core.run_folders import CONFIGS, PLAN, SCHEDULES


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "compression").create()


@pytest.fixture
def bound(folder):
    folder.bind(PLAN, CONFIGS, SCHEDULES, {"dense/kernel", "dense/bias"})
    return folder
