"""MNN's converter and engine, each in a process of its own: beside TensorFlow, whose
symbols it shares, the converter aborts.

Neither MNN's console script nor mnncompress is ever called: both install a telemetry
client, and report to it.
"""
import importlib.util
import os
import subprocess
import sys
import tempfile

import numpy as np

from ec_estimator.export.format import EngineMissing, ExportError

_CONVERT = "import sys, _tools; _tools.mnnconvert(sys.argv)"
_ENGINE = os.path.join(os.path.dirname(__file__), "mnn_engine.py")
# All of the environment that is handed on.
_HANDED_ON = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "SYSTEMROOT")


def convert(graph_def, params, is_sparse, path):
    """Writes an .mnn file.

    Args:
      graph_def: tf.GraphDef of float ops.
      params: bytes of mnn_params.compression_params.
      is_sparse: whether there are sparse kernels to be looked for.
      path: of the file.

    Raises:
      EngineMissing: MNN is not installed.
      ExportError: it refuses the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (
            ("frozen.pb", graph_def.SerializeToString()),
            ("params.bin", params),
        ):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(content)
        arguments = ["-f", "TF", "--modelFile", "frozen.pb", "--bizCode", "mnn"]
        arguments += ["--compressionParamsFile", "params.bin"]
        arguments += ["--MNNModel", os.path.abspath(path)]
        if is_sparse:
            arguments += ["--detectSparseSpeedUp", "1"]
        output, code = _run(["-c", _CONVERT, *arguments], folder)
    if code or not os.path.exists(path):
        raise ExportError(f"mnn: its converter refuses the model: {_end(output)}")


def infer(path, inputs, outputs):
    """What a model answers.

    Args:
      path: of an .mnn file.
      inputs: {tensor name: array}; images are `[n, height, width, channels]`.
      outputs: tensor names.

    Returns:
      {tensor name: array}, channels last.

    Raises:
      EngineMissing: MNN is not installed.
      ExportError: it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        np.savez(
            os.path.join(folder, "inputs.npz"),
            **{str(i): array for i, array in enumerate(inputs.values())},
        )
        arguments = [os.path.abspath(path), ",".join(inputs), ",".join(outputs)]
        output, code = _run([_ENGINE, *arguments], folder)
        if code:
            raise ExportError(f"mnn: the engine fails on {path!r}: {_end(output)}")
        with np.load(os.path.join(folder, "outputs.npz")) as arrays:
            return {name: arrays[str(i)] for i, name in enumerate(outputs)}


def _run(arguments, folder):
    """(what it prints, exit code)."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return done.stdout.decode(errors="replace"), done.returncode


def _environment():
    """Where MNN and NumPy are, and nothing that would set anything else."""
    found = importlib.util.find_spec("MNN")
    if found is None:
        raise EngineMissing(
            "mnn: MNN is not installed; pip install 'ec_estimator[mnn]'"
        )
    packages = [
        os.path.dirname(os.path.dirname(f)) for f in (found.origin, np.__file__)
    ]
    kept = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
    return {**kept, "PYTHONPATH": os.pathsep.join(dict.fromkeys(packages))}


def _end(output):
    """The last lines of what a process printed."""
    return " | ".join(output.strip().splitlines()[-4:])
