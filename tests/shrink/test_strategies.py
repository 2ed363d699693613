"""The small network under a distribution strategy."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models
from tests.pruning.test_pruner import pruner
from tests.replicas import Copies, for_each, mirrored, run_config
from tests.shrink import networks
from tests.training.test_zoo import checkpoint

STEPS = 4
NETWORKS = {
    # Shortcuts by channel counts, and moving averages that replicas write together.
    "slim": (models._slim_network, (16, 16, 3)),
    "branches_on_counts": (networks.branches_on_counts, (8, 8, 3)),
    "residual": (networks.residual, (8, 8, 3)),
}
# Between the two others, which are its twins.
CASES = [
    pytest.param(n, marks=[pytest.mark.slow] * (n == "residual")) for n in NETWORKS
]


@pytest.fixture(scope="module", params=CASES)
def pruned(request, tmp_path_factory):
    """(name of a network, model_fn, input_fn, folder of a pruning run)."""
    folder = str(tmp_path_factory.mktemp(request.param))
    model_fn, input_fn = models.classifier(
        *NETWORKS[request.param], lambda: tf.train.GradientDescentOptimizer(0.01)
    )
    tf.estimator.Estimator(
        ec.compress(model_fn, pruner()), config=models.run_config(folder)
    ).train(input_fn, max_steps=10)
    return request.param, model_fn, input_fn, folder


def test_replicas_finetune_the_small_network_that_one_device_does(pruned, tmp_path):
    name, model_fn, input_fn, folder = pruned
    seen, trained = Copies(), []
    for strategy, batches in ((None, input_fn), (mirrored(), for_each(input_fn))):
        run = tf.estimator.Estimator(
            ec.finetune(model_fn, folder),
            config=run_config(tmp_path / str(len(trained)), strategy),
        )
        run.train(batches, [seen] if strategy else [], max_steps=STEPS)
        trained.append(checkpoint(run.model_dir))
    one, two = trained
    assert one.keys() == two.keys()
    whole = checkpoint(folder)
    smaller = [v for v in two if two[v].size < whole[v].size]
    assert any(v.endswith(("kernel", "weights")) for v in smaller)
    for variable in one:
        assert one[variable].shape == two[variable].shape, variable
        # Dropout is another one in each build.
        if name != "slim":
            np.testing.assert_allclose(
                two[variable], one[variable], atol=1e-5, err_msg=variable
            )
    assert len(seen.seen) == STEPS
    for values in (v for found in seen.seen for v in found.values()):
        np.testing.assert_array_equal(*values)


# "slim" is slow in both at once; its twin above is not.
@pytest.mark.parametrize("pruned", ["branches_on_counts"], indirect=True)
def test_the_small_network_is_quantized_under_a_strategy(pruned, tmp_path):
    _, model_fn, input_fn, folder = pruned
    config = ec.QuantizerConfig(step_interval=1, num_trials=2)
    wrapped = ec.compress(ec.finetune(model_fn, folder), ec.LSQQuantizer(config))
    run = tf.estimator.Estimator(wrapped, config=run_config(tmp_path, mirrored()))
    seen = Copies()
    run.train(input_fn, [seen], max_steps=STEPS)
    for values in (v for found in seen.seen for v in found.values()):
        np.testing.assert_array_equal(*values)
    assert np.isfinite(run.evaluate(input_fn, steps=1)["loss"])
