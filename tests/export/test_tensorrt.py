"""The folder for TensorRT, and its script on TensorRT's own parser and builder."""
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ec_estimator as ec
from ec_estimator.export.format import ExportError, Format
from ec_estimator.export.tensorrt_format import TensorRTFormat, dynamic_ranges
from tests.export.frozen import trained
from tests.export.tensorrt_script import ENGINES, build

# Writes one quantized convolution: path, batch (0: unknown), dtype of the integers.
ONNX = """
import sys
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

path, batch, dtype = sys.argv[1], int(sys.argv[2]) or "batch", sys.argv[3]
size = int(sys.argv[4]) or "size"
constants = {
    "step": np.float32(0.05), "zero": np.zeros((), dtype),
    "steps": np.full(8, 0.01, np.float32), "zeros": np.zeros(8, np.int8),
    "kernel": np.random.RandomState(0).randint(-127, 128, (8, 3, 3, 3)).astype("int8"),
}
nodes = [
    ("QuantizeLinear", ["x", "step", "zero"], "xq", {}),
    ("DequantizeLinear", ["xq", "step", "zero"], "xd", {}),
    ("DequantizeLinear", ["kernel", "steps", "zeros"], "w", {"axis": 0}),
    ("Conv", ["xd", "w"], "conv", {}),
    ("Relu", ["conv"], "y", {}),
]
graph = helper.make_graph(
    [helper.make_node(op, x, [y], **more) for op, x, y, more in nodes],
    "graph",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, size, 8])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 8, None, 6])],
    [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
model.ir_version = 8
onnx.checker.check_model(model)
onnx.save(model, path)
"""


class OneFile(Format):
    """Stands for the format that writes ONNX."""

    name = "onnx"

    def refuse_training(self, config):
        return f"no {config.bits}"

    def write(self, model, signature, folder, samples):
        (Path(folder) / "model.onnx").write_bytes(b"an ONNX file")
        return ("model.onnx",)

    def run(self, folder, inputs):
        return {"folder": folder, **inputs}


def written(tmp_path, compressed="quantized"):
    model = trained("raw", compressed)
    files = TensorRTFormat(OneFile()).write(
        model.model, model.signature, str(tmp_path), model.samples
    )
    assert sorted(files) == sorted(path.name for path in tmp_path.iterdir())
    return model


def write_onnx(folder, batch=1, dtype="int8", size=8):
    arguments = [str(folder / "model.onnx"), str(batch), dtype, str(size)]
    subprocess.run([ENGINES, "-c", ONNX, *arguments], check=True)


def test_examples_are_those_of_the_eval_input(tmp_path):
    model = written(tmp_path)
    for name, part in (("calib", slice(0, 2)), ("test", slice(2, 3))):
        with np.load(str(tmp_path / f"{name}_data.npz")) as file:
            assert file.files == ["x"]
            np.testing.assert_array_equal(file["x"], model.samples["x"][part])


def test_a_single_example_does_for_both_under_any_name(tmp_path):
    model = trained("raw", "dense")
    samples = {"file": model.samples["x"][:1], "a/b:c": np.arange(3)[:1]}
    TensorRTFormat(OneFile()).write(
        model.model, model.signature, str(tmp_path), samples
    )
    for name in ("calib_data.npz", "test_data.npz"):
        with np.load(str(tmp_path / name)) as file:
            assert sorted(file.files) == sorted(samples)
            for key, array in samples.items():
                np.testing.assert_array_equal(file[key], array)


@pytest.mark.parametrize(
    "count,calibrates,tests",
    [(4, (0, 2), (2, 4)), (6, (0, 4), (4, 6)), (2, (0, 2), (0, 2))],
)
def test_examples_are_whole_batches_of_a_fixed_size(count, calibrates, tests, tmp_path):
    trained_model = trained("raw", "dense")
    signature = trained_model.model.signatures[trained_model.signature]
    port = signature.inputs["x"]._replace(size=(2, 8, 8, 3))
    model = trained_model.model._replace(
        signatures={"fixed": signature._replace(inputs={"x": port})}
    )
    x = np.arange(count, dtype=np.float32)
    TensorRTFormat(OneFile()).write(model, "fixed", str(tmp_path), {"x": x})
    for name, (start, end) in (("calib", calibrates), ("test", tests)):
        with np.load(str(tmp_path / f"{name}_data.npz")) as file:
            np.testing.assert_array_equal(file["x"], x[start:end])


def test_no_examples_are_an_error(tmp_path):
    model = trained("raw", "dense")
    with pytest.raises(ExportError, match="tensorrt: there are no examples"):
        TensorRTFormat(OneFile()).write(model.model, model.signature, str(tmp_path), {})


def test_ranges_are_integers_times_steps(tmp_path):
    model = written(tmp_path).model
    ranges = json.loads((tmp_path / "dynamic_ranges.json").read_text())
    assert {"x:0", "Relu:0", "Mean:0", "Relu_1:0"} <= set(ranges)
    (operand,) = model.layers["Conv2D"].activations
    step = float(model.scales[operand.quantizer].steps)
    np.testing.assert_allclose(ranges["x:0"], [-128 * step, 127 * step], rtol=1e-6)


def test_ranges_of_a_float_model_and_of_two_readers():
    assert dynamic_ranges(trained("raw", "dense").model) == {}
    model = trained("raw", "quantized").model
    (operand,) = model.layers["Conv2D"].activations
    wide = model.scales[operand.quantizer]._replace(low=-2, high=1, steps=1e3)
    model = model._replace(
        outputs={"x:0": "wide"}, scales={**model.scales, "wide": wide}
    )
    assert dynamic_ranges(model)["x:0"] == [-2e3, 1e3]


def test_what_it_refuses_and_answers_is_the_onnx_format_s():
    format = TensorRTFormat(OneFile())
    assert format.refuse_training(ec.QuantizerConfig(bits=4)) == "no 4"
    assert format.run("there", {"x": 1}) == {"folder": "there", "x": 1}


@pytest.mark.parametrize("batch,arguments", [(1, ()), (0, ("--batch", "4"))])
def test_the_script_builds_an_engine(batch, arguments, tmp_path):
    written(tmp_path)
    write_onnx(tmp_path, batch)
    output = tmp_path / "made.engine"
    done = build(
        tmp_path, "--output", str(output), "--compute_capability", "8.9", *arguments
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "model.onnx with tensorrt_rtx 1." in done.stdout
    # More than the file it was built of: it holds code for the GPU.
    assert output.stat().st_size > (tmp_path / "model.onnx").stat().st_size
    assert f"Wrote {output.stat().st_size} bytes" in done.stdout


@pytest.mark.parametrize(
    "onnx,arguments,message",
    [
        ({"dtype": "uint8"}, (), "its integers would be others: .*UINT8"),
        ({"size": 0}, (), r"input 'x' has unknown sizes beside the batch, \(1, 3, -1"),
        ({}, ("--compute_capability", "9.0"), "=9.0: this TensorRT builds for .*SM89"),
        ({}, ("--onnx", "none.onnx"), r"--onnx: want one ONNX file, found \['none"),
        ({}, ("--output", "none/x.engine"), "No such file or directory: 'none/x.eng"),
        (None, (), "model.onnx cannot be read: .*Failed to parse"),
    ],
)
def test_errors_of_the_script_are_one_sentence(onnx, arguments, message, tmp_path):
    written(tmp_path)
    if onnx is not None:
        write_onnx(tmp_path, **onnx)
    done = build(tmp_path, *arguments)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert re.match(f"build_engine.py: .*{message}", last), last
    assert not list(tmp_path.glob("*.engine*"))


def test_without_tensorrt_the_script_says_what_to_install(tmp_path):
    written(tmp_path)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "build_engine.py")],
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    assert done.returncode == 1
    assert "pip install tensorrt-rtx-cu13" in done.stderr
