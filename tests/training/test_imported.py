"""Models with a part that tf.train.import_meta_graph brings, as hub.Module does."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.graph.coverage import COMPRESSED
from ec_estimator.shrink.artifact import read_artifact
from ec_estimator.training.attachment import attach_to_finished_graph
from ec_estimator.training.wrap import compressed_model
from tests import models
from tests.shrink.test_networks import check_predictions

MODULE = ("module/m1/kernel", "module/m2/kernel")
TRIALS = {"step_interval": 2, "num_trials": 2}
PRUNER = ec.PrunerConfig(compression_ratio=0.5, **TRIALS)
SPARSIFIER = ec.SparsifierConfig(
    target_sparse_ratio=0.5, sparse_block_shape=(1, 1), **TRIALS
)


def chain(x):
    x = tf.layers.dense(x, 12, tf.nn.relu, name="m1")
    return tf.layers.dense(x, 10, tf.nn.relu, name="m2")


@pytest.fixture(scope="module", params=[False, True], ids=["reference", "resource"])
def network(request, tmp_path_factory):
    """A network(x, training) between two of whose layers a stored one is imported."""
    path = str(tmp_path_factory.mktemp("stored") / "model.ckpt")
    with tf.Graph().as_default(), tf.Session() as session:
        with tf.variable_scope("", use_resource=request.param):
            tf.identity(chain(tf.placeholder(tf.float32, [None, 8], "in")), "out")
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, path)

    def build(x, training):
        x = tf.layers.dense(x, 8, tf.nn.relu, name="first")
        tf.train.import_meta_graph(
            f"{path}.meta", import_scope="module", input_map={"in:0": x}
        )
        variables = tf.global_variables("module/")
        tf.train.init_from_checkpoint(
            path, {v.op.name[len("module/") :]: v for v in variables}
        )
        x = tf.get_default_graph().get_tensor_by_name("module/out:0")
        x = tf.layers.dense(x, 9, tf.nn.relu, name="a")
        return tf.layers.dense(x, models.CLASSES, name="b")

    return build


def trained(network, compressor, folder):
    model_fn, input_fn = models.classifier(
        network, (8,), lambda: tf.train.GradientDescentOptimizer(0.1)
    )
    estimator = tf.estimator.Estimator(
        ec.compress(model_fn, compressor), config=models.run_config(folder)
    )
    estimator.train(input_fn, max_steps=5)
    return estimator, model_fn, input_fn


def test_a_pruner_leaves_it_whole_and_says_so_before_it_trains(network):
    model_fn, input_fn = models.classifier(network, (8,))
    model = compressed_model(ec.compress(model_fn, ec.Pruner(PRUNER)))
    with tf.Graph().as_default():
        batch = tf.data.make_one_shot_iterator(input_fn()).get_next()
        plan = model.plan(*batch, None, None)
    said = {row.kernel: row.decisions["pruning"] for row in plan.layers}
    assert said["a/kernel"] == COMPRESSED
    # What it reads is made by code, and stays for its sake.
    for kernel in ("first/kernel", *MODULE):
        assert "is imported (import_meta_graph, hub.Module) with" in said[kernel]


@pytest.fixture(scope="module")
def pruned(network, tmp_path_factory):
    """(folder, estimator, model_fn, input_fn)"""
    folder = str(tmp_path_factory.mktemp("pruned"))
    return (folder, *trained(network, ec.Pruner(PRUNER), folder))


def test_the_small_network_has_it_as_it_was_trained(pruned):
    folder = pruned[0]
    check_predictions(*pruned)
    cut = read_artifact(folder).variables
    assert cut["a/kernel"].small_shape[1] < 9
    assert all(cut[name].small_shape == cut[name].shape for name in MODULE)


def test_gap_finetune_builds_it_too(network, pruned):
    folder, estimator, _, input_fn = pruned
    whole = [r["logits"] for r in estimator.predict(lambda: input_fn().take(1))]
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.data.make_one_shot_iterator(input_fn()).get_next()[0]["x"]
        logits = ec.GapFinetune(folder).build(network, x, False)
        session.run(tf.global_variables_initializer())
        np.testing.assert_allclose(session.run(logits), whole, rtol=1e-5, atol=1e-6)


def test_a_sparsifier_masks_it_gradients_included(network, tmp_path, caplog):
    seen = {}

    class Clipped(tf.train.GradientDescentOptimizer):
        def compute_gradients(self, loss, **kwargs):
            pairs = super().compute_gradients(loss, **kwargs)
            return [(self._noted(g, v), v) for g, v in pairs]

        def _noted(self, gradient, variable):
            def note(value, weights):
                seen[variable.op.name] = value[weights == 0]
                return value

            noted = tf.py_func(note, [gradient, variable], tf.float32)
            noted.set_shape(gradient.shape)
            return noted

    model_fn, input_fn = models.classifier(network, (8,), lambda: Clipped(0.1))
    estimator = tf.estimator.Estimator(
        ec.compress(model_fn, ec.Sparsifier(SPARSIFIER)),
        config=models.run_config(str(tmp_path)),
    )
    with caplog.at_level("WARNING"):
        estimator.train(input_fn, max_steps=6)
    assert "No gradient" not in caplog.text
    for name in MODULE:
        assert np.mean(estimator.get_variable_value(name) == 0) == 0.5
        # What a clipping by norm sees of removed weights.
        assert len(seen[name]) > 40
        np.testing.assert_array_equal(seen[name], 0)


@pytest.mark.parametrize("network", [True], indirect=True)
def test_a_quantizer_quantizes_it(network, tmp_path):
    config = ec.QuantizerConfig(**TRIALS)
    estimator, _, input_fn = trained(network, ec.LSQQuantizer(config), str(tmp_path))
    for name in MODULE:
        step = f"ec_estimator/quantization/{name}/step"
        assert np.all(estimator.get_variable_value(step) > 0)
    assert np.isfinite(estimator.evaluate(input_fn, steps=1)["loss"])


def test_a_graph_that_was_imported_whole_is_pruned():
    with tf.Graph().as_default():
        logits = tf.layers.dense(chain(tf.ones([2, 8])), models.CLASSES)
        step = tf.train.get_or_create_global_step()
        tf.train.GradientDescentOptimizer(0.1).minimize(
            tf.reduce_mean(logits**2), step
        )
        meta = tf.train.export_meta_graph()
    with tf.Graph().as_default() as graph:
        tf.train.import_meta_graph(meta)
        attachment = attach_to_finished_graph(graph, [ec.Pruner(PRUNER)])
    said = {row.kernel: row.decisions["pruning"] for row in attachment.plan.layers}
    assert said["m1/kernel"] == said["m2/kernel"] == COMPRESSED
