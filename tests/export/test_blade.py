"""The folder for Blade, and its script against a stand-in that records the call."""
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.export.blade_format import BladeFormat
from ec_estimator.export.format import EngineMissing, ExportError
from tests.export.frozen import COMPRESSED, trained

# Writes what it is called with; arrays beside it.
STAND_IN = """
import json
import numpy as np

def optimize(model, optimization_level, device_type, config=None, inputs=None,
             outputs=None, input_shapes=None, input_ranges=None, test_data=[],
             calib_data=[], custom_ops=[], verbose=False):
    for name, batches in (("test", test_data), ("calib", calib_data)):
        assert len(batches) > 0
        for i, batch in enumerate(batches):
            np.savez(f"{name}{i}.npz", **batch)
    with open("call.json", "w") as file:
        json.dump({
            "ops": [node.name for node in model.node],
            "level": optimization_level, "device": device_type,
            "inputs": inputs, "outputs": outputs,
            "test": len(test_data), "calib": len(calib_data),
        }, file)
    return model, None, "Report: {}"
"""


def written(tmp_path, network="raw", compressed="dense"):
    """The folder, and what was trained."""
    folder = tmp_path / "folder"
    folder.mkdir()
    model = trained(network, compressed)
    files = BladeFormat().write(
        model.model, model.signature, str(folder), model.samples
    )
    there = [str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()]
    assert sorted(files) == sorted(there)
    return folder, model


def run(folder, tmp_path, *arguments):
    """Runs optimize.py where the stand-in is, and ec_estimator is not."""
    (tmp_path / "blade.py").write_text(STAND_IN)
    return subprocess.run(
        [sys.executable, "-W", "ignore", str(folder / "optimize.py"), *arguments],
        cwd=str(tmp_path),
        env={
            "PYTHONPATH": str(tmp_path),
            "PATH": os.environ["PATH"],
            "TF_CPP_MIN_LOG_LEVEL": "2",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )


def load(path):
    with np.load(str(path)) as file:
        return {name: file[name] for name in file.files}


def read(path):
    return json.loads(path.read_text())


@pytest.mark.parametrize("compressed,level", [("dense", "o1"), ("quantized", "o2")])
def test_the_script_makes_the_call(compressed, level, tmp_path):
    folder, model = written(tmp_path, compressed=compressed)
    done = run(folder, tmp_path, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    call = read(tmp_path / "call.json")
    ops = call.pop("ops")
    assert {"Conv2D", "w1"} <= set(ops)
    assert not [op for op in ops if "ec_estimator" in op]
    assert sorted(call.pop("outputs")) == ["MatMul_1", "Softmax"]
    assert call == {
        "level": level,
        "device": "cpu",
        "inputs": ["x"],
        "test": 1,
        "calib": 2,
    }
    # One example each; two to calibrate, the third to test.
    for i, name in enumerate(("calib0.npz", "calib1.npz", "test0.npz")):
        (array,) = load(tmp_path / name).values()
        np.testing.assert_array_equal(array, model.samples["x"][i : i + 1])
        assert list(load(tmp_path / name)) == ["x:0"]
    assert "Report: {}" in done.stdout
    optimized, frozen = (
        tf.GraphDef.FromString((folder / name).read_bytes())
        for name in ("optimized.pb", "frozen.pb")
    )
    assert optimized == frozen


def answers(graph, folder, samples):
    """What the graph gives for io.json's names."""
    ends = read(folder / "io.json")
    with tf.Session(graph=graph) as session:
        return session.run(
            {key: port["tensor"] for key, port in ends["outputs"].items()},
            {ends["inputs"][key]["tensor"]: array for key, array in samples.items()},
        )


@pytest.mark.parametrize("compressed", sorted(set(COMPRESSED) - {"quantized"}))
def test_both_models_answer_as_the_estimator(compressed, tmp_path):
    folder, model = written(tmp_path, compressed=compressed)
    graphs = [tf.Graph(), tf.Graph()]
    with graphs[0].as_default():
        graph_def = tf.GraphDef.FromString((folder / "frozen.pb").read_bytes())
        tf.import_graph_def(graph_def, name="")
    with graphs[1].as_default(), tf.Session() as session:
        loaded = tf.saved_model.load(
            session, [tf.saved_model.SERVING], str(folder / "saved_model")
        )
    assert set(loaded.signature_def[model.signature].outputs) == set(model.answers)
    for graph in graphs:
        for key, found in answers(graph, folder, model.samples).items():
            np.testing.assert_allclose(found, model.answers[key], rtol=1e-5, atol=1e-6)


def test_names_shapes_and_dtypes(tmp_path):
    folder, _ = written(tmp_path)
    assert read(folder / "io.json") == {
        "inputs": {
            "x": {"tensor": "x:0", "shape": [None, 8, 8, 3], "dtype": "float32"}
        },
        "outputs": {
            "logits": {"tensor": "MatMul_1:0", "shape": [None, 5], "dtype": "float32"},
            "probabilities": {
                "tensor": "Softmax:0",
                "shape": [None, 5],
                "dtype": "float32",
            },
        },
    }


def test_scales_are_those_that_were_trained(tmp_path):
    folder, model = written(tmp_path, compressed="quantized")
    content = read(folder / "scales.json")
    for name, scale in model.model.scales.items():
        stored = content["scales"][name]
        assert (stored["bits"], stored["low"], stored["high"]) == scale[:3]
        np.testing.assert_array_equal(np.float32(stored["steps"]), scale.steps)
    assert content["kernels"]["Conv2D"] == {"w1/read:0": "w1"}
    assert len(content["scales"]["w1"]["steps"]) == 8
    assert {"x:0", "Relu:0"} <= set(content["activations"])
    for names in content["activations"].values():
        assert set(names) <= set(content["scales"])


def test_sparsity_by_kernel(tmp_path):
    folder, _ = written(tmp_path, compressed="sparse")
    found = read(folder / "sparsity.json")
    assert found["Conv2D"]["kernel"] == "w1"
    assert [zeros["block"] for zeros in found.values()] == [[1, 4]] * 3
    assert all(0.58 < zeros["sparsity"] < 0.62 for zeros in found.values())


def test_there_is_nothing_to_run_here(tmp_path):
    with pytest.raises(EngineMissing, match="Alibaba Cloud only.*run optimize.py"):
        BladeFormat().run(str(tmp_path), {})


@pytest.mark.parametrize(
    "samples,message",
    [
        ({}, "blade: there are no examples to calibrate"),
        ({"x": np.array([b"a", b"b"], object)}, "'x:0' holds strings"),
    ],
)
def test_examples_are_needed_and_are_numbers(samples, message, tmp_path):
    model = trained("raw")
    with pytest.raises(ExportError, match=message):
        BladeFormat().write(model.model, model.signature, str(tmp_path), samples)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("has_tables", ["graph_def", "fake_quant"])
def test_lookup_tables_are_refused(has_tables, tmp_path):
    trained_model = trained("raw")
    model = trained_model.model
    graph_def = tf.GraphDef()
    graph_def.CopyFrom(model.graph_def)
    graph_def.node.add(name="words", op="HashTableV2")
    with_tables = model._replace(graph_def=graph_def)
    if has_tables == "fake_quant":
        with_tables = model._replace(fake_quant=with_tables)
    with pytest.raises(ExportError, match="blade: 'words' is a lookup table, which"):
        BladeFormat().write(
            with_tables, trained_model.signature, str(tmp_path), trained_model.samples
        )
    assert not list(tmp_path.iterdir())


def cut(folder):
    (folder / "frozen.pb").write_bytes(b"\xff" * 9)


def empty(folder):
    (folder / "frozen.pb").write_bytes(b"")


def other_examples(folder):
    np.savez(str(folder / "test_data.npz"), y=np.zeros(3))


@pytest.mark.parametrize(
    "damage,message",
    [
        (cut, "DecodeError"),
        (empty, "frozen.pb has no node 'MatMul_1', which io.json names"),
        (other_examples, "test_data.npz does not hold examples of x:0"),
        (lambda folder: (folder / "io.json").write_text("{"), "JSONDecodeError"),
    ],
)
def test_a_damaged_folder_is_one_sentence(damage, message, tmp_path):
    folder, _ = written(tmp_path)
    damage(folder)
    done = run(folder, tmp_path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("optimize.py: ") and message in last
    assert "Traceback" not in done.stderr
    assert not (folder / "optimized.pb").exists()
