"""Step sizes are trained, and nothing else of a user's training is changed by that."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.quantization import ranges
from tests import models
from tests.quantization.test_composition import make, network, quantizer
from tests.quantization.test_trials import STATE, Run

MODES = tf.estimator.ModeKeys
QUANTIZERS = ("conv/kernel", "conv/kernel/input", "top/kernel", "top/kernel/input")


def two_layers(x, **kwargs):
    x = tf.layers.conv2d(x, 10, 3, padding="same", name="conv", **kwargs)
    return tf.layers.dense(tf.reduce_mean(tf.tanh(x), [1, 2]), 4, name="top", **kwargs)


def model_of(train, **kwargs):
    """A model_fn of two layers; train(loss, global step) -> train_op."""

    def model_fn(features, labels, mode):
        y = two_layers(features["x"], **kwargs)
        if mode == MODES.PREDICT:
            return tf.estimator.EstimatorSpec(mode, {"y": y})
        loss = tf.reduce_mean(tf.square(y - 10.0))
        train_op = train(loss, tf.train.get_or_create_global_step())
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    return model_fn


def clipped(loss, step):
    """As BERT's optimizer does it: one norm for all, Adam, a decay of all weights."""
    variables = tf.trainable_variables()
    gradients, norm = tf.clip_by_global_norm(tf.gradients(loss, variables), 1.0)
    tf.add_to_collection("clipped", (gradients, norm))
    with tf.control_dependencies(gradients):
        decays = [v.assign_sub(1e-3 * v.read_value()) for v in variables]
    with tf.control_dependencies(decays):
        optimizer = tf.train.AdamOptimizer(0.01)
        return optimizer.apply_gradients(zip(gradients, variables), step)


def moved(before, after):
    """{quantizer: whether its step sizes are others}."""
    steps = {name: f"{STATE}{name}/step" for name in QUANTIZERS}
    return {
        name: bool(np.any(before[step] != after[step])) for name, step in steps.items()
    }


def run_steps(run, count):
    """Fits step sizes, and trains on; {quantizer: whether training moved them}."""
    run.attached.start(run.session)
    run.session.run(run.spec.train_op)
    run.attached.run_trial(run.session, 1, 0.0)
    before = run.state()
    for _ in range(count):
        run.session.run(run.spec.train_op)
    return moved(before, run.state())


def test_clipped_and_decayed_a_model_trains_as_if_steps_were_held_fixed(
    tmp_path, monkeypatch
):
    model_fn = model_of(clipped)
    with Run(str(tmp_path / "a"), model_fn, bits=4) as run:
        monkeypatch.setattr(
            ranges, "observe_with", lambda anchors, tensor, receive: tensor
        )
        with Run(str(tmp_path / "b"), model_fn, bits=4) as fixed:
            run.attached.start(run.session)
            for step in range(6):
                if step == 2:
                    run.attached.run_trial(run.session, 1, 0.0)
                for name in fixed.variables:
                    fixed.load(name, run.value(name))
                before = run.state()
                found = []
                for each in (run, fixed):
                    (gradients,) = each.session.graph.get_collection("clipped")
                    found.append(each.session.run([gradients, each.spec.train_op])[0])
                (mine, norm), (its, its_norm) = found
                assert norm == its_norm and norm > 1
                for one, other in zip(mine, its):
                    np.testing.assert_array_equal(one, other)
                ours = [n for n in fixed.variables if n.startswith(STATE)]
                for name in set(fixed.variables) - set(ours):
                    np.testing.assert_array_equal(run.value(name), fixed.value(name))
            assert all(moved(before, run.state()).values())
            assert not any(moved(before, fixed.state()).values())


def test_nothing_of_ours_is_trainable(tmp_path):
    seen = []

    def train(loss, step):
        seen.extend(v.op.name for v in tf.trainable_variables())
        return tf.train.GradientDescentOptimizer(0.1).minimize(loss, step)

    with Run(str(tmp_path), model_of(train)) as run:
        names = [v.op.name for v in run.session.graph.get_collection("variables")]
        trainable = run.session.graph.get_collection("trainable_variables")
    assert sorted(seen) == sorted(v.op.name for v in trainable)
    assert sorted(seen) == ["conv/bias", "conv/kernel", "top/bias", "top/kernel"]
    # Nor has the user's optimizer anything of them.
    ours = [name for name in names if name.startswith(STATE)]
    ends = [f"{STATE}adam/{name}" for name in ("m", "v", "count")] + [f"{STATE}trial"]
    ends += [f"{STATE}{name}/step" for name in QUANTIZERS]
    ends += [f"{STATE}{name}/recent" for name in QUANTIZERS if name.endswith("/input")]
    assert sorted(ours) == sorted(ends)


def partitioned():
    return tf.variable_scope("", partitioner=tf.fixed_size_partitioner(2))


def resources():
    return tf.variable_scope("", use_resource=True)


@pytest.mark.parametrize("scope", [partitioned, resources])
def test_kernels_of_any_kind_have_their_steps_trained(scope, tmp_path):
    inner = model_of(clipped)

    def model_fn(features, labels, mode):
        with scope():
            return inner(features, labels, mode)

    with Run(str(tmp_path), model_fn) as run:
        assert run_steps(run, 2) == dict.fromkeys(QUANTIZERS, True)


def test_the_steps_of_a_product_of_activations_are_trained_with_kernels_before_it():
    with tf.Graph().as_default() as graph:
        x = tf.constant(np.random.RandomState(1).standard_normal((2, 5, 6)), tf.float32)
        query, key = (tf.layers.dense(x, 4, name=name) for name in ("query", "key"))
        weights = tf.nn.softmax(tf.matmul(query, key, transpose_b=True, name="product"))
        loss = tf.reduce_mean(tf.square(weights))
        ec.quantize_graph("train", None, ec.QuantizerConfig(bits=4))
        train_op = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
        hook = ec.CompressionHook(ec.LSQQuantizer(ec.QuantizerConfig(bits=4)))
        names = [f"{STATE}product/operand_{index}/step" for index in (0, 1)]
        steps = [v for v in graph.get_collection("variables") if v.op.name in names]
        assert len(steps) == 2
        with tf.train.MonitoredSession(hooks=[hook]) as session:
            found = []
            for _ in range(4):
                session.run(train_op)
                found.append(session._tf_sess().run(steps))
    # The trial comes before the second step.
    assert np.all(np.not_equal(found[1], found[3]))
    np.testing.assert_allclose(found[1], found[3], rtol=1e-2)


def test_a_var_list_trains_the_steps_of_its_layers_alone(tmp_path):
    def train(loss, step):
        optimizer = tf.train.MomentumOptimizer(0.1, 0.9)
        return optimizer.minimize(loss, step, var_list=tf.trainable_variables("top"))

    with Run(str(tmp_path), model_of(train)) as run:
        found = run_steps(run, 2)
    assert found == {name: name.startswith("top") for name in QUANTIZERS}


def test_a_train_op_that_is_a_tensor_returns_its_value(tmp_path):
    def train(loss, step):
        minimize = tf.train.GradientDescentOptimizer(0.1).minimize(loss, step)
        with tf.control_dependencies([minimize]):
            return tf.identity(step.read_value() + 100)

    with Run(str(tmp_path), model_of(train)) as run:
        assert run.session.run(run.spec.train_op) == 101
        assert all(run_steps(run, 2).values())


def test_a_saver_of_trainable_variables_holds_the_plain_models(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 6, 6, 3])
        loss = tf.reduce_mean(tf.square(two_layers(x)))
        ec.quantize_graph("train", None, ec.QuantizerConfig())
        tf.train.GradientDescentOptimizer(0.1).minimize(loss)
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver(tf.trainable_variables())
        path = saver.save(session, str(tmp_path / "own"))
        names = tf.train.load_checkpoint(path).get_variable_to_shape_map()
    assert sorted(names) == ["conv/bias", "conv/kernel", "top/bias", "top/kernel"]


def test_tensorflows_own_warm_start_starts_from_a_plain_model(tmp_path):
    plain, input_fn = make(tmp_path / "plain", models.unwrapped)
    plain.train(input_fn, max_steps=2)
    model_fn, input_fn = models.classifier(network, (8, 8, 3))
    estimator = tf.estimator.Estimator(
        ec.compress(model_fn, quantizer()),
        config=models.run_config(str(tmp_path / "quantized")),
        warm_start_from=str(tmp_path / "plain"),
    )
    estimator.train(input_fn, max_steps=1)
    for name in ("conv2d/kernel", "dense/kernel"):
        before = plain.get_variable_value(name)
        after = estimator.get_variable_value(name)
        assert np.abs(after - before).max() < 0.05 < np.abs(before).max()


def test_random_initial_values_and_draws_are_those_of_the_plain_model(tmp_path):
    """No op of ours is made before the user's: graph-level seeds count ops."""

    def model_fn(features, labels, mode):
        h = tf.layers.dense(tf.layers.flatten(features["x"]), 6, name="hidden")
        dropped = tf.nn.dropout(tf.ones([64]), rate=0.5)
        y = tf.layers.dense(h, 2, name="top")
        if mode == MODES.PREDICT:
            return tf.estimator.EstimatorSpec(mode, {"y": y})
        seen = tf.get_variable("seen", [64], trainable=False)
        step = tf.train.get_or_create_global_step()
        loss = tf.reduce_mean(tf.square(y))
        train_op = tf.train.GradientDescentOptimizer(0.0).minimize(loss, step)
        with tf.control_dependencies([train_op]):
            train_op = tf.group(seen.assign(dropped))
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    values = []
    for wrapped in (model_fn, ec.compress(model_fn, quantizer())):
        config = models.run_config(str(tmp_path / str(len(values))))
        estimator = tf.estimator.Estimator(wrapped, config=config)
        estimator.train(models.dataset((4, 4, 3)), max_steps=1)
        names = ("hidden/kernel", "top/kernel", "seen")
        values.append([estimator.get_variable_value(name) for name in names])
    for plain, quantized in zip(*values):
        np.testing.assert_array_equal(quantized, plain)


def test_signs_are_those_of_the_features_in_training(tmp_path):
    """Bytes cannot be negative; floats that hold the same values could be."""
    random = np.random.RandomState(5)
    data = random.randint(0, 256, (4, 8)).astype(np.uint8)

    def model_fn(features, labels, mode):
        x = tf.cast(features["x"], tf.float32) / 255.0
        y = tf.layers.dense(tf.layers.dense(x, 6, tf.nn.relu, name="a"), 3, name="b")
        loss = tf.reduce_mean(tf.square(y - 1.0))
        step = tf.train.get_or_create_global_step()
        train_op = tf.train.GradientDescentOptimizer(0.01).minimize(loss, step)
        return tf.estimator.EstimatorSpec(mode, {"y": y}, loss, train_op)

    def batches(values):
        return lambda: tf.data.Dataset.from_tensors({"x": values}).repeat(5)

    estimator = tf.estimator.Estimator(
        ec.compress(model_fn, quantizer(signed="auto")),
        config=models.run_config(str(tmp_path)),
    )
    estimator.train(batches(data))
    bytes_, floats = (
        [row["y"] for row in estimator.predict(batches(values))]
        for values in (data, data.astype(np.float32))
    )
    np.testing.assert_array_equal(floats, bytes_)
