"""Every kind of model: nothing changes at ratio 0, and the target is reached."""
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests.models import MODELS, NAMES, unwrapped

# Inception-v3 drops out units of its last layer at random, as the layers model does:
# without ops of ours before the gradients, even those draws are the same.


def sparsify(**kwargs):
    config = ec.SparsifierConfig(**{"step_interval": 2, "num_trials": 2, **kwargs})
    return lambda model_fn: ec.compress(model_fn, ec.Sparsifier(config))


def checkpoint(folder):
    reader = tf.train.load_checkpoint(folder)
    names = reader.get_variable_to_shape_map()
    return {name: reader.get_tensor(name) for name in names}


class Losses(tf.train.SessionRunHook):
    def __init__(self):
        self.values = []

    def before_run(self, run_context):
        return tf.train.SessionRunArgs(tf.get_collection(tf.GraphKeys.LOSSES)[-1])

    def after_run(self, run_context, run_values):
        self.values.append(run_values.results)


def train(model, folder, wrap, steps=5):
    losses = Losses()
    estimator, input_fn = MODELS[model](str(folder), wrap)
    estimator.train(input_fn, [losses], max_steps=steps)
    return losses.values, checkpoint(str(folder))


@pytest.mark.parametrize("model", NAMES)
def test_ratio_0_trains_bit_identically_from_random_initial_values(model, tmp_path):
    losses, values = train(model, tmp_path / "plain", unwrapped)
    wrapped_losses, wrapped = train(
        model, tmp_path / "wrapped", sparsify(target_sparse_ratio=0.0)
    )
    assert wrapped_losses == losses
    ours = {name for name in wrapped if name.startswith("ec_estimator/")}
    assert set(wrapped) - ours == set(values)
    for name, value in values.items():
        np.testing.assert_array_equal(wrapped[name], value, name)


@pytest.mark.parametrize("model", NAMES)
def test_kernels_reach_the_target_and_an_export_predicts_the_same(model, tmp_path):
    estimator, input_fn = MODELS[model](
        str(tmp_path), sparsify(target_sparse_ratio=0.6, sparse_block_shape=(1, 4))
    )
    estimator.train(input_fn, max_steps=5)
    check_target(tmp_path)
    check_export(tmp_path, estimator, input_fn)


def check_target(tmp_path):
    values = checkpoint(str(tmp_path))
    plan = ec.core.folder.RunFolder(str(tmp_path / "compression")).read_json(
        "plan.json"
    )
    assert plan["kernels"]
    for name, kernel in plan["kernels"].items():
        weights = np.prod(kernel["shape"])
        zeros = weights - np.count_nonzero(values[name])
        # A block holds at most four weights; embeddings and biases are no kernels.
        assert 0.6 * weights - 4 < zeros <= 0.6 * weights + 1e-3, name


def check_export(tmp_path, estimator, input_fn):
    def one_batch():
        return input_fn().take(1)

    expected = list(estimator.predict(one_batch))
    with tf.Graph().as_default(), tf.Session() as session:
        features = session.run(tf.data.make_one_shot_iterator(one_batch()).get_next())[
            0
        ]

    def receiver():
        given = {
            name: tf.placeholder(value.dtype, (None,) + value.shape[1:])
            for name, value in features.items()
        }
        return tf.estimator.export.ServingInputReceiver(given, given)

    path = estimator.export_saved_model(str(tmp_path / "export"), receiver)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        loaded = tf.saved_model.load(session, ["serve"], path.decode())
        signature = next(
            s for s in loaded.signature_def.values() if set(s.inputs) == set(features)
        )
        feeds = {signature.inputs[name].name: v for name, v in features.items()}
        outputs = {name: info.name for name, info in signature.outputs.items()}
        results = session.run(outputs, feeds)
        assert not [o.name for o in graph.get_operations() if "ec_estimator" in o.name]
    for name in set(results) & set(expected[0]):
        if results[name].dtype == np.float32:
            rows = np.stack([row[name] for row in expected])
            np.testing.assert_allclose(results[name], rows, rtol=0, atol=1e-6)
    assert set(results) & set(expected[0])
    assert os.path.isdir(path)
