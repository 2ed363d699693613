"""What a quantized session leaves is evaluated and exported as it was trained."""
import json
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models
from tests.export.handoffs import files_end_after
from tests.quantization.sessions import SHAPE, config, model
from tests.quantization.test_session import snippet

BATCH = np.random.RandomState(4).standard_normal((3,) + SHAPE).astype(np.float32)


def serving():
    x = tf.placeholder(tf.float32, (None,) + SHAPE, "x")
    return {"x": x}, {"logits": models._raw_network(x, False)}


def predicted(folder, checkpoint, **kwargs):
    with tf.Graph().as_default(), tf.Session() as session:
        inputs, outputs = serving()
        ec.quantize_graph("eval", folder, config(**kwargs))
        tf.train.Saver().restore(session, checkpoint)
        return session.run(outputs["logits"], {inputs["x"]: BATCH})


def run_export(path):
    with tf.Graph().as_default() as graph, tf.Session() as session:
        loaded = tf.saved_model.load(session, ["serve"], path)
        signature = loaded.signature_def["serving_default"]
        names = (signature.outputs["logits"].name, signature.inputs["x"].name)
        return session.run(names[0], {names[1]: BATCH}), graph


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("session"))
    snippet(path, bits=4, wbits=3)
    return path


def test_the_clean_checkpoint_evaluates_as_the_training_checkpoint(folder):
    clean = tf.train.latest_checkpoint(os.path.join(folder, "clean"))
    np.testing.assert_array_equal(
        predicted(folder, clean, bits=4, wbits=3),
        predicted(folder, tf.train.latest_checkpoint(folder), bits=4, wbits=3),
    )


def test_evaluated_as_trained(folder):
    with tf.Graph().as_default(), tf.Session() as session:
        logits, _ = model()
        ec.quantize_graph("train", None, config(bits=4, wbits=3))
        reader = tf.train.load_checkpoint(folder)
        known = reader.get_variable_to_shape_map()
        variables = [v for v in tf.global_variables() if v.op.name in known]
        tf.train.Saver(variables).restore(session, tf.train.latest_checkpoint(folder))
        x = tf.get_default_graph().get_tensor_by_name("IteratorGetNext:0")
        session.run(
            [v.initializer for v in tf.global_variables() if "recent" in v.name]
        )
        trained = session.run(logits, {x: BATCH})
    served = predicted(folder, tf.train.latest_checkpoint(folder), bits=4, wbits=3)
    np.testing.assert_allclose(served, trained, rtol=0, atol=1e-5)


def test_an_export_from_the_folder(folder, tmp_path):
    path = ec.export_session(serving, folder, str(tmp_path / "export"))
    outputs, graph = run_export(path)
    clean = tf.train.latest_checkpoint(os.path.join(folder, "clean"))
    expected = predicted(folder, clean, bits=4, wbits=3)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-5)
    fake_quants = [o for o in graph.get_operations() if o.type.startswith("FakeQuant")]
    assert len(fake_quants) == 6
    for op in fake_quants:
        assert {tensor.op.type for tensor in op.inputs[1:]} == {"Const"}
    assert not any("ec_estimator" in v.name for v in graph.get_collection("variables"))
    with open(os.path.join(path, "scales.json")) as file:
        scales = json.load(file)
    assert {layer["kernel"] for layer in scales["layers"]} == {"w1", "w2", "w3"}
    assert all(q["step_sizes"] for q in scales["quantizers"].values())


def test_a_full_disk_is_an_error_and_leaves_nothing(folder, tmp_path):
    message = "export_session: .* cannot be written .*File too large"
    with files_end_after(1000), pytest.raises(ec.ExportError, match=message):
        ec.export_session(serving, folder, str(tmp_path / "export"))
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run_is_not_exported(tmp_path):
    folder = str(tmp_path / "run")
    snippet(folder, steps=6)
    with pytest.raises(ec.UnfinishedError, match="holds no checkpoint: training has"):
        ec.export_session(serving, folder, str(tmp_path / "export"))
    latest = tf.train.latest_checkpoint(folder)
    with pytest.raises(ec.UnfinishedError, match="trial 2 of 3; train to step"):
        ec.export_session(serving, folder, str(tmp_path / "export"), latest)
    with ec.unfinished_export():
        ec.export_session(serving, folder, str(tmp_path / "export"), latest)
    assert run_export(str(tmp_path / "export"))[0].shape == (3, 5)
    with pytest.raises(ec.ExportError, match="is not empty; name another folder"):
        ec.export_session(serving, folder, str(tmp_path / "export"), latest)


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(ec.RunFolderError, match="holds no run"):
        ec.export_session(serving, str(tmp_path), str(tmp_path / "export"))


def test_a_sparse_session_is_exported_with_its_zeros(tmp_path):
    folder = str(tmp_path / "run")
    with tf.Graph().as_default():
        _, loss = model()
        train_op = tf.train.GradientDescentOptimizer(0.01).minimize(loss)
        sparsifier = ec.Sparsifier(
            ec.SparsifierConfig(target_sparse_ratio=0.5, step_interval=1, num_trials=1)
        )
        hook = ec.CompressionHook(sparsifier, save_dir=folder)
        with tf.train.MonitoredSession(hooks=[hook]) as session:
            for _ in range(3):
                session.run(train_op)
    path = ec.export_session(serving, folder, str(tmp_path / "export"))
    assert not os.path.exists(os.path.join(path, "scales.json"))
    reader = tf.train.load_checkpoint(os.path.join(path, "variables", "variables"))
    assert np.mean(reader.get_tensor("w2") == 0) == 0.5


def test_a_checkpoint_without_step_sizes_is_refused(folder, tmp_path):
    """What the first releases' hook left: the model's own variables alone."""
    with tf.Graph().as_default(), tf.Session() as session:
        inputs, outputs = serving()
        own = tf.global_variables()
        ec.quantize_graph("eval", folder, config(bits=4, wbits=3))
        session.run(tf.global_variables_initializer())
        tf.train.Saver(own).restore(session, tf.train.latest_checkpoint(folder))
        with pytest.raises(tf.errors.InvalidArgumentError, match="was never fitted"):
            session.run(outputs["logits"], {inputs["x"]: BATCH})


def test_another_config_than_the_runs(folder):
    with tf.Graph().as_default():
        serving()
        with pytest.raises(
            ec.RunFolderError, match="quantization bits=4, this one has 8; use the old"
        ):
            ec.quantize_graph("eval", folder, config(wbits=3))


def test_a_graph_without_a_layer_of_the_run(folder):
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, (None, 20))
        tf.matmul(x, tf.get_variable("w3", [5, 20]), transpose_b=True)
        with pytest.raises(
            ec.PlanError, match="of kernel 'w1'.* was not found in this"
        ):
            ec.quantize_graph("eval", folder, config(bits=4, wbits=3))
