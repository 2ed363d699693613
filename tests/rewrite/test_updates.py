"""What is removed stays exactly zero, whatever the optimizer does."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.contrib import opt as contrib_opt

import ec_estimator as ec
from ec_estimator.training.attachment import attach_to_finished_graph
from tests.models import ONE_THREAD

OPTIMIZERS = {
    "sgd": lambda: tf.train.GradientDescentOptimizer(0.1),
    "momentum": lambda: tf.train.MomentumOptimizer(0.1, 0.9),
    "nesterov": lambda: tf.train.MomentumOptimizer(0.1, 0.9, use_nesterov=True),
    "adam": lambda: tf.train.AdamOptimizer(0.1),
    "adagrad": lambda: tf.train.AdagradOptimizer(0.1),
    "adagrad_da": lambda: tf.train.AdagradDAOptimizer(
        0.1, tf.train.get_or_create_global_step()
    ),
    "adadelta": lambda: tf.train.AdadeltaOptimizer(0.1),
    "rmsprop": lambda: tf.train.RMSPropOptimizer(0.1, momentum=0.9),
    "rmsprop_centered": lambda: tf.train.RMSPropOptimizer(0.1, centered=True),
    "ftrl": lambda: tf.train.FtrlOptimizer(0.1, l1_regularization_strength=0.001),
    "proximal_sgd": lambda: tf.train.ProximalGradientDescentOptimizer(0.1),
    "proximal_adagrad": lambda: tf.train.ProximalAdagradOptimizer(0.1),
    "adamw": lambda: contrib_opt.AdamWOptimizer(0.01, 0.1),
    "momentumw": lambda: contrib_opt.MomentumWOptimizer(0.01, 0.1, 0.9),
    "add_sign": lambda: contrib_opt.AddSignOptimizer(0.01),
    "power_sign": lambda: contrib_opt.PowerSignOptimizer(0.01),
    "lars": lambda: contrib_opt.LARSOptimizer(0.1),
    "nadam": lambda: contrib_opt.NadamOptimizer(0.1),
    "adamax": lambda: contrib_opt.AdaMaxOptimizer(0.1),
}


def loss_of(use_resource=False):
    random = np.random.RandomState(0)
    x = tf.constant(random.standard_normal((8, 6)).astype(np.float32))
    y = tf.constant(random.standard_normal((8, 5)).astype(np.float32))
    w = tf.get_variable(
        "w",
        [6, 5],
        initializer=tf.glorot_normal_initializer(1),
        use_resource=use_resource,
    )
    # Decay that pulls at removed weights too.
    return tf.reduce_mean((tf.matmul(x, w) - y) ** 2) + 0.01 * tf.nn.l2_loss(w), w


def run(train_op, w, others=(), steps=(3, 4)):
    """Trains, removes half of the weights, trains on; returns the values after each."""
    graph = tf.get_default_graph()
    attachment = attach_to_finished_graph(graph, [ec.Sparsifier(ec.SparsifierConfig())])
    with tf.Session(config=ONE_THREAD) as session:
        session.run(tf.global_variables_initializer())
        for _ in range(steps[0]):
            session.run(train_op)
        attachment.attached[0].run_trial(session, 1, 0.5)
        at_trial = session.run([w, *others])
        for _ in range(steps[1]):
            session.run(train_op)
        return at_trial, session.run([w, *others])


def check(at_trial, after):
    gone = at_trial[0] == 0
    assert gone.sum() == 15
    for value in after:
        np.testing.assert_array_equal(value[gone], 0)
    alive = ~gone
    assert np.all(np.isfinite(after[0]))
    assert np.all(after[0][alive] != at_trial[0][alive])


@pytest.mark.parametrize("use_resource", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_optimizer_revives_a_removed_weight(name, use_resource):
    with tf.Graph().as_default():
        loss, w = loss_of(use_resource)
        check(*run(OPTIMIZERS[name]().minimize(loss), w))


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_no_keras_optimizer_revives_a_removed_weight(name):
    make = {
        "sgd": lambda: tf.keras.optimizers.SGD(0.1, 0.9),
        "adam": lambda: tf.keras.optimizers.Adam(0.1),
    }[name]
    with tf.Graph().as_default():
        loss, w = loss_of(use_resource=True)
        (train_op,) = make().get_updates(loss, [w])[-1:]
        check(*run(train_op, w))


def test_a_handwritten_optimizer_does_not_revive_a_removed_weight():
    with tf.Graph().as_default():
        loss, w = loss_of()
        (gradient,) = tf.gradients(loss, [w])
        m = tf.get_variable("w/adam_m", w.shape, trainable=False)
        v = tf.get_variable(
            "w/adam_v", w.shape, trainable=False, initializer=tf.zeros_initializer()
        )
        next_m = 0.9 * m + 0.1 * gradient
        next_v = 0.999 * v + 0.001 * gradient**2
        update = next_m / (tf.sqrt(next_v) + 1e-6) + 0.01 * w
        train_op = tf.group(
            w.assign(w - 0.1 * update), m.assign(next_m), v.assign(next_v)
        )
        check(*run(train_op, w))


def test_sums_of_gradients_over_several_steps_do_not_revive_a_removed_weight():
    with tf.Graph().as_default():
        loss, w = loss_of()
        optimizer = tf.train.MomentumOptimizer(0.1, 0.9)
        (gradient,) = tf.gradients(loss, [w])
        total = tf.get_variable("sums/w/total", w.shape, trainable=False)
        count = tf.get_variable("count", [], tf.int32, trainable=False)
        with tf.control_dependencies([total.assign_add(gradient), count.assign_add(1)]):

            def apply():
                return tf.group(optimizer.apply_gradients([(total + 0, w)]))

            train_op = tf.cond(tf.equal(count % 2, 0), apply, tf.no_op)
        check(*run(train_op, w, [total]))


def test_a_moving_average_is_zero_where_its_weight_is():
    with tf.Graph().as_default():
        loss, w = loss_of()
        average = tf.train.ExponentialMovingAverage(0.9)
        with tf.control_dependencies([tf.train.AdamOptimizer(0.1).minimize(loss)]):
            train_op = average.apply([w])
        check(*run(train_op, w, [average.average(w)]))


def test_slots_of_removed_weights_start_afresh_and_others_go_on():
    with tf.Graph().as_default():
        loss, w = loss_of()
        optimizer = tf.train.AdagradOptimizer(0.1, initial_accumulator_value=0.25)
        train_op = optimizer.minimize(loss)
        slot = optimizer.get_slot(w, "accumulator")
        (weights, accumulator), _ = run(train_op, w, [slot], steps=(3, 0))
    np.testing.assert_array_equal(accumulator[weights == 0], np.float32(0.25))
    assert np.all(accumulator[weights != 0] > 0.25)


def test_clipping_by_norm_sees_the_gradients_of_the_compressed_network():
    with tf.Graph().as_default() as graph:
        loss_of()
        plan = _plan(graph)
    with tf.Graph().as_default() as graph:
        attachment = ec.training.attachment.Attachment(
            graph, plan, [ec.Sparsifier(ec.SparsifierConfig())]
        )
        with attachment.gradients(), attachment.variables():
            loss, w = loss_of()
            (gradient,) = tf.gradients(loss, [w])
        norm = tf.global_norm([gradient])
        mask = graph.get_tensor_by_name("ec_estimator/sparsity/w/mask:0")
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            whole, dense = session.run([norm, gradient])
            half = np.ones((6, 5), np.float32)
            half[::2] = 0
            session.run(tf.assign(mask, half))
            part = session.run(norm)
    np.testing.assert_allclose(whole, np.sqrt(np.sum(dense**2)), rtol=1e-6)
    np.testing.assert_allclose(part, np.sqrt(np.sum((dense * half) ** 2)), rtol=1e-6)


def _plan(graph):
    from ec_estimator.graph.layers import find_layers
    from ec_estimator.graph.plan import make_plan

    sparsifier = ec.Sparsifier(ec.SparsifierConfig())
    return make_plan("session", graph, find_layers(graph), None, [sparsifier])


def test_an_update_that_cannot_be_masked_is_an_error_that_names_it():
    with tf.Graph().as_default() as graph:
        _, w = loss_of()
        tf.scatter_update(w, [0], [[1.0] * 5], name="odd")
        with pytest.raises(ec.PlanError, match="'w' is written by ScatterUpdate 'odd'"):
            attach_to_finished_graph(graph, [ec.Sparsifier(ec.SparsifierConfig())])


def test_restoring_a_checkpoint_is_not_gated():
    with tf.Graph().as_default() as graph:
        loss, w = loss_of()
        tf.train.AdamOptimizer(0.1).minimize(loss)
        tf.train.Saver([w])
        restore = graph.get_operation_by_name("save/Assign")
        given = restore.inputs[1]
        attach_to_finished_graph(graph, [ec.Sparsifier(ec.SparsifierConfig())])
        assert restore.inputs[1] is given
        assert w.initializer.inputs[1] is w.initial_value


def read_in_a_function(w):
    return tf.function(lambda: tf.reduce_sum(w**2))()


def read_in_a_nested_function(w):
    inner = tf.function(lambda: tf.reduce_sum(w**2))
    return tf.function(lambda: 2.0 * inner())()


def read_in_a_branch(w):
    @tf.function
    def outer(use):
        return tf.cond(use, lambda: tf.reduce_sum(w**2), lambda: tf.reduce_sum(w))

    return outer(tf.constant(True))


@pytest.mark.parametrize(
    "read", [read_in_a_function, read_in_a_nested_function, read_in_a_branch]
)
def test_a_function_that_only_reads_a_kernel_is_no_update(read):
    with tf.Graph().as_default():
        loss, w = loss_of(use_resource=True)
        penalty = read(w)
        with tf.control_dependencies([penalty]):
            train_op = tf.train.AdamOptimizer(0.1).minimize(loss)
        check(*run(train_op, w))


def test_a_look_at_single_weights_is_no_update():
    with tf.Graph().as_default() as graph:
        loss, w = loss_of(use_resource=True)
        attachment = ec.training.attachment.Attachment(
            graph, _plan(graph), [ec.Sparsifier(ec.SparsifierConfig())]
        )
        some = w.gather_nd([[0, 0], [1, 2]])
        with attachment.gradients(), attachment.variables():
            train_op = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
        attachment.finish()
        with tf.Session(config=ONE_THREAD) as session:
            session.run(tf.global_variables_initializer())
            attachment.attached[0].run_trial(session, 1, 0.5)
            session.run(train_op)
            whole, looked_at = session.run([w, some])
    assert np.count_nonzero(whole == 0) == 15
    np.testing.assert_array_equal(looked_at, [whole[0, 0], whole[1, 2]])


def test_a_function_that_writes_one_argument_only_reads_the_other():
    with tf.Graph().as_default():
        loss, w = loss_of(use_resource=True)
        seen = tf.get_variable("seen", [6, 5], trainable=False, use_resource=True)
        noted = tf.function(lambda: seen.assign(w))()
        with tf.control_dependencies([noted]):
            train_op = tf.train.AdamOptimizer(0.1).minimize(loss)
        check(*run(train_op, w))


def written_in_a_function(w):
    return tf.function(lambda: w.assign_add(tf.ones_like(w)))()


def written_in_a_nested_function(w):
    inner = tf.function(lambda: w.assign(tf.ones_like(w)))
    return tf.function(lambda: inner() + 1.0)()


def written_in_a_branch(w):
    @tf.function
    def outer(use):
        return tf.cond(use, lambda: w.assign_add(tf.ones_like(w)), lambda: 1.0 * w)

    return outer(tf.constant(True))


@pytest.mark.parametrize(
    "write", [written_in_a_function, written_in_a_nested_function, written_in_a_branch]
)
def test_a_function_that_writes_a_kernel_is_an_error(write):
    with tf.Graph().as_default() as graph:
        _, w = loss_of(use_resource=True)
        write(w)
        with pytest.raises(ec.PlanError, match="'w' is written by .*PartitionedCall"):
            attach_to_finished_graph(graph, [ec.Sparsifier(ec.SparsifierConfig())])
