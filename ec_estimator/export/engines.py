"""Engines that need another Python than TensorFlow 1.15, each run in a process there.

ONNX Runtime and OpenVINO have no current version for Python 3.7, and two engines in one
process slow each other down. So engine_worker.py runs one in the Python
that the variable EC_ESTIMATOR_ENGINES names, else in `.venv-engines` beside the current
folder or the checkout, which `make engines` makes.
"""
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from ec_estimator.export import engine_worker
from ec_estimator.export.format import EngineMissing, ExportError

VARIABLE = "EC_ESTIMATOR_ENGINES"
CHECKOUT = Path(__file__).resolve().parents[2]
THREADS = 2
PACKAGES = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino onnx",
}


def run_engine(engine, path, inputs):
    """What an engine answers, with two threads, float32 computed as such.

    Args:
      engine: "onnxruntime" or "openvino".
      path: of an ONNX file.
      inputs: {name: array}, of all inputs, with their types; a string is np.str_.

    Returns:
      {name: array} of all outputs.

    Raises:
      EngineMissing: it is not installed.
      ExportError: it refuses the file or the inputs; with the last line that it says.
    """
    return run_batches(engine, path, [inputs])[0]


def run_batches(engine, path, batches):
    """What an engine answers to each batch, all in one process; see `run_engine`.

    Args:
      batches: [inputs of run_engine], 1 or more.

    Returns:
      [outputs of run_engine], in the same order.
    """
    with _worked("run", engine, path, batches, threads=THREADS) as (folder, answer):
        arrays = iter(engine_worker.read_arrays(str(folder / "outputs.npz")))
    return [{name: next(arrays) for name in answer["outputs"]} for _ in batches]


def measure(engine, path, inputs, runs, threads=THREADS):
    """Seconds of each of `runs` runs, after a warm-up; `run_engine` has the rest."""
    request = {"runs": runs, "threads": threads}
    with _worked("measure", engine, path, [inputs], **request) as (_, answer):
        return answer["seconds"]


def python_of(engine):
    """The command, a list, of a Python in which an engine should be.

    Raises:
      EngineMissing: there is none.
    """
    # -I: what PYTHONPATH names is for this Python.
    named = os.environ.get(VARIABLE)
    if named:
        return [named, "-I"]
    for folder in (Path.cwd(), CHECKOUT):
        python = folder / ".venv-engines" / "bin" / "python"
        if python.is_file():
            return [str(python), "-I"]
    if engine == "onnxruntime" and importlib.util.find_spec("onnxruntime"):
        return [sys.executable]
    raise _missing(engine, f"no .venv-engines in {Path.cwd()} or {CHECKOUT}")


@contextlib.contextmanager
def _worked(action, engine, path, batches, **request):
    """A temporary folder in which the worker did what was asked, and its answer."""
    if engine not in PACKAGES:
        raise ValueError(f"engine: {engine!r} is not one of {', '.join(PACKAGES)}")
    if not Path(path).is_file():
        raise ExportError(f"{engine}: {path}: no such file")
    names = list(batches[0])
    arrays = [_plain(name, batch[name]) for batch in batches for name in names]
    request.update(action=action, engine=engine, inputs=names, count=len(batches))
    request["path"] = os.path.abspath(str(path))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        np.savez(str(folder / "inputs.npz"), *arrays)
        _work(engine, path, folder)
        text = (folder / "answer.json").read_text(encoding="utf-8")
        yield folder, json.loads(text)


def _plain(name, value):
    """An array that a file holds without pickle, and an engine reads as it is."""
    array = np.asarray(value)
    if array.dtype.hasobject or not array.dtype.isnative:
        raise ExportError(
            f"input {name!r} has dtype {array.dtype}: engines take numbers, booleans "
            "and np.str_, in this machine's byte order"
        )
    return array


def _work(engine, path, folder):
    """Runs the worker on a folder with a request."""
    python = python_of(engine)
    try:
        done = subprocess.run(
            [*python, engine_worker.__file__, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise _missing(engine, f"{python[0]} does not start: {error}") from error
    if done.returncode == 0:
        return
    said = done.stderr.split("\n")
    last = next((line.strip() for line in reversed(said) if line.strip()), "")
    if last.startswith(("ImportError: ", "ModuleNotFoundError: ")):
        raise _missing(engine, f"{python[0]}: {last}")
    raise ExportError(f"{engine}: {path}: {last or f'exit code {done.returncode}'}")


def _missing(engine, reason):
    return EngineMissing(
        f"{engine}: {reason}; run 'make engines', or 'pip install {PACKAGES[engine]}' "
        f"in an environment of Python 3.11 or later and set {VARIABLE} to its python"
    )
