"""Channel groups, held against what networks compute.

The main test does not trust the analysis. Removing a group means that its readers are
masked; then whatever else belongs to the group may hold any values, and the model must
not change. And a network built without the group must compute the same.
"""
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import HealthCheck, given

from tests.channels import conv_models, other_models, published_models, variable_models
from tests.channels.channel_models import MODELS
from tests.channels.frozen_models import FROZEN, frozen_by
from tests.channels.net import Net, assert_removable, assert_same, built, names
from tests.channels.parts import conv, conv_bn, head, some
from tests.channels.random_models import RECIPES, network
from tests.properties import dear

# Their code names sizes (or, under Keras and with partitions, asks no getter for whole
# variables), so it does not build a smaller network by itself.
NAME_SIZES = {
    published_models.flatten_by_shape,
    published_models.flatten_literal,
    published_models.se_reshape,
    published_models.unet,
    conv_models.glu,
    conv_models.prelu,
    conv_models.option_a_shortcut,
    other_models.transformer,
    other_models.rank_3,
    other_models.rank_3_static,
    other_models.rank_3_all_unknown,
    published_models.keras_layers,
    variable_models.partitioned_inputs,
    variable_models.partitioned_outputs,
    # Moving statistics that nobody reads are not seen.
    conv_models.batch_norm_without_scale,
}
REBUILT = [build for build in MODELS if build not in NAME_SIZES]


@pytest.mark.parametrize("build", MODELS, ids=names)
def test_masked_readers_take_channels_away(build):
    net = Net(build)
    assert len(net.channels.prunable()) == MODELS[build]
    assert assert_removable(net)


@pytest.mark.parametrize("name", FROZEN)
def test_what_would_change_with_a_cut_is_frozen_and_the_op_is_named(name):
    change, op_type = FROZEN[name]
    net = Net(frozen_by(change))
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


def test_groups_of_a_model_that_does_not_run_on_a_cpu_are_those_counted_by_hand():
    _, _, channels = built(conv_models.nchw)
    assert len(channels.prunable()) == 6 + 8


def test_one_value_for_all_channels_is_frozen_and_they_are_not():
    def attention():
        x = conv_bn(some(2, 8, 8, 3), 6)
        return head(x * conv(x, 1, 1, name="attention"))

    net = Net(attention)
    (group,) = net.channels.of("attention/kernel", 3)
    assert "mul" in net.channels.frozen[group].lower()
    assert len(net.channels.prunable()) == 6
    assert assert_removable(net)
