"""What HandoffExporter hands over, and what it refuses to."""
import hashlib
import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.export.format import ExportError
from ec_estimator.export.parity import Limits
from tests.export import handoffs
from tests.export.handoffs import LAST, export, exporter, input_fn


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    """A trained Estimator; tests export it to folders of their own."""
    trained = handoffs.estimator(tmp_path_factory.mktemp("sparse"), "sparse")
    return trained.train(input_fn, max_steps=LAST)


def manifest(path):
    with open(f"{path}/manifest.json") as file:
        return json.load(file)


def examples(count=8):
    with tf.Graph().as_default(), tf.Session() as session:
        data = input_fn().unbatch().batch(count)
        x, y = session.run(tf.data.make_one_shot_iterator(data).get_next())
    return x["x"], y


def answers(path, file, feeds, output="logits"):
    """What a file's graph says, by the tensors in the manifest."""
    graph_def = tf.GraphDef()
    with open(f"{path}/{file}", "rb") as stream:
        graph_def.ParseFromString(stream.read())
    ports = manifest(path)
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(graph_def, name="")
        return session.run(
            ports["outputs"][output]["tensor"],
            {ports["inputs"][key]["tensor"]: value for key, value in feeds.items()},
        )


def predicted(trained, key="logits"):
    found = trained.predict(lambda: input_fn().take(4), yield_single_examples=False)
    return np.concatenate([batch[key] for batch in found])


def check_handed_over(trained, folder):
    """Exports a model, and compares its answers with the Estimator's."""
    path = export(exporter(), trained, folder)
    made = manifest(path)
    file = "fake_quant.pb" if "fake_quant.pb" in made["files"] else "model.pb"
    found = answers(path, file, {"x": examples()[0]})
    np.testing.assert_allclose(found, predicted(trained), rtol=1e-5, atol=1e-6)
    assert path == str(folder / str(LAST))
    assert made["parity"]["checked"] is True
    assert made["parity"]["samples"] == 8
    assert made["parity"]["outputs"]["logits"]["top_1"] == 1.0
    return path, made


@pytest.mark.parametrize("kind", [None, "sparse", "pruned"])
def test_a_float_model_is_one_graph(kind, tmp_path):
    trained = handoffs.estimator(tmp_path / "run", kind)
    trained.train(input_fn, max_steps=LAST)
    path, made = check_handed_over(trained, tmp_path / "out")
    assert sorted(made["files"]) == ["io.json", "model.pb"]
    assert made["parity"]["limits"]["top_1"] == 0.999
    assert len(made["compressors"]) == (kind is not None)


def check_quantized(trained, folder):
    path, made = check_handed_over(trained, folder)
    files = ["fake_quant.pb", "fake_quant_io.json", "io.json", "model.pb"]
    assert sorted(made["files"]) == files
    for name in files[1:3]:
        with open(f"{path}/{name}") as stream:
            ends = json.load(stream)
        assert ends["inputs"] == made["inputs"]
        assert set(ends["outputs"]) == set(made["outputs"])
    assert made["parity"]["limits"]["top_1"] == 0.99
    x = {"x": examples()[0]}
    floats, fakes = (answers(path, file, x) for file in ("model.pb", "fake_quant.pb"))
    assert 0 < np.abs(floats - fakes).max() < 0.2 * np.abs(fakes).max()
    for file, has_any in (("model.pb", False), ("fake_quant.pb", True)):
        with open(f"{path}/{file}", "rb") as stream:
            assert (b"FakeQuant" in stream.read()) is has_any


@pytest.mark.parametrize("kind", ["quantized", "outputs quantized"])
def test_a_quantized_model_is_two_graphs(kind, tmp_path):
    trained = handoffs.estimator(tmp_path / "run", kind)
    trained.train(input_fn, max_steps=LAST)
    check_quantized(trained, tmp_path / "out")


def test_a_model_that_was_pruned_and_finetuned_quantized(tmp_path):
    trained = handoffs.finetuned(tmp_path).train(input_fn, max_steps=LAST)
    check_quantized(trained, tmp_path / "out")


def test_the_manifest_says_what_was_handed_over(sparse, tmp_path):
    path = export(exporter(handoffs.Nested()), sparse, tmp_path / "out")
    made = manifest(path)
    assert made["format"] == "frozen_graph"
    assert made["checkpoint"] == sparse.latest_checkpoint()
    assert made["global_step"] == LAST
    assert made["signature"] == "serving_default"
    assert made["inputs"]["x"]["shape"] == [None, 8, 8, 3]
    assert made["inputs"]["x"]["dtype"] == "float32"
    assert made["outputs"]["logits"]["shape"] == [None, 5]
    assert set(made["outputs"]) == {"logits", "probabilities"}
    assert made["compressors"]["sparsity"]["target_sparse_ratio"] == 0.5
    assert made["versions"] == {
        "ec_estimator": ec.__version__,
        "tensorflow": tf.version.VERSION,
    }
    for file, entry in made["files"].items():
        with open(f"{path}/{file}", "rb") as stream:
            content = stream.read()
        assert entry == {
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
        }
    assert set(made["files"]) == {"model.pb", "io.json", "a/b/samples.npy"}
    np.testing.assert_array_equal(np.load(f"{path}/a/b/samples.npy"), examples()[0])


def test_accuracy_is_there_where_examples_have_labels(sparse, tmp_path):
    made = manifest(export(exporter(), sparse, tmp_path))
    expected = np.mean(np.argmax(predicted(sparse), 1) == examples()[1])
    for who in ("tensorflow", "engine"):
        assert made["parity"]["accuracy"][who]["logits"] == pytest.approx(expected)


@pytest.mark.parametrize(
    "error,message",
    [
        (np.array([0, 0, 0, 0, 100]), r"output 'logits': top_1 is \d.*limit is 0.999"),
        (0.5, "output 'logits': relative_difference is .*, the limit is 0.001"),
        (np.nan, "output 'logits': not_finite is 40, the limit is 0"),
    ],
)
def test_an_engine_that_answers_otherwise_is_an_error(sparse, error, message, tmp_path):
    wrong = exporter(handoffs.Wrong(error))
    for _ in range(2):
        with pytest.raises(ExportError, match=message):
            export(wrong, sparse, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [f"{LAST}-failed-parity"]
    made = manifest(tmp_path / f"{LAST}-failed-parity")
    assert made["parity"]["failed"]
    assert "model.pb" in made["files"]
    export(exporter(), sparse, tmp_path)
    assert (tmp_path / str(LAST) / "model.pb").exists()


def test_limits_can_be_set(sparse, tmp_path):
    limits = Limits(0.0, 10.0, 10.0)
    path = export(exporter(handoffs.Wrong(0.5), limits=limits), sparse, tmp_path)
    assert manifest(path)["parity"]["limits"]["class_difference"] == 10.0


@pytest.mark.parametrize(
    "wrong,message",
    [
        ({"samples": 0}, "samples: must be an integer greater than 0, got 0"),
        ({"samples": -1}, "samples: must be an integer greater than 0, got -1"),
        ({"samples": 2.5}, "samples: must be an integer greater than 0, got 2.5"),
        ({"samples": True}, "samples: must be an integer greater than 0, got True"),
        ({"made": "onnx"}, "format: must be a Format, got 'onnx'"),
        ({"made": handoffs.Nested}, "format: must be a Format, got <class"),
        ({"limits": 0.1}, "limits: must be parity.Limits, .*, got 0.1"),
        ({"limits": (1, 0, 0)}, r"limits: must be parity.Limits, .*, got \(1, 0, 0\)"),
        (
            {"limits": Limits(99, 0, 0)},
            r"limits: .*top_1 in \[0, 1\].*, got Limits\(top_1=99",
        ),
        ({"limits": Limits(1, -1, 0)}, "limits: .*0 or more, got .*difference=-1"),
        (
            {"limits": Limits(1, 0, "1")},
            "limits: .*0 or more, got .*class_difference='1'",
        ),
        ({"limits": Limits(np.nan, 0, 0)}, "limits: .*got .*top_1=nan"),
        ({"input_fn": 3}, "input_fn: must be a function or None, got 3"),
    ],
)
def test_wrong_arguments_are_refused_when_it_is_made(wrong, message):
    with pytest.raises(ec.ConfigError, match=f"HandoffExporter.{message}"):
        exporter(**wrong)


def test_a_receiver_is_a_function():
    with pytest.raises(ec.ConfigError, match="receiver_fn: must be a function, got {}"):
        ec.HandoffExporter(handoffs.Nested(), {})


def test_a_format_that_rounds_float_models_says_so(sparse, tmp_path, caplog):
    made = manifest(export(exporter(handoffs.Rounding(0.005)), sparse, tmp_path))
    assert made["parity"]["limits"]["difference"] == 0.1
    assert "the format rounds what was trained in float; the engine's" in caplog.text


def warned(caplog):
    return [r.getMessage() for r in caplog.records if "not compared" in r.getMessage()]


def test_without_the_engine_a_warning_says_so_and_the_manifest(
    sparse, tmp_path, caplog
):
    made = manifest(export(exporter(handoffs.Missing()), sparse, tmp_path))
    assert made["parity"] == {
        "checked": False,
        "reason": "pip install 'ec_estimator[engine]'",
        "failed": [],
    }
    assert len(warned(caplog)) == 1
    assert "pip install 'ec_estimator[engine]'" in warned(caplog)[0]


def test_without_an_input_fn_a_warning_says_so(sparse, tmp_path, caplog):
    made = manifest(export(exporter(input_fn=None), sparse, tmp_path))
    assert made["parity"]["reason"] == "no input_fn was given"
    assert "no input_fn was given" in warned(caplog)[0]


@pytest.mark.parametrize(
    "made,message",
    [
        (handoffs.Refusing(), "op 'Foo' has no like there"),
        (handoffs.Full(), "cannot be written .*File too large.*; make room there"),
    ],
)
def test_a_failed_export_leaves_nothing(sparse, made, message, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with pytest.raises(ExportError, match=message):
        export(exporter(made), sparse, tmp_path / "out")
    assert list(scratch.iterdir()) == []
    assert not (tmp_path / "out").exists()


def test_a_disk_that_is_full_while_tensorflow_writes_leaves_nothing(
    sparse, tmp_path, monkeypatch
):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    message = f"'frozen_graph': '{scratch}/.*' cannot be written .*too large.*; make"
    with handoffs.files_end_after(1000), pytest.raises(ExportError, match=message):
        export(exporter(), sparse, tmp_path / "out")
    assert list(scratch.iterdir()) == []
    assert not (tmp_path / "out").exists()


def test_no_temporary_folder_is_an_error(sparse, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(ExportError, match="no temporary folder can be .*/none/"):
        export(exporter(), sparse, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_errors_of_others_stay_what_they_are(sparse, tmp_path):
    def unreadable():
        lines = tf.data.TextLineDataset("/none")
        return lines.map(lambda line: ({"x": tf.zeros([8, 8, 3])}, 0)).batch(1)

    with pytest.raises(tf.errors.NotFoundError):
        export(exporter(input_fn=unreadable), sparse, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_while_copying_leaves_nothing(sparse, tmp_path):
    message = "/4' cannot be written .*File too large"
    # It comes back to what it was when the format has changed it, too.
    with handoffs.files_end_after(2**40), pytest.raises(ExportError, match=message):
        export(exporter(handoffs.FullThen()), sparse, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_cannot_be_written_is_an_error(sparse, tmp_path):
    (tmp_path / "out").write_text("a file, where a folder should be")
    with pytest.raises(ExportError, match="/out/4' cannot be written"):
        export(exporter(), sparse, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_refused_export_is_followed_by_another_in_the_same_second(
    sparse, tmp_path, monkeypatch
):
    monkeypatch.setattr("time.time", lambda: 1.6e9)
    with pytest.raises(ExportError, match="no like there"):
        export(exporter(handoffs.Refusing()), sparse, tmp_path)
    export(exporter(), sparse, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [str(LAST)]


def test_a_checkpoint_is_handed_over_once(sparse, tmp_path):
    path = export(exporter(), sparse, tmp_path)
    (tmp_path / str(LAST) / "model.pb").write_text("as it was")
    # An evaluator that is started again evaluates its last checkpoint again.
    assert export(exporter(), sparse, tmp_path) == path
    assert (tmp_path / str(LAST) / "model.pb").read_text() == "as it was"


def test_a_folder_of_something_else_is_an_error_before_work_is_done(
    sparse, tmp_path, monkeypatch
):
    monkeypatch.setattr(sparse, "export_saved_model", None)
    (tmp_path / str(LAST)).mkdir()
    with pytest.raises(ExportError, match="/4' is there already, with format None"):
        export(exporter(), sparse, tmp_path)
    assert list((tmp_path / str(LAST)).iterdir()) == []


def test_a_folder_of_another_run_is_an_error(sparse, tmp_path):
    other = handoffs.estimator(tmp_path / "other").train(input_fn, max_steps=LAST)
    export(exporter(), other, tmp_path / "out")
    with pytest.raises(ExportError, match="is there already, with checkpoint_sha256"):
        export(exporter(), sparse, tmp_path / "out")


def test_an_unreadable_checkpoint_is_an_error(tmp_path):
    trained = handoffs.estimator(tmp_path / "run").train(input_fn, max_steps=1)
    index = tmp_path / "run" / "model.ckpt-1.index"
    index.write_bytes(index.read_bytes()[:50])
    with pytest.raises(ec.RunFolderError, match="model.ckpt-1' cannot be read"):
        export(exporter(), trained, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unfinished_model_is_not_handed_over(tmp_path):
    trained = handoffs.estimator(tmp_path / "run", "sparse")
    trained.train(input_fn, max_steps=LAST - 1)
    with pytest.raises(ec.UnfinishedError, match="trial 1 of 2; train to step 4"):
        export(exporter(), trained, tmp_path / "out")
    assert not (tmp_path / "out").exists()
