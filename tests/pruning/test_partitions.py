"""A canned Estimator whose kernels are in parts, pruned from training to a restart."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.shrink.artifact import read_artifact
from tests import models
from tests.pruning.runs import pruner
from tests.shrink.test_networks import run_small
from tests.training.test_zoo import checkpoint

PREDICT = tf.estimator.ModeKeys.PREDICT
HIDDEN = "dnn/hiddenlayer_{}/kernel"
OUT = "dnn/logits/kernel"


def train(folder, stop):
    """Trains on to a step, with the data that comes next."""
    path = tf.train.latest_checkpoint(folder)
    done = int(path.rsplit("-", 1)[1]) if path else 0
    estimator, input_fn = models.MODELS["wide_and_deep"](
        folder, lambda model_fn: ec.compress(model_fn, pruner(num_trials=3))
    )
    estimator.train(lambda: input_fn().skip(done), max_steps=stop)
    return estimator, input_fn


def test_masks_artifact_and_small_network_of_partitioned_kernels(tmp_path):
    folder = str(tmp_path / "whole")
    estimator, input_fn = train(folder, 7)
    values, artifact = checkpoint(folder), read_artifact(folder)
    cuts = artifact.variables
    made = {0: 32, 1: 16}
    for layer, reader in ((0, HIDDEN.format(1)), (1, OUT)):
        maker = cuts[HIDDEN.format(layer)]
        assert maker.shape[1] == made[layer]
        gone = sorted(set(range(made[layer])) - set(maker.kept[1]))
        assert gone
        # What makes a channel, holds its bias and reads it agrees, over all parts.
        assert cuts[HIDDEN.format(layer).replace("kernel", "bias")].kept == (
            maker.kept[1],
        )
        assert cuts[reader].kept[0] == maker.kept[1]
        zero = ~values[reader].any(axis=1)
        assert np.nonzero(zero)[0].tolist() == gone
        stored = tf.train.load_checkpoint(artifact.checkpoint).get_tensor(reader)
        expected = values[reader][list(maker.kept[1])]
        if cuts[reader].kept[1] is not None:
            expected = expected[:, list(cuts[reader].kept[1])]
        np.testing.assert_array_equal(stored, expected)
    # An embedding table is whole.
    (table,) = [name for name in cuts if name.endswith("embedding_weights")]
    assert cuts[table].small_shape == cuts[table].shape == (50, 8)
    rows = list(estimator.predict(lambda: input_fn().take(1)))
    given, _ = models.MODELS["wide_and_deep"](folder, models.unwrapped)
    np.testing.assert_allclose(
        run_small(
            given.model_fn,
            folder,
            input_fn,
            PREDICT,
            lambda spec: spec.predictions["probabilities"],
        ),
        np.stack([row["probabilities"] for row in rows]),
        rtol=1e-5,
        atol=1e-6,
    )


# tests/training/test_kill.py restarts a model whose kernels are whole.
@pytest.mark.slow
def test_a_restart_of_partitioned_kernels_ends_with_the_same_bits(tmp_path):
    train(str(tmp_path / "whole"), 8)
    for stop in (1, 4, 8):
        train(str(tmp_path / "parts"), stop)
    whole, parts = (checkpoint(str(tmp_path / name)) for name in ("whole", "parts"))
    assert set(whole) == set(parts)
    for name in whole:
        np.testing.assert_array_equal(parts[name], whole[name], name)


# The tests before and after this one have the same model, at one ratio.
@pytest.mark.slow
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9, 1.0])
def test_small_wide_and_deep_model_is_the_masked_one(ratio, tmp_path):
    folder = str(tmp_path)
    estimator, input_fn = models.MODELS["wide_and_deep"](
        folder, lambda model_fn: ec.compress(model_fn, pruner(compression_ratio=ratio))
    )
    estimator.train(input_fn, max_steps=5)
    given, _ = models.MODELS["wide_and_deep"](folder, models.unwrapped)

    def small(mode, fetch):
        return run_small(given.model_fn, folder, input_fn, mode, fetch)

    rows = list(estimator.predict(lambda: input_fn().take(1), ["logits"]))
    np.testing.assert_allclose(
        small(PREDICT, lambda spec: spec.predictions["logits"]),
        np.stack([row["logits"] for row in rows]),
        rtol=1e-5,
        atol=1e-6,
    )
    np.testing.assert_allclose(
        small(tf.estimator.ModeKeys.EVAL, lambda spec: spec.loss),
        estimator.evaluate(input_fn, steps=1)["loss"],
        rtol=1e-5,
    )
    params = read_artifact(folder).manifest["params"]
    assert params[1] < params[0]
