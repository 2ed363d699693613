"""Which variables are the model's own."""
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.contrib import opt

from ec_estimator.core.state import create_variable
from ec_estimator.graph.variables import (
    checkpoint_name,
    model_variables,
    optimizer_entries,
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


def users_own_names():
    """Variables of a model's that are named as TensorFlow names slots."""
    for scope in ("Adam", "w/Adam", "w/Momentum_1"):
        with tf.variable_scope(scope):
            tf.layers.dense(tf.ones([2, 4]), 4, use_bias=False)
    w = tf.get_variable("w", [4, 4])
    shift = tf.get_variable("w/RMSProp", [4, 4], trainable=False)
    # Nothing that is differentiated reads it.
    tf.get_variable("w/adam_m", [4, 4], trainable=False)
    tf.get_variable("w/beta1_power", [], trainable=False)
    power = tf.get_variable("beta1_power", [], trainable=False)
    return tf.reduce_sum(w * shift * power)


class OwnOptimizer(tf.train.Optimizer):
    """Has slots that no Apply op knows."""

    def __init__(self):
        super().__init__(False, "Own")

    def _create_slots(self, var_list):
        for var in var_list:
            self._zeros_slot(var, "velocity", "ExponentialMovingAverage")
            self._get_or_make_slot(var, tf.zeros([3]), "norms", "gain")

    def _apply_dense(self, grad, var):
        velocity = self.get_slot(var, "velocity")
        moved = velocity.assign(0.9 * velocity + grad)
        norms = self.get_slot(var, "norms").assign(tf.fill([3], tf.norm(grad)))
        return tf.group(var.assign_sub(0.1 * moved), norms)

    _resource_apply_dense = _apply_dense


def model_of_checkpoint(path):
    """Names of what is not taken for an optimizer's."""
    stored = {name for name, _ in tf.train.list_variables(path)}
    return stored - optimizer_entries(path)


def saved(folder, saver=None):
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        return (saver or tf.train.Saver()).save(session, str(folder / "model"))


WAYS = {
    "adam": tf.train.AdamOptimizer,
    "momentum in a scope": lambda: tf.train.MomentumOptimizer(0.1, 0.9),
    "own": OwnOptimizer,
}


@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_slots_are_told_by_what_the_optimizer_does_and_not_by_name(
    way, resource, tmp_path
):
    with tf.Graph().as_default() as graph:
        with tf.variable_scope("", use_resource=resource):
            loss = users_own_names()
            model = names(tf.global_variables())
            with tf.variable_scope("scope" if "scope" in way else ""):
                WAYS[way]().minimize(loss)
        added = names(tf.global_variables()) - model
        assert added
        assert names(model_variables(graph)) == model
        assert model_of_checkpoint(saved(tmp_path)) == model


def test_entries_of_a_checkpoint_are_told_through_the_savers_own_names(tmp_path):
    with tf.Graph().as_default():
        with tf.variable_scope("", partitioner=tf.fixed_size_partitioner(2)):
            y = tf.layers.dense(tf.ones([2, 4]), 3, use_bias=False, name="dense")
        w = tf.get_variable("w", [])
        optimizer = tf.train.MomentumOptimizer(0.1, 0.9)
        optimizer.minimize(tf.reduce_mean(y) * w)
        slot = optimizer.get_slot(w, "momentum")
        parts = [v for v in tf.global_variables() if "dense" in v.op.name]
        saver = tf.train.Saver({"mine": w, "its": slot})
        assert model_of_checkpoint(saved(tmp_path, saver)) == {"mine"}
        assert model_of_checkpoint(saved(tmp_path, tf.train.Saver(parts))) == {
            "dense/kernel"
        }


def test_without_its_graph_all_of_a_checkpoint_is_the_models(tmp_path):
    with tf.Graph().as_default():
        build(OPTIMIZERS["adam"])
        path = saved(tmp_path)
        everything = names(tf.global_variables())
    (tmp_path / "model.meta").write_bytes(b"damaged")
    assert model_of_checkpoint(path) == everything
    (tmp_path / "model.meta").unlink()
    assert model_of_checkpoint(path) == everything


def test_averages_in_a_conditional_on_finite_gradients_are_the_models():
    with tf.Graph().as_default() as graph:
        w = tf.get_variable("w", [3])
        averages = tf.train.ExponentialMovingAverage(0.9)
        optimizer = tf.train.MomentumOptimizer(0.1, 0.9)
        gradients = optimizer.compute_gradients(tf.nn.l2_loss(w), [w])

        def update():
            with tf.control_dependencies([optimizer.apply_gradients(gradients)]):
                return averages.apply([w])

        is_finite = tf.reduce_all(tf.math.is_finite(gradients[0][0]))
        tf.cond(is_finite, update, tf.no_op)
        assert names(model_variables(graph)) == {"w", "w/ExponentialMovingAverage"}


def test_statistics_behind_a_gradient_of_the_forward_pass_are_the_models():
    with tf.Graph().as_default() as graph:
        x = tf.ones([2, 4])
        h = tf.layers.dense(x, 4, tf.nn.tanh, name="a", use_bias=False)
        (slope,) = tf.gradients(h, [x])
        y = tf.layers.batch_normalization(slope, training=True, name="norm")
        updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
        with tf.control_dependencies(updates):
            tf.train.AdamOptimizer().minimize(tf.reduce_sum(y**2))
        assert names(model_variables(graph)) == {
            "a/kernel",
            *(f"norm/{n}" for n in ("gamma", "beta", "moving_mean", "moving_variance")),
        }
