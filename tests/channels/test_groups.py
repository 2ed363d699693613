"""Channel groups, held against what networks compute.

The main test does not trust the analysis. Removing a group means that its readers are
masked; then whatever else belongs to the group may hold any values, and the model must
not change. And a network built without the group must compute the same.
"""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import HealthCheck, given

from ec_estimator.channels.groups import find_channels
from tests.channels import channel_models as models
from tests.channels.random_models import RECIPES, network
from tests.models import ONE_THREAD
from tests.properties import dear


def built(build):
    """(graph, outputs, channels) of a model in a graph of its own."""
    tf.keras.backend.clear_session()
    with tf.Graph().as_default() as graph:
        outputs = build()
    outputs = outputs if isinstance(outputs, list) else [outputs]
    return graph, outputs, find_channels(graph, outputs)


# Their code names sizes (or, under Keras and with partitions, asks no getter for whole
# variables), so it does not build a smaller network by itself.
NAME_SIZES = {
    *(models.flatten_by_shape, models.flatten_literal, models.se_reshape, models.unet),
    *(models.glu, models.prelu, models.option_a_shortcut, models.transformer),
    *(models.rank_3, models.rank_3_static, models.rank_3_all_unknown),
    *(models.keras_layers, models.partitioned_inputs, models.partitioned_outputs),
    # Moving statistics that nobody reads are not seen.
    models.batch_norm_without_scale,
}
REBUILT = [build for build in models.MODELS if build not in NAME_SIZES]


def names(build):
    return build.__name__


class Net:
    """A model with random weights on fixed inputs.

    variables, values: {name: tf.Variable or array}.
    """

    def __init__(self, build, seed=0):
        self.graph, self.outputs, self.channels = built(build)
        self.random = np.random.RandomState(seed)
        self.session = tf.Session(graph=self.graph, config=ONE_THREAD)
        self.variables = {
            variable.op.name: variable
            for variable in self.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
        }
        self.values = {
            name: draw(self.random, name, variable.shape.as_list())
            for name, variable in self.variables.items()
        }
        feeds = [op for op in self.graph.get_operations() if op.type == "Placeholder"]
        self.feed = {op.outputs[0]: self._input(op.outputs[0]) for op in feeds}

    def _input(self, tensor):
        shape = [2 if n is None else n for n in tensor.shape.as_list()]
        if tensor.dtype.is_integer:
            return self.random.randint(1, 10, shape)
        return self.random.standard_normal(shape)

    def run(self, values):
        """The outputs with these values of the variables."""
        load = [self.variables[name].initializer for name in values]
        new = {op.inputs[1]: values[op.inputs[0].op.name] for op in load}
        self.session.run(load, new)
        return self.session.run(self.outputs, self.feed)

    def masked(self, removed):
        """Values with zeros where readers read the removed groups."""
        values = {name: value.copy() for name, value in self.values.items()}
        for name, axes in self.channels.readers.items():
            for axis in axes:
                at = np.isin(self.channels.of(name, axis), removed)
                np.moveaxis(values[name], axis, 0)[at] = 0
        return values

    def scrambled(self, removed):
        """The masked values, with others wherever else the removed groups are."""
        values = self.masked(removed)
        for name, axes in self.channels.axes.items():
            other = draw(self.random, name, list(values[name].shape))
            keep_zeros = self.channels.readers.get(name, ())
            for axis, groups in enumerate(axes):
                if groups is not None and axis not in keep_zeros:
                    at = np.isin(groups, removed)
                    target = np.moveaxis(values[name], axis, 0)
                    target[at] = np.moveaxis(other, axis, 0)[at]
            for axis in keep_zeros:
                at = np.isin(self.channels.of(name, axis), removed)
                np.moveaxis(values[name], axis, 0)[at] = 0
        return values

    def small(self, removed):
        """The values that are left when the removed groups are cut out."""
        values = {}
        for name, axes in self.channels.axes.items():
            value = self.values[name]
            for axis, groups in enumerate(axes):
                if groups is not None:
                    value = value.compress(~np.isin(groups, removed), axis)
            values[name] = value
        return values

    def removals(self):
        """Groups to remove: random halves, and all but one of each layer."""
        groups = self.channels.prunable()
        yield groups[self.random.rand(len(groups)) < 0.5]
        yield self.without_emptying(groups)

    def without_emptying(self, removed):
        removed = set(removed.tolist())
        for name, axes in self.channels.producers.items():
            for axis in axes:
                vector = self.channels.of(name, axis)
                if removed.issuperset(vector.tolist()):
                    removed.discard(int(self.random.choice(vector)))
        return np.array(sorted(removed), int)


def draw(random, name, shape):
    """Random weights at which activations neither vanish nor explode."""
    if "variance" in name or "gamma" in name:
        return random.uniform(0.5, 1.5, shape)
    fan_in = np.prod(shape[:-1]) if len(shape) > 1 else 4
    return np.sqrt(2 / fan_in) * random.standard_normal(shape)


def assert_same(found, expected):
    for a, b in zip(found, expected):
        assert np.all(np.isfinite(b))
        scale = np.max(np.abs(b)) + 1e-3
        tolerance = 5e-3 if b.dtype == np.float16 else 1e-5
        np.testing.assert_allclose(a / scale, b / scale, rtol=0, atol=tolerance)


def assert_removable(net):
    """Masking the readers alone takes any of the groups away.

    Returns whether that changed the outputs: whether the groups did something.
    """
    whole, changes = net.run(net.values), []
    for removed in net.removals():
        masked = net.run(net.masked(removed))
        assert_same(net.run(net.scrambled(removed)), masked)
        changes.extend(np.any(a != b) for a, b in zip(masked, whole))
    return any(changes)


@pytest.mark.parametrize("build", models.MODELS, ids=names)
def test_masked_readers_take_channels_away(build):
    net = Net(build)
    assert len(net.channels.prunable()) == models.MODELS[build]
    assert assert_removable(net)


@pytest.mark.parametrize("name", models.FROZEN)
def test_what_would_change_with_a_cut_is_frozen_and_the_op_is_named(name):
    change, op_type = models.FROZEN[name]
    net = Net(models.frozen_by(change))
    channels = net.channels
    groups = channels.of("first/kernel", 1)
    assert len(groups) == 8
    for group in groups:
        assert channels.frozen[group].startswith(op_type)
    # The spare layer beside it stays free.
    assert len(channels.prunable()) == 4
    assert assert_removable(net)


def built_small(build, small):
    """The outputs of a model whose variables have the shapes of these values."""

    def getter(getter, name, shape=None, **kwargs):
        return getter(name, shape=small[name].shape, **kwargs)

    def build_small():
        with tf.variable_scope("", custom_getter=getter):
            return build()

    return build_small


@pytest.mark.parametrize("build", REBUILT, ids=names)
def test_a_network_built_without_the_channels_computes_the_same(build):
    net = Net(build)
    for removed in map(net.without_emptying, net.removals()):
        small_values = net.small(removed)
        small = Net(built_small(build, small_values))
        small.feed = dict(zip(small.feed, net.feed.values()))
        found = small.run({name: small_values[name] for name in small.variables})
        assert_same(found, net.run(net.masked(removed)))


@dear(12, suppress_health_check=list(HealthCheck))
@given(recipe=RECIPES)
def test_random_networks_lose_what_is_removed(recipe):
    assert_removable(Net(network(recipe)))


# {model: groups that can be pruned}. The smaller twins of large ones are in
# models.MODELS: resnet20, branches, mobilenet_v2.
LARGE = {
    models.slim_resnet_v2: 64 + 7552 + 3840,
    models.slim_vgg_16: 2 * 64 + 2 * 128 + 3 * 256 + 6 * 512 + 2 * 4096,
}


@pytest.mark.slow
@pytest.mark.parametrize("build", LARGE, ids=names)
def test_groups_of_large_models_are_those_counted_by_hand(build):
    _, _, channels = built(build)
    assert len(channels.prunable()) == LARGE[build]


def test_groups_of_a_model_that_does_not_run_on_a_cpu_are_those_counted_by_hand():
    _, _, channels = built(models.nchw)
    assert len(channels.prunable()) == 6 + 8


@pytest.mark.slow
def test_slim_resnet_50_loses_half_of_its_channels():
    net = Net(models.slim_resnet_v1)
    # A stem, what lies between the layers of each block, and four residual streams.
    assert len(net.channels.prunable()) == 64 + 7552 + 3840
    removed = net.channels.prunable()[::2]
    assert_same(net.run(net.scrambled(removed)), net.run(net.masked(removed)))


@pytest.mark.slow
def test_every_convolution_of_slim_inception_v3_but_the_last_is_on_its_own():
    net = Net(models.slim_inception_v3)
    outputs = [
        net.values[name].shape[3] for name in net.channels.axes if "weights" in name
    ]
    assert len(outputs) == 95
    assert len(net.channels.prunable()) == sum(outputs) - 10
    # The auxiliary head does not serve.
    assert not any("AuxLogits" in name for name in net.channels.axes)
    removed = net.channels.prunable()[::2]
    assert_same(net.run(net.scrambled(removed)), net.run(net.masked(removed)))


@pytest.mark.slow
def test_keras_mobilenet_v2_loses_half_of_its_channels():
    net = Net(models.keras_mobilenet_v2)
    # Stem and first projection, what each of 16 blocks expands to, seven streams less
    # the first, and the last convolution.
    expanded = 96 + 144 * 2 + 192 * 3 + 384 * 4 + 576 * 3 + 960 * 3
    streams = 24 + 32 + 64 + 96 + 160 + 320
    assert len(net.channels.prunable()) == 32 + 16 + expanded + streams + 1280
    removed = net.channels.prunable()[::2]
    assert_same(net.run(net.scrambled(removed)), net.run(net.masked(removed)))


def groups_of(build, *variables):
    """Groups of (variable, axis) pairs."""
    _, _, channels = built(build)
    return [channels.of(name, axis).tolist() for name, axis in variables]


def test_two_dense_layers_have_a_group_for_each_channel_between_them():
    _, _, channels = built(models.dense)
    between = channels.of("dense/kernel", 1).tolist()
    assert len(set(between)) == 8
    assert channels.of("dense/bias", 0).tolist() == between
    assert channels.of("dense_1/kernel", 0).tolist() == between
    assert channels.prunable().tolist() == sorted(between)
    assert channels.producers == {"dense/kernel": (1,), "dense_1/kernel": (1,)}
    assert channels.readers == {"dense/kernel": (0,), "dense_1/kernel": (0,)}
    assert channels.shapes["dense_1/kernel"] == (8, 3)
    for group in channels.of("dense/kernel", 0):
        assert channels.frozen[group] == "MatMul 'dense/MatMul'"
    for group in channels.of("dense_1/bias", 0):
        assert channels.frozen[group] == "the model predicts it"


def test_a_reading_says_which_axis_of_which_operand_a_layer_sums_over():
    _, _, channels = built(models.dense)
    reading = channels.readings[1]
    assert (reading.op, reading.index, reading.axis) == ("dense_1/MatMul", 1, -2)
    assert reading.groups.tolist() == channels.of("dense/kernel", 1).tolist()
    _, _, channels = built(models.kernel_on_the_left)
    sides = [(r.op, r.index, r.axis) for r in channels.readings]
    assert sides == [("MatMul", 0, -1), ("MatMul_1", 0, -2), ("MatMul_2", 1, -2)]
    _, _, channels = built(models.transposed_to_skip)
    (reading,) = [r for r in channels.readings if r.op == "conv2d_transpose"]
    assert (reading.index, reading.axis, len(reading.groups)) == (1, 3, 8)


def test_a_flatten_repeats_its_channels():
    a, b = groups_of(models.vgg_flatten, ("conv2d_1/kernel", 3), ("dense/kernel", 0))
    assert b == 16 * a


def test_a_depthwise_multiplier_repeats_each_channel():
    a, b = groups_of(models.multiplier_2, ("conv2d/kernel", 3), ("conv2d_1/kernel", 2))
    assert b == [group for group in a for _ in range(2)]


def test_a_concat_joins_channels():
    a, b, c = groups_of(
        models.unet,
        ("conv2d_transpose/kernel", 2),
        ("conv2d_1/kernel", 3),
        ("conv2d_3/kernel", 2),
    )
    assert c == a + b


def test_zeros_beside_channels_go_with_them():
    a, b = groups_of(
        models.option_a_shortcut_unknown_batch,
        ("conv2d/kernel", 3),
        ("conv2d_2/kernel", 3),
    )
    assert b == a + a


def test_all_parts_of_a_kernel_are_read_and_produce():
    _, _, channels = built(models.partitioned_outputs)
    parts = ["b/part_0", "b/part_1", "b/part_2"]
    assert {name: channels.readers[name] for name in parts} == {n: (0,) for n in parts}
    assert {channels.producers[n] for n in parts} == {(1,)}
    _, _, channels = built(models.partitioned_inputs)
    parts = ["dense_1/kernel/part_0", "dense_1/kernel/part_1"]
    assert all(
        channels.readers[name] == channels.producers[name][:0] + (0,) for name in parts
    )
    assert all(channels.producers[name] == (1,) for name in parts)
    _, _, channels = built(models.summed_weights)
    assert channels.readers["a"] == channels.readers["b"] == (0,)


def test_a_tied_kernel_is_read_along_both_axes():
    _, _, channels = built(models.tied_autoencoder)
    assert channels.readers["w"] == channels.producers["w"] == (0, 1)


def test_a_vocabulary_has_no_channels():
    _, _, channels = built(models.wide_and_deep)
    assert channels.axes["embedding"][0] is None
    assert len(channels.axes["embedding"][1]) == 6
    assert all("Gather" in channels.frozen[g] for g in channels.of("embedding", 1))


def test_of_a_transformer_only_the_feed_forward_part_can_go():
    _, _, channels = built(models.transformer)
    kernels = ["", "_1", "_2", "_3", "_5"]
    for kernel in kernels:
        groups = channels.of(f"layer_0/dense{kernel}/kernel", 1)
        assert all(group in channels.frozen for group in groups)
    hidden = channels.of("layer_0/dense_4/kernel", 1)
    assert not any(group in channels.frozen for group in hidden)
    # Heads are split off by a Reshape; the residual stream starts at a lookup.
    assert "Reshape" in channels.frozen[channels.of("layer_0/dense/kernel", 1)[0]]
    assert "Gather" in channels.frozen[channels.of("layer_0/dense_3/kernel", 1)[0]]


def test_one_value_for_all_channels_is_frozen_and_they_are_not():
    def attention():
        x = models.conv_bn(models.some(2, 8, 8, 3), 6)
        return models.head(x * models.conv(x, 1, 1, name="attention"))

    net = Net(attention)
    (group,) = net.channels.of("attention/kernel", 3)
    assert "mul" in net.channels.frozen[group].lower()
    assert len(net.channels.prunable()) == 6
    assert assert_removable(net)


def test_what_nothing_reads_cannot_be_pruned():
    _, _, channels = built(lambda: tf.reduce_sum(models.dense(), 0)[None])
    assert len(channels.prunable()) == 8
    assert not set(channels.of("dense_1/kernel", 1)) & set(channels.prunable())


def test_a_loss_is_walked_and_freezes_nothing_by_itself():
    with tf.Graph().as_default() as graph:
        x = models.some(2, 4)
        hidden = tf.layers.dense(x, 8, name="hidden")
        served = tf.layers.dense(hidden, 3)
        auxiliary = tf.layers.dense(hidden, 2, name="auxiliary")
        loss = tf.reduce_mean(served) + tf.reduce_mean(auxiliary)
    assert "auxiliary/kernel" not in find_channels(graph, [served]).axes
    channels = find_channels(graph, [served], [loss])
    assert channels.readers["auxiliary/kernel"] == (0,)
    assert len(channels.prunable()) == 8


def test_a_model_without_layers_has_nothing_to_prune():
    _, _, channels = built(lambda: models.some(2, 3) + models.weights("b", 3))
    assert channels.prunable().tolist() == []
    assert channels.readers == channels.producers == {}
    _, _, channels = built(lambda: models.some(2, 3) * 2.0)
    assert channels.axes == {}


def test_tensors_without_a_rank_stop_channels():
    def unknown():
        x = relu_layer = tf.layers.dense(models.some(2, 4), 8)
        shape = tf.placeholder(tf.int32, [None])
        return [tf.reduce_sum(tf.reshape(x, shape)), relu_layer]

    _, _, channels = built(unknown)
    assert all("Reshape" in channels.frozen[g] for g in channels.of("dense/kernel", 1))
