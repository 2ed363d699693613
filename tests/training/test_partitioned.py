"""Variables in parts that lie on several parameter servers."""
import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.training.attachment import attach_to_finished_graph
from tests import models
from tests.training import clusters
from tests.training.runs import sparsifier
from tests.training.test_cluster import ALL, pruner, quantizer


def halves(axis):
    """A partitioner that cuts kernels along an axis, and biases."""

    def partitioner(shape, dtype):
        cut = axis % len(shape)
        return [2 if at == cut else 1 for at in range(len(shape))]

    return partitioner


PARTITIONERS = {
    "rows": tf.fixed_size_partitioner(2),
    "columns": halves(-1),
    "large": tf.min_max_variable_partitioner(2, min_slice_size=256),
}


def same_values(shape, dtype, partition_info=None):
    """An initializer whose parts are those of the whole's values."""
    whole = partition_info.full_shape if partition_info else shape
    start = partition_info.var_offset if partition_info else [0] * len(whole)
    values = np.random.RandomState(0).standard_normal(whole).astype(np.float32) / 3
    part = tuple(slice(at, at + size) for at, size in zip(start, shape))
    return tf.constant(values[part])


def network(partitioner):
    def layers(x, training):
        with tf.variable_scope("net", partitioner=partitioner, initializer=same_values):
            x = tf.layers.flatten(x)
            x = tf.layers.dense(x, 24, tf.nn.relu)
            x = tf.layers.dense(x, 16, tf.nn.relu)
            return tf.layers.dense(x, models.CLASSES + 1)

    return layers


@pytest.mark.parametrize("name", sorted(PARTITIONERS))
@pytest.mark.parametrize("compressor", ALL)
def test_masks_lie_beside_their_parts_and_nothing_is_pulled(compressor, name, tmp_path):
    model = models.classifier(network(PARTITIONERS[name]), (8, 8, 3))

    def build(compressor):
        graph, train_op = clusters.build("worker", *model, compressor, str(tmp_path))
        return graph.get_collection("variables"), clusters.pulled(train_op)

    _, plain = build(None)
    variables, compressed = build(compressor())
    places = {v.op.name: v.device for v in variables}
    parts = [n for n in places if "kernel/part_" in n and not n.startswith("ec_")]
    assert len({places[n] for n in parts if "/dense/kernel/" in n}) == 2
    if compressor is sparsifier:
        for part in (n for n in parts if not n.endswith("Momentum")):
            assert places[f"ec_estimator/sparsity/{part}/mask"] == places[part]
    more = sum(compressed.values()) - sum(plain.values())
    # Step sizes alone: one for each channel, and one for each layer's input.
    steps = 4 * (24 + 16 + models.CLASSES + 1 + 3)
    assert more == (steps if compressor is quantizer else 0)


@pytest.fixture
def server():
    """A worker's server, new, since a server keeps its variables; both parameter
    servers are in this process, too."""
    addresses = clusters.cluster(worker=1, ps=2)
    servers = [
        tf.train.Server(addresses, job, number, config=models.ONE_THREAD)
        for job in addresses
        for number in range(len(addresses[job]))
    ]
    yield servers[0]


def after_a_trial(compressor, partitioner, setter, target):
    """{name: array} of the whole variables after a step, a trial, and a step."""
    with tf.Graph().as_default() as graph, tf.device(setter):
        step = tf.train.get_or_create_global_step()
        x, y = tf.data.make_one_shot_iterator(models.dataset((4, 4, 3))()).get_next()
        logits = network(partitioner)(x["x"], True)
        loss = tf.losses.sparse_softmax_cross_entropy(y, logits)
        if isinstance(compressor, ec.LSQQuantizer):
            ec.quantize_graph("train", None, config=compressor.config)
        train_op = tf.train.AdamOptimizer(0.1).minimize(loss, step)
        attachment = attach_to_finished_graph(graph, [compressor])
        (attached,) = attachment.attached
        every_step = [train_op, attachment.train_ops, attachment.chief_ops]
        with tf.Session(target) as session:
            session.run(tf.global_variables_initializer())
            attached.start(session)
            session.run(every_step)
            attached.run_trial(session, 1, 0.5)
            session.run(every_step)
            variables = tf.global_variables()
            values = session.run({v.op.name: v for v in variables})
    return {
        name: value
        for name, value in values.items()
        if re.search(r"/(kernel|bias)(/part_\d)?$", name)
        or name.startswith("ec_estimator/")
    }


def joined(values, axis):
    """{name: array} with the parts of variables put together."""
    wholes = {}
    for name in sorted(values):
        whole = name.replace("/part_0", "").replace("/part_1", "")
        wholes.setdefault(whole, []).append(values[name])
    return {
        name: parts[0] if len(parts) == 1 else np.concatenate(parts, axis)
        for name, parts in wholes.items()
    }


def _sorted(array):
    return np.sort(array, axis=None)


@pytest.mark.parametrize(
    "compressor,name,axis",
    [
        *((sparsifier, "rows", 0), (sparsifier, "columns", -1)),
        *((pruner, "large", 0), (quantizer, "rows", 0)),
    ],
)
def test_a_trial_does_what_it_does_on_one_machine(compressor, name, axis, server):
    expected = after_a_trial(compressor(), None, None, "")
    setter = tf.train.replica_device_setter(2, worker_device="/job:worker/task:0")
    values = after_a_trial(compressor(), PARTITIONERS[name], setter, server.target)
    assert any("/part_1" in name for name in values)
    found = joined(values, axis)
    assert set(found) == set(expected)
    for name, value in expected.items():
        # The parts of the inputs come in another order into the numbers of the groups.
        order = _sorted if name.startswith("ec_estimator/pruning") else np.asarray
        np.testing.assert_allclose(
            order(found[name]), order(value), 1e-4, 1e-5, err_msg=name
        )
    if compressor is not quantizer:
        assert 0.3 < np.mean(found["net/dense_1/kernel"] == 0) < 0.8
