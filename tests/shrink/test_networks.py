"""The small network is the masked one: what it predicts, evaluates and learns."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.shrink.artifact import read_artifact
from tests import models
from tests.shrink import networks
from tests.training.test_zoo import checkpoint

MODES = tf.estimator.ModeKeys
STEPS = 5


def prune(folder, network, shape, ratio):
    """Trains with two trials; (estimator, model_fn, input_fn)."""
    # Plain gradient descent has no memory, so that one step shows the gradients.
    model_fn, input_fn = models.classifier(
        network, shape, lambda: tf.train.GradientDescentOptimizer(0.01)
    )
    config = ec.PrunerConfig(compression_ratio=ratio, step_interval=2, num_trials=2)
    estimator = tf.estimator.Estimator(
        ec.compress(model_fn, ec.Pruner(config)), config=models.run_config(folder)
    )
    estimator.train(input_fn, max_steps=STEPS)
    return estimator, model_fn, input_fn


def run_small(model_fn, folder, input_fn, mode, fetch):
    """Builds the small network as it is loaded, and fetches from its EstimatorSpec."""
    with tf.Graph().as_default(), tf.Session(config=models.ONE_THREAD) as session:
        tf.train.get_or_create_global_step()
        features, labels = tf.data.make_one_shot_iterator(input_fn()).get_next()
        spec = ec.finetune(model_fn, folder)(
            features=features,
            labels=None if mode == MODES.PREDICT else labels,
            mode=mode,
            config=None,
        )
        session.run(
            [tf.global_variables_initializer(), tf.local_variables_initializer()]
        )
        return session.run(fetch(spec))


def close(actual, expected):
    np.testing.assert_allclose(
        actual, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max()
    )


def check_predictions(folder, estimator, model_fn, input_fn):
    rows = list(estimator.predict(lambda: input_fn().take(1)))
    logits = run_small(
        model_fn, folder, input_fn, MODES.PREDICT, lambda s: s.predictions["logits"]
    )
    close(logits, np.stack([row["logits"] for row in rows]))


def check_evaluation(folder, estimator, model_fn, input_fn):
    """The regularizer aside, which counts weights that nothing reads."""
    (_, entropy) = run_small(
        model_fn,
        folder,
        input_fn,
        MODES.EVAL,
        lambda spec: spec.eval_metric_ops["cross_entropy"],
    )
    close(entropy, estimator.evaluate(input_fn, steps=1)["cross_entropy"])


def check_training(folder, estimator, model_fn, input_fn):
    """A step from the same weights on the same batch leads to the same weights."""

    def rest():
        return input_fn().skip(STEPS)

    kept = {n: v.kept for n, v in read_artifact(folder).variables.items()}
    small_folder = folder + "_small"
    small = tf.estimator.Estimator(
        ec.finetune(model_fn, folder), config=models.run_config(small_folder)
    )
    small.train(rest, max_steps=1)
    before = checkpoint(folder)
    estimator.train(rest, max_steps=STEPS + 1)
    after, learned = checkpoint(folder), checkpoint(small_folder)
    moved = 0
    for name, axes in kept.items():
        if name == "global_step":
            continue
        start, end = before[name], after[name]
        for axis, positions in enumerate(axes):
            if positions is not None:
                start, end = (np.take(v, positions, axis) for v in (start, end))
        assert learned[name].shape == end.shape
        scale = max(1e-6, np.abs(end - start).max())
        np.testing.assert_allclose(
            learned[name] - start, end - start, rtol=1e-3, atol=1e-3 * scale + 1e-7
        )
        moved += bool(np.any(end != start))
    assert moved > 2


# In few networks ratios other than 0.5 lead to other code than in this one, and 0.9 to
# no other than 1.0.
OF_EVERY_RATIO = ("vgg",)
# Their smaller twins: residual, test_the_residual_stream_of_slims_resnet_is_cut, and
# tests/pruning/test_pruner.py's transformer.
LARGE = ("slim_resnet_v1", "slim_resnet_v2", "transformer")


# Twins: vgg, residual, mixture, and the literals of test_gap_finetune.
HAVE_A_TWIN = (
    *("dense_net", "raw", "placeholder", "squeeze_and_excite", "shared", "transposed"),
    *("literal_squeeze_and_excite", "computes_with_counts", "literal_reshape"),
)


def ratios(name):
    for ratio in (0.1, 0.5, 0.9, 1.0):
        repeats = ratio == 0.9 or (ratio != 0.5 and name not in OF_EVERY_RATIO)
        is_slow = repeats or name in LARGE or name in HAVE_A_TWIN
        yield pytest.param(name, ratio, marks=[pytest.mark.slow] * is_slow)


@pytest.mark.parametrize(
    "name, ratio", [each for name in networks.SMALL for each in ratios(name)]
)
def test_small_network_is_the_masked_one(name, ratio, tmp_path):
    folder = str(tmp_path / "pruned")
    run = prune(folder, *networks.SMALL[name], ratio)
    check_predictions(folder, *run)
    check_evaluation(folder, *run)
    artifact = read_artifact(folder)
    smaller = [n for n, v in artifact.variables.items() if v.small_shape != v.shape]
    params = artifact.manifest["params"]
    assert bool(smaller) == (params[1] < params[0])
    assert smaller or ratio == 0.1
    assert artifact.manifest["macs"][1] <= artifact.manifest["macs"][0]
    if ratio == 0.5:
        check_training(folder, *run)


# Their smaller twins are slim_resnet_v1, slim_resnet_v2 and mobile_net above.
@pytest.mark.slow
@pytest.mark.parametrize("name", networks.LARGE)
def test_large_network_is_the_masked_one(name, tmp_path):
    folder = str(tmp_path / "pruned")
    run = prune(folder, *networks.LARGE[name], 0.5)
    check_predictions(folder, *run)
    params = read_artifact(folder).manifest["params"]
    assert params[1] < 0.4 * params[0]


def test_the_residual_stream_of_slims_resnet_is_cut(tmp_path):
    folder = str(tmp_path / "pruned")
    prune(folder, *networks.SMALL["slim_resnet_v1"], 0.5)
    cut = read_artifact(folder).variables[
        "resnet_v1/block1/unit_1/bottleneck_v1/shortcut/weights"
    ]
    assert cut.small_shape[3] < cut.shape[3]
