"""Runs the script of a folder for TensorRT, in the engines' Python."""
import os
import subprocess

from tests.test_layering import ROOT

ENGINES = os.environ.get(
    "EC_ESTIMATOR_ENGINES", str(ROOT / ".venv-engines" / "bin" / "python")
)


def build(folder, *arguments):
    """The finished process of `build_engine.py`; folder: pathlib.Path."""
    return subprocess.run(
        [ENGINES, str(folder / "build_engine.py"), *arguments],
        cwd=str(folder.parent),
        env={"PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
