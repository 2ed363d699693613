"""What is served is what the checkpoint of the masked network serves, whatever its
Savers make of the variables."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.contrib import opt

import ec_estimator as ec
from ec_estimator.graph.savers import saved_variables, served_from
from ec_estimator.shrink.artifact import read_artifact
from tests import models
from tests.training.test_zoo import checkpoint

MODES = tf.estimator.ModeKeys
STEPS = 7


def network(x, training):
    x = tf.layers.conv2d(x, 8, 3, use_bias=False, name="a")
    x = tf.nn.relu(tf.layers.batch_normalization(x, training=training, momentum=0.5))
    x = tf.layers.dense(tf.reduce_mean(x, [1, 2]), 12, tf.nn.relu, name="b")
    return tf.layers.dense(x, models.CLASSES, name="c")


def averaged(train, mode):
    """Averages beside the optimizer, which the graphs that serve restore."""
    averages = tf.train.ExponentialMovingAverage(0.7)
    if mode != MODES.TRAIN:
        return None, tf.train.Saver(averages.variables_to_restore())
    with tf.control_dependencies([train(tf.train.MomentumOptimizer(0.1, 0.9))]):
        return averages.apply(tf.trainable_variables()), None


def swapped(train, mode):
    """The checkpoint holds averages where the session holds weights."""
    if mode != MODES.TRAIN:
        return None, None
    optimizer = opt.MovingAverageOptimizer(tf.train.AdamOptimizer(0.05), 0.7)
    return train(optimizer), optimizer.swapping_saver()


def renamed(train, mode):
    train_op = (
        train(tf.train.MomentumOptimizer(0.1, 0.9)) if mode == MODES.TRAIN else None
    )
    names = {f"mine/{v.op.name}": v for v in tf.global_variables()}
    return train_op, tf.train.Saver(names)


WAYS = {"averaged": averaged, "swapped": swapped, "renamed": renamed}


def model_of(way):
    def model_fn(features, labels, mode):
        logits = network(features["x"], mode == MODES.TRAIN)
        loss = None
        if mode != MODES.PREDICT:
            loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)

        def train(optimizer):
            with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
                return optimizer.minimize(loss, tf.train.get_global_step())

        train_op, saver = WAYS[way](train, mode)
        return tf.estimator.EstimatorSpec(
            mode,
            predictions={"logits": logits},
            loss=loss,
            train_op=train_op,
            scaffold=saver and tf.train.Scaffold(saver=saver),
        )

    return model_fn


def train(folder, way, compressor):
    estimator = tf.estimator.Estimator(
        ec.compress(model_of(way), compressor), config=models.run_config(str(folder))
    )
    estimator.train(models.dataset((6, 6, 3)), max_steps=STEPS)
    return estimator


@pytest.fixture(scope="module", params=WAYS)
def pruned(request, tmp_path_factory):
    """(way, Estimator of the masked network)."""
    config = ec.PrunerConfig(compression_ratio=0.4, step_interval=2, num_trials=2)
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, train(folder, request.param, ec.Pruner(config))


def logits_of(estimator):
    rows = estimator.predict(lambda: models.dataset((6, 6, 3))().take(2))
    return np.stack([row["logits"] for row in rows])


def close(actual, expected):
    np.testing.assert_allclose(
        actual, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max()
    )


def with_getter(way, folder):
    helper = ec.GapFinetune(folder)

    def model_fn(features, labels, mode):
        with tf.variable_scope("", custom_getter=helper.get_variable):
            return model_of(way)(features, labels, mode)

    return model_fn


SMALL = {
    "finetune": lambda way, folder: ec.finetune(model_of(way), folder),
    "getter": with_getter,
}


@pytest.mark.parametrize("small", SMALL)
def test_the_small_network_serves_what_the_masked_one_does(pruned, small, tmp_path):
    way, masked = pruned
    expected = logits_of(masked)
    estimator = tf.estimator.Estimator(
        SMALL[small](way, masked.model_dir), config=models.run_config(str(tmp_path))
    )
    close(logits_of(estimator), expected)
    if small == "getter":
        return
    estimator.train(models.dataset((6, 6, 3)), max_steps=1)
    stored = checkpoint(str(tmp_path))
    prefix = "mine/" if way == "renamed" else ""
    assert stored[f"{prefix}c/kernel"].shape[0] < 12
    if way != "renamed":
        average = stored["c/kernel/ExponentialMovingAverage"]
        assert average.shape == stored["c/kernel"].shape


def test_averages_are_cut_like_their_kernels_and_keep_their_values(pruned):
    way, masked = pruned
    artifact = read_artifact(masked.model_dir)
    reader = tf.train.load_checkpoint(artifact.checkpoint)
    before = checkpoint(masked.model_dir)
    average = "c/kernel" + ("" if way == "renamed" else "/ExponentialMovingAverage")
    assert artifact.variables[average] == artifact.variables["c/kernel"]
    if way != "renamed":
        assert not np.array_equal(before["c/kernel"], before[average])
    entry = {"averaged": average, "swapped": "c/kernel", "renamed": "mine/c/kernel"}[
        way
    ]
    (kept, _) = artifact.variables["c/kernel"].kept
    np.testing.assert_array_equal(
        reader.get_tensor("c/kernel"), before[entry][list(kept)]
    )
    np.testing.assert_array_equal(reader.get_tensor(average), before[entry][list(kept)])


@pytest.mark.parametrize("way", WAYS)
def test_what_is_served_is_sparse_and_so_is_the_clean_checkpoint(way, tmp_path):
    config = ec.SparsifierConfig(target_sparse_ratio=0.5, step_interval=2, num_trials=2)
    sparse = train(tmp_path / "sparse", way, ec.Sparsifier(config))
    stored = checkpoint(sparse.model_dir)
    expected = logits_of(sparse)
    clean = ec.write_clean_checkpoint(
        tf.train.latest_checkpoint(sparse.model_dir),
        sparse.model_dir + "/compression",
        str(tmp_path / "clean"),
    )
    kept = {name for name, _ in tf.train.list_variables(clean)}
    served = [n for n in kept if "b/kernel" in n]
    assert len(served) == (1 if way == "renamed" else 2)
    for name in served:
        assert np.mean(stored[name] == 0) >= 0.49
    plain = tf.estimator.Estimator(model_of(way), str(tmp_path / "clean"))
    close(logits_of(plain), expected)
    assert not any("Adam" in name or "Momentum" in name for name in kept)


def test_parts_of_partitioned_variables_are_served_each_from_its_own():
    with tf.Graph().as_default() as graph:
        with tf.variable_scope("", partitioner=tf.fixed_size_partitioner(2)):
            whole = tf.get_variable("w", [4, 2])
            other = tf.get_variable("other", [4, 2])
        step = tf.get_variable("step", [])
        saver = tf.train.Saver({"w": other, "other": list(whole)[::-1], "s": step})
        saved = saved_variables(saver, graph)
        sources = served_from({"w": ("w/part_0", "w/part_1"), "absent": ("x",)}, saved)
        assert sources == dict(zip(("w/part_0", "w/part_1"), other))
        assert saved["other"] == list(whole)
        own = saved_variables(tf.train.Saver([whole, step]), graph)
        assert own == {"w": list(whole), "step": [step]}
        assert set(saved_variables(None, graph)) == {"w", "other", "step"}
