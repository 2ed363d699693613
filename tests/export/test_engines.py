"""Engines in their own environment: `make engines` makes it, `make test` needs it."""
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ec_estimator.export import engines
from ec_estimator.export.engines import measure, run_batches, run_engine
from ec_estimator.export.format import EngineMissing, ExportError

ON_CPU = pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
MATRIX = np.float32([[1, -2], [3, 127], [-127, 4]]) * np.float32([0.25, 0.5])
KERNEL = np.arange(-9, 9, dtype=np.float32).reshape(2, 3, 3)
KERNEL *= np.float32([0.25, 0.5])[:, None, None]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    script = Path(__file__).with_name("onnx_files.py")
    subprocess.check_call([*engines.python_of("openvino"), str(script), str(folder)])
    return folder


@pytest.fixture
def no_environment(monkeypatch, tmp_path):
    monkeypatch.delenv(engines.VARIABLE, raising=False)
    monkeypatch.setattr(engines, "CHECKOUT", tmp_path)
    monkeypatch.chdir(tmp_path)


def rounded(x):
    """Steps of 0.5, int8."""
    return 0.5 * np.clip(np.rint(x / 0.5), -128, 127).astype(np.float32)


@ON_CPU
def test_a_quantized_product_is_numpys(engine, files):
    x = np.float32([[0.2, -0.9, 3.4], [100, -100, 0.7]])
    outputs = run_engine(engine, files / "matmul.onnx", {"x": x})
    assert list(outputs) == ["y"]
    assert outputs["y"].dtype == np.float32
    np.testing.assert_allclose(outputs["y"], rounded(x) @ MATRIX, rtol=1e-6)


@ON_CPU
def test_all_batches_go_to_one_process(engine, files, monkeypatch):
    started = []
    work = engines._work
    monkeypatch.setattr(engines, "_work", lambda *a: started.append(a) or work(*a))
    batches = [{"x": np.full((n, 3), n, np.float32)} for n in (1, 3, 2)]
    answers = run_batches(engine, files / "matmul.onnx", batches)
    for batch, outputs in zip(batches, answers):
        expected = rounded(batch["x"]) @ MATRIX
        np.testing.assert_allclose(outputs["y"], expected, rtol=1e-6)
    assert len(answers) == 3 and len(started) == 1


@ON_CPU
def test_a_quantized_convolution_is_numpys(engine, files):
    x = np.random.RandomState(0).normal(0, 9, (1, 1, 5, 5)).astype(np.float32)
    y = run_engine(engine, str(files / "conv_int8.onnx"), {"x": x})["y"]
    image, expected = rounded(x)[0, 0], np.empty((1, 2, 3, 3), np.float32)
    for row, column in np.ndindex(3, 3):
        patch = image[row : row + 3, column : column + 3]
        expected[0, :, row, column] = (KERNEL * patch).sum(axis=(1, 2))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-4)


@ON_CPU
def test_float_is_computed_as_float(engine, files):
    # Where the CPU has bfloat16, OpenVINO's default is 0.06 away.
    x = np.random.RandomState(1).normal(size=(16, 64)).astype(np.float32)
    y = run_engine(engine, files / "float.onnx", {"x": x})["y"]
    weight = np.random.RandomState(0).normal(size=(64, 8)).astype(np.float32)
    np.testing.assert_allclose(y, x @ weight, atol=1e-4)


@ON_CPU
def test_names_are_those_of_the_file(engine, files):
    inputs = {"file": np.float32([10, 20]), "tower/x:0": np.float32([1, 2])}
    outputs = run_engine(engine, files / "names.onnx", inputs)
    assert {name: y.tolist() for name, y in outputs.items()} == {
        "tower/y:0": [11, 22],
        "also": [11, 22],
        "minus": [-11, -22],
    }


def test_strings_go_through(files):
    x = np.array(["a", "\u00e4\u00f6", ""])
    y = run_engine("onnxruntime", files / "strings.onnx", {"x": x})["y"]
    assert y.tolist() == x.tolist()


@ON_CPU
@pytest.mark.parametrize(
    "inputs,message",
    [
        ({}, "the inputs are x, not none"),
        ({"y": np.float32([[1, 2, 3]])}, "the inputs are x, not y"),
        ({"x": np.float32([[1, 2, 3]]), "y": 1}, "the inputs are x, not x, y"),
        ({"x": np.float64([[1, 2, 3]])}, "input 'x' is float32, not float64"),
        ({"x": np.array([["1", "2", "3"]])}, "input 'x' is float32, not string"),
        ({"x": np.float32([[1, 2]])}, r"nvalid dimensions|\(shape=\[\?,3\]\)"),
    ],
)
def test_inputs_that_are_not_the_files_are_refused(engine, files, inputs, message):
    with pytest.raises(ExportError, match=f"{engine}: .*matmul.onnx: .*{message}"):
        run_engine(engine, files / "matmul.onnx", inputs)


@pytest.mark.parametrize("x", [np.array([b"a"], object), np.array([1], ">f4")])
def test_arrays_that_no_engine_reads_are_refused(files, x):
    with pytest.raises(ExportError, match=f"input 'x' has dtype {x.dtype}: engines"):
        run_engine("onnxruntime", files / "matmul.onnx", {"x": x})


@ON_CPU
@pytest.mark.parametrize("size", [0, 100])
def test_a_damaged_file_is_refused_in_one_line(engine, files, tmp_path, size):
    path = tmp_path / "cut.onnx"
    path.write_bytes((files / "matmul.onnx").read_bytes()[:size])
    with pytest.raises(ExportError, match=f"{engine}: {path}: \\w+: ") as refused:
        run_engine(engine, path, {"x": np.float32([[1, 2, 3]])})
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ExportError, match="a.onnx: no such file"):
        run_engine("onnxruntime", tmp_path / "a.onnx", {})


@ON_CPU
def test_every_run_is_measured(engine, files):
    inputs = {"x": np.zeros((1, 3), np.float32)}
    seconds = measure(engine, files / "matmul.onnx", inputs, runs=7, threads=1)
    assert len(seconds) == 7
    assert all(0 < x < 10 for x in seconds)


def test_an_engine_that_nobody_knows():
    with pytest.raises(ValueError, match="'mnn' is not one of onnxruntime, openvino"):
        run_engine("mnn", "a.onnx", {})


def test_modules_of_this_python_are_none_of_the_engines(files, tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit('not mine')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    x = np.zeros((1, 3), np.float32)
    assert run_engine("onnxruntime", files / "matmul.onnx", {"x": x})["y"].any() == 0


def test_onnx_runtime_reports_nothing(files, tmp_path, monkeypatch):
    # What it would send it keeps in a data base there first.
    for variable in "HOME", "XDG_CACHE_HOME":
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    run_engine("onnxruntime", files / "matmul.onnx", {"x": np.ones((1, 3), np.float32)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_environment")
def test_without_an_environment_the_command_is_told(files, tmp_path):
    message = f"no .venv-engines in {tmp_path} .*'make engines', or 'pip install openv"
    with pytest.raises(EngineMissing, match=message):
        run_engine("openvino", files / "matmul.onnx", {"x": 1})


@pytest.mark.usefixtures("no_environment")
def test_an_environment_beside_the_current_folder_is_found(tmp_path):
    python = tmp_path / ".venv-engines" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert engines.python_of("openvino") == [str(python), "-I"]


@pytest.mark.usefixtures("no_environment")
def test_this_pythons_own_onnx_runtime_will_do(files, tmp_path, monkeypatch):
    (tmp_path / "onnxruntime.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    outputs = run_engine("onnxruntime", files / "matmul.onnx", {"x": np.int64([3])})
    assert outputs["y"].tolist() == [6]


STAND_IN = """
from types import SimpleNamespace as SessionOptions

class InferenceSession:
    def __init__(self, path, options, providers):
        assert path.endswith("matmul.onnx") and options.intra_op_num_threads == 2

    def get_inputs(self):
        return [SessionOptions(name="x", type="tensor(int64)")]

    def get_outputs(self):
        return [SessionOptions(name="y")]

    def run(self, names, inputs):
        return [2 * inputs["x"]]
"""


@pytest.mark.parametrize(
    "python,message",
    [
        ("/no/such/python", "openvino: /no/such/python does not start: .*No such file"),
        (str(Path(__file__).parent), "does not start: .*Permission denied"),
        (sys.executable, "ModuleNotFoundError: No module named 'o.*; run 'make engin"),
    ],
)
def test_a_python_that_has_no_engine(files, monkeypatch, python, message):
    monkeypatch.setenv(engines.VARIABLE, python)
    with pytest.raises(EngineMissing, match=message):
        run_engine("openvino", files / "matmul.onnx", {"x": 1})


def test_an_engine_that_dies_without_a_word(files, tmp_path, monkeypatch):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nkill -9 $$\n")
    script.chmod(0o755)
    monkeypatch.setenv(engines.VARIABLE, str(script))
    with pytest.raises(ExportError, match="matmul.onnx: exit code -9"):
        run_engine("onnxruntime", files / "matmul.onnx", {"x": 1})
