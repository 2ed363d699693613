"""Any code that channels pass through builds the small network, as it stands."""
import tempfile

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import HealthCheck, given

import ec_estimator as ec
from ec_estimator.graph.variables import checkpoint_name, slice_info
from ec_estimator.shrink.artifact import write_artifact
from tests.channels import channel_models
from tests.channels.net import Net, assert_same, names
from tests.channels.random_models import RECIPES, network
from tests.models import ONE_THREAD
from tests.properties import dear

PREDICT = tf.estimator.ModeKeys.PREDICT


def joined(net, arrays):
    """{checkpoint name: array}, partitions of a variable joined.

    Args:
      arrays: {variable name: array}.
    """
    whole = {}
    for name, array in arrays.items():
        info = slice_info(net.variables[name])
        shape = info.full_shape if info else array.shape
        into = whole.setdefault(
            checkpoint_name(net.variables[name]), np.zeros(shape, array.dtype)
        )
        start = info.var_offset if info else [0] * array.ndim
        into[tuple(slice(s, s + n) for s, n in zip(start, array.shape))] = array
    return whole


def kept_positions(net, removed):
    """{checkpoint name: for each axis a bool vector, or None for all}."""
    stays = {}
    for name, axes in net.channels.axes.items():
        entries = np.ones(net.values[name].shape, bool)
        for axis, groups in enumerate(axes):
            if groups is not None:
                np.moveaxis(entries, axis, 0)[np.isin(groups, removed)] = False
        stays[name] = entries
    return {
        name: [
            entries.any(tuple(a for a in range(entries.ndim) if a != axis))
            for axis in range(entries.ndim)
        ]
        for name, entries in joined(net, stays).items()
    }


def assert_builds_small(build, net):
    """ec.finetune builds from the artifact what the masked network computes."""

    def model_fn(features, labels, mode):
        # Keras numbers its layers by graph, and slim by variable scope.
        outputs = build()
        outputs = outputs if isinstance(outputs, list) else [outputs]
        predictions = {str(n): tensor for n, tensor in enumerate(outputs)}
        return tf.estimator.EstimatorSpec(mode, predictions=predictions)

    removed = net.without_emptying(next(net.removals()))
    values = {
        name: value.astype(net.variables[name].dtype.base_dtype.as_numpy_dtype)
        for name, value in net.values.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        kept = kept_positions(net, removed)
        served = {"served": sorted(kept)}
        write_artifact(folder, joined(net, values), kept, served, 0)
        with tf.Graph().as_default() as graph:
            tf.train.create_global_step()
            spec = ec.finetune(model_fn, folder)(
                features={}, labels=None, mode=PREDICT, config=None
            )
            feeds = [op for op in graph.get_operations() if op.type == "Placeholder"]
            feed = {op.outputs[0]: value for op, value in zip(feeds, net.feed.values())}
            outputs = [spec.predictions[str(n)] for n in range(len(spec.predictions))]
            sizes = sum(v.shape.num_elements() for v in tf.global_variables())
            with tf.Session(config=ONE_THREAD) as session:
                session.run(tf.global_variables_initializer())
                found = session.run(outputs, feed)
    assert_same(found, net.run(net.masked(removed)))
    whole = sum(value.size for value in net.values.values())
    assert sizes <= whole + 1 and (sizes < whole or not len(removed))


@pytest.mark.parametrize("build", channel_models.MODELS, ids=names)
def test_every_model_builds_small(build):
    assert_builds_small(build, Net(build))


@dear(12, suppress_health_check=list(HealthCheck))
@given(recipe=RECIPES)
def test_random_networks_build_small(recipe):
    assert_builds_small(network(recipe), Net(network(recipe)))
