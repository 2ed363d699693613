"""Which variables are the model's own."""
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.contrib import opt

from ec_estimator.core.state import create_variable
from ec_estimator.graph.variables import (
    checkpoint_name,
    is_optimizers,
    model_variables,
    owner,
)


@pytest.mark.parametrize(
    "name,expected",
    [
        ("dense/kernel/Adam", "dense/kernel"),
        ("dense/kernel/Adam_1", "dense/kernel"),
        ("training/SGD/dense/kernel/momentum", "dense/kernel"),
        ("dense/kernel", None),
        ("dense/kernel_2", None),
        ("dense/kernel_2/Adam", None),
        ("beta1_power", None),
        ("my_dense/kernel/Adam", None),
        ("scope/dense/kernel/Adam", "scope/dense/kernel"),
        ("w/inner/w/Adam", "w/inner/w"),
        ("teacher/dense/kernel", None),
    ],
)
def test_the_owner_is_the_longest_trainable_name_inside(name, expected):
    trainable = {"dense/kernel", "dense/bias", "scope/dense/kernel", "w", "w/inner/w"}
    assert owner(name, trainable) == expected


MODEL = {
    "global_step",
    "dense/kernel",
    "dense/bias",
    "norm/gamma",
    "norm/beta",
    "norm/moving_mean",
    "norm/moving_variance",
    "frozen/kernel",
    "counter",
}


def build(optimizer):
    """A model with frozen weights, a batch norm and a counter of its own."""
    step = tf.train.get_or_create_global_step()
    x = tf.layers.dense(
        tf.ones([2, 4]), 3, use_bias=False, name="frozen", trainable=False
    )
    x = tf.layers.dense(x, 3, name="dense")
    x = tf.layers.batch_normalization(x, training=True, name="norm")
    counter = tf.get_variable("counter", [], tf.int64, trainable=False)
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS) + [counter.assign_add(1)]
    with tf.control_dependencies(updates):
        optimizer().minimize(tf.reduce_mean(tf.square(x)), step)


def names(variables):
    return {variable.op.name for variable in variables}


OPTIMIZERS = {
    "sgd": lambda: tf.train.GradientDescentOptimizer(0.1),
    "momentum": lambda: tf.train.MomentumOptimizer(0.1, 0.9),
    "adam": lambda: tf.train.AdamOptimizer(0.1),
    "adagrad": lambda: tf.train.AdagradOptimizer(0.1),
    "rmsprop": lambda: tf.train.RMSPropOptimizer(0.1, centered=True),
    "ftrl": lambda: tf.train.FtrlOptimizer(0.1),
    "adamw": lambda: opt.AdamWOptimizer(1e-4, 0.1),
    "adam in a scope": lambda: tf.train.AdamOptimizer(0.1, name="mine"),
}


@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_slots_powers_and_rates_are_not_the_models(optimizer, resource):
    with tf.Graph().as_default() as graph:
        with tf.variable_scope("", use_resource=resource):
            build(OPTIMIZERS[optimizer])
        assert names(model_variables(graph)) == MODEL


def test_a_learning_rate_variable_is_not_the_models():
    with tf.Graph().as_default() as graph:
        rate = tf.get_variable("rate", [], trainable=False)
        build(lambda: tf.train.GradientDescentOptimizer(rate))
        assert names(model_variables(graph)) == MODEL


def test_our_state_is_not_the_models():
    with tf.Graph().as_default() as graph:
        build(OPTIMIZERS["adam"])
        create_variable("sparsity/dense/kernel/mask", [3, 3], tf.float32, 1)
        create_variable("sparsity/trial", [], tf.int64, 0)
        assert names(model_variables(graph)) == MODEL


def test_moving_averages_of_weights_are_the_models():
    with tf.Graph().as_default() as graph:
        build(OPTIMIZERS["momentum"])
        tf.train.ExponentialMovingAverage(0.9).apply(tf.trainable_variables())
        added = names(model_variables(graph)) - MODEL
    assert added == {
        f"{name}/ExponentialMovingAverage"
        for name in ("dense/kernel", "dense/bias", "norm/gamma", "norm/beta")
    }


def test_partitions_are_the_models_and_their_slots_are_not():
    with tf.Graph().as_default() as graph:
        with tf.variable_scope("", partitioner=tf.fixed_size_partitioner(2)):
            y = tf.layers.dense(tf.ones([2, 4]), 3, use_bias=False, name="dense")
        tf.train.AdamOptimizer(0.1).minimize(tf.reduce_mean(y))
        found = model_variables(graph)
    assert names(found) == {"dense/kernel/part_0", "dense/kernel/part_1"}
    assert {checkpoint_name(variable) for variable in found} == {"dense/kernel"}


@pytest.mark.parametrize("resource", [False, True])
def test_the_checkpoint_name_is_what_a_saver_writes(tmp_path, resource):
    with tf.Graph().as_default(), tf.Session() as session:
        with tf.variable_scope("scope", use_resource=resource):
            tf.get_variable("whole", [3])
            tf.get_variable("cut", [4], partitioner=tf.fixed_size_partitioner(2))
        session.run(tf.global_variables_initializer())
        path = tf.train.Saver().save(session, str(tmp_path / "model"))
        found = {checkpoint_name(variable) for variable in tf.global_variables()}
    assert found == set(tf.train.load_checkpoint(path).get_variable_to_shape_map())


def spectral_norm(x):
    """A dense layer whose kernel is divided by its norm, with state under its name."""
    kernel = tf.get_variable("sn/kernel", [4, 3])
    u = tf.get_variable("sn/kernel/sn/u", [1, 3], trainable=False)
    v = tf.nn.l2_normalize(tf.matmul(u, kernel, transpose_b=True))
    new = tf.nn.l2_normalize(tf.matmul(v, kernel))
    tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, u.assign(new))
    return tf.matmul(x, kernel / tf.matmul(tf.matmul(v, kernel), u, transpose_b=True))


def test_state_under_a_kernels_name_is_the_models_if_the_forward_pass_reads_it():
    with tf.Graph().as_default() as graph:
        loss = tf.reduce_mean(tf.square(spectral_norm(tf.ones([2, 4]))))
        with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
            tf.train.AdamOptimizer().minimize(loss)
        assert names(model_variables(graph)) == {"sn/kernel", "sn/kernel/sn/u"}


@pytest.mark.parametrize(
    "name,expected",
    [
        ("w/Adam", True),
        ("w/adam_m", True),
        ("w/Adafactor_1", True),
        ("w/sn/u", False),
        ("w/ExponentialMovingAverage", False),
        ("beta1_power", True),
        ("w", False),
    ],
)
def test_of_a_checkpoint_slots_are_told_by_name_and_shape(name, expected):
    shapes = {"w": [4, 3], "w/Adam": [4, 3], "w/adam_m": [4, 3], "beta1_power": []}
    shapes.update({"w/Adafactor_1": [4], "w/sn/u": [1, 3]})
    shapes["w/ExponentialMovingAverage"] = [4, 3]
    assert is_optimizers(name, shapes) == expected
