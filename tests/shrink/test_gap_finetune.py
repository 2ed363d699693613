"""GapFinetune: sessions build the small network that Estimators build."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models
from tests.shrink import networks
from tests.shrink.test_networks import close, prune


def chain(x, training):
    """Takes its sizes from tensors."""
    h = tf.layers.conv2d(x, 8, 3, activation=tf.nn.relu)
    return tf.layers.dense(tf.layers.flatten(h), models.CLASSES)


NETWORKS = {
    "slim_resnet_v1": networks.SMALL["slim_resnet_v1"],
    "slim_resnet_v2": networks.SMALL["slim_resnet_v2"],
    "literal_reshape": networks.SMALL["literal_reshape"],
    "chain": (chain, networks.IMAGE),
}


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    """callable(name) -> (folder, network, batch, logits of the masked network)."""
    runs = {}

    def run(name):
        if name not in runs:
            folder = str(tmp_path_factory.mktemp(name))
            network, shape = NETWORKS[name]
            estimator, _, input_fn = prune(folder, network, shape, 0.5)
            with tf.Graph().as_default(), tf.Session() as session:
                data = tf.data.make_one_shot_iterator(input_fn()).get_next()
                batch = session.run(data[0]["x"])
            rows = estimator.predict(lambda: input_fn().take(1))
            runs[name] = folder, network, batch, np.stack([r["logits"] for r in rows])
        return runs[name]

    return run


def run_new(fetch):
    with tf.Session(config=models.ONE_THREAD) as session:
        session.run(tf.global_variables_initializer())
        return session.run(fetch)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_build_makes_the_small_network(name, pruned):
    folder, network, batch, logits = pruned(name)
    helper = ec.GapFinetune(folder)
    with tf.Graph().as_default():
        small = helper.build(network, tf.constant(batch), False)
        sizes = {v.op.name: tuple(v.shape.as_list()) for v in tf.trainable_variables()}
        close(run_new(small), logits)
    cut = helper.artifact.variables
    assert sizes == {name: cut[name].small_shape for name in sizes}
    assert any(cut[name].small_shape != cut[name].shape for name in sizes)


def test_a_chain_needs_the_getter_alone(pruned):
    folder, network, batch, logits = pruned("chain")
    helper = ec.GapFinetune(folder)
    with tf.Graph().as_default():
        with tf.variable_scope("", custom_getter=helper.get_variable):
            close(run_new(network(tf.constant(batch), False)), logits)


# The other slim network is its twin.
@pytest.mark.parametrize(
    "name",
    ["slim_resnet_v1", pytest.param("slim_resnet_v2", marks=pytest.mark.slow)],
)
def test_a_shortcut_that_the_getter_is_asked_for_is_refused(name, pruned):
    folder, network, batch, _ = pruned(name)
    helper = ec.GapFinetune(folder)
    with tf.Graph().as_default():
        with tf.variable_scope("", custom_getter=helper.get_variable):
            with pytest.raises(ec.PlanError, match="shortcut/weights") as info:
                network(tf.constant(batch), False)
    assert f"GapFinetune({folder!r}).build(" in str(info.value)


def test_a_literal_that_the_getter_cannot_cut_is_refused(pruned):
    folder, network, batch, _ = pruned("literal_reshape")
    helper = ec.GapFinetune(folder)
    with tf.Graph().as_default():
        with tf.variable_scope("", custom_getter=helper.get_variable):
            with pytest.raises(ec.PlanError, match="Reshape 'literal' still has 288"):
                network(tf.constant(batch), False)


def test_a_layer_more_outside_of_the_pruned_ones_is_made_as_it_is_asked_for(pruned):
    folder, network, batch, _ = pruned("chain")
    with tf.Graph().as_default():
        getter = ec.GapFinetune(folder).get_variable
        with tf.variable_scope("", custom_getter=getter):
            logits = network(tf.constant(batch), False)
            tf.layers.dense(logits, 7, name="new")
        shapes = {v.op.name: v.shape.as_list() for v in tf.trainable_variables()}
    assert shapes["new/kernel"] == [models.CLASSES, 7]


class TestBuild:
    def test_trains_what_the_function_trains(self, pruned):
        folder, network, batch, _ = pruned("slim_resnet_v1")
        helper = ec.GapFinetune(folder)

        def build(x):
            loss = tf.reduce_mean(network(x, True) ** 2)
            step = tf.train.get_or_create_global_step()
            return loss, tf.train.AdamOptimizer(0.01).minimize(loss, step)

        with tf.Graph().as_default():
            loss, train_op = helper.build(build, tf.constant(batch))
            name = "resnet_v1/block1/unit_1/bottleneck_v1/shortcut/weights"
            slot = next(v for v in tf.global_variables() if v.op.name == name + "/Adam")
            assert slot.shape == helper.artifact.variables[name].small_shape
            with tf.Session(config=models.ONE_THREAD) as session:
                session.run(tf.global_variables_initializer())
                losses = [session.run([loss, train_op])[0] for _ in range(4)]
        assert losses[-1] < losses[0]

    def test_may_be_called_in_scopes(self, pruned):
        folder, network, batch, logits = pruned("chain")
        with tf.Graph().as_default():
            with tf.name_scope("tower"), tf.device("/cpu:0"):
                small = ec.GapFinetune(folder).build(network, tf.constant(batch), False)
            assert small.op.name.startswith("tower/")
            close(run_new(small), logits)

    def test_refuses_another_network(self, pruned):
        folder, _, batch, _ = pruned("chain")

        def other(x):
            return tf.layers.dense(tf.layers.flatten(x), 3)

        with tf.Graph().as_default():
            with pytest.raises(ec.PlanError, match="had shape .* when it was pruned"):
                ec.GapFinetune(folder).build(other, tf.constant(batch))

    @pytest.mark.parametrize(
        "function",
        [lambda x: chain(x, False), lambda x: chain(tf.nn.relu(x), False), tf.nn.relu],
    )
    def test_refuses_what_was_made_outside_of_the_function(self, function, pruned):
        folder = pruned("chain")[0]
        with tf.Graph().as_default():
            x = tf.zeros([2, 8, 8, 3])
            with pytest.raises(ec.PlanError, match="pass it as an argument"):
                ec.GapFinetune(folder).build(lambda: function(x))

    def test_refuses_a_second_copy_in_a_graph(self, pruned):
        folder, network, batch, _ = pruned("chain")
        helper = ec.GapFinetune(folder)
        with tf.Graph().as_default():
            helper.build(network, tf.constant(batch), False)
            with pytest.raises(ec.PlanError, match="'conv2d/kernel' already"):
                helper.build(network, tf.constant(batch), False)

    def test_refuses_a_function_that_ends_in_nothing(self, pruned):
        folder, network, batch, _ = pruned("chain")
        with tf.Graph().as_default():
            with pytest.raises(ec.PlanError, match="return the tensors"):
                ec.GapFinetune(folder).build(
                    lambda x: [network(x, False)].clear(), tf.constant(batch)
                )
