"""Contents of run folders, and the errors about them."""
import re
from pathlib import Path

import pytest

from ec_estimator.core.errors import RunFolderError
from ec_estimator.core.schedule import Schedule

PLAN = {
    "details": {},
    "mode": "infer",
    "kernels": {"dense/kernel": {"shape": [4, 8], "parts": ["a"]}},
}
SCHEDULE = Schedule(0.6, 100, 5, 3, "linear")
SCHEDULES = {"sparsity": SCHEDULE}
CONFIGS = {"sparsity": {"target_sparse_ratio": 0.6, "sparse_block_shape": [1, 16]}}


def raises(*pieces):
    """pytest.raises for a one-line RunFolderError that contains the pieces in order."""
    pattern = "^" + "".join(f".*{re.escape(piece)}" for piece in pieces) + ".*$"
    return pytest.raises(RunFolderError, match=pattern)


def contents(folder):
    return {path.name: path.read_text() for path in Path(folder.path).iterdir()}
