"""Rules that users add: an op that freezes channels then hands them on."""
import re
from pathlib import Path

import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.channels.groups import find_channels
from ec_estimator.channels.rules import RULES
from tests import models
from tests.channels.net import Net, assert_removable
from tests.channels.parts import some
from tests.shrink.test_networks import check_predictions, check_training, prune

DOCUMENT = Path(__file__).parents[2] / "docs" / "channel-rules.md"


@pytest.fixture(autouse=True)
def rules_of_today():
    """Leaves the table of rules as it was."""
    before = dict(RULES)
    yield
    RULES.clear()
    RULES.update(before)


def documented():
    """Registers the rule for Cumsum in docs/channel-rules.md, as it stands there."""
    (code,) = re.findall(r"```python\n(@ec.*?)```", DOCUMENT.read_text(), re.DOTALL)
    names = {"ec": ec}
    exec(code, names)
    return names["cumulative_sum"]


def angle(flow, op):
    flow.put(op.outputs[0], flow.broadcast(op, list(op.inputs)))


def summed(axis=1):
    """Two dense layers, over the steps of a sequence, with a running sum between."""

    def build():
        h = tf.layers.dense(some(2, 7, 4), 6, tf.nn.relu, name="first")
        return tf.layers.dense(tf.cumsum(h, axis), 3, name="second")

    return build


def found(build):
    with tf.Graph().as_default() as graph:
        return find_channels(graph, [build()])


def why_frozen(channels, kernel="first/kernel"):
    """What froze each of the groups of a kernel's output channels."""
    return [channels.frozen.get(group) for group in channels.of(kernel, 1).tolist()]


def test_without_a_rule_an_op_freezes_what_it_reads():
    channels = found(summed())
    assert why_frozen(channels) == ["Cumsum 'Cumsum'"] * 6
    assert channels.prunable().tolist() == []


def test_with_a_rule_channels_pass_to_the_next_kernel():
    documented()
    channels = found(summed())
    groups = channels.of("first/kernel", 1).tolist()
    assert channels.of("second/kernel", 0).tolist() == groups
    assert channels.prunable().tolist() == groups and len(groups) == 6
    assert_removable(Net(summed()))


def test_a_rule_freezes_where_it_says_so():
    documented()
    assert why_frozen(found(summed(-1))) == ["Cumsum 'Cumsum'"] * 6


def test_a_rule_unites_what_it_broadcasts():
    @ec.channel_rule("Atan2")
    def rule(flow, op):
        angle(flow, op)

    def build():
        x = some(2, 4)
        a, b = (tf.layers.dense(x, 6, name=name) for name in ("a", "b"))
        return tf.layers.dense(tf.atan2(a, b), 3, name="out")

    channels = found(build)
    groups = channels.of("a/kernel", 1).tolist()
    assert channels.of("b/kernel", 1).tolist() == groups
    assert channels.of("out/kernel", 0).tolist() == groups
    assert channels.prunable().tolist() == groups
    assert_removable(Net(build))


def test_what_a_rule_forgets_is_frozen():
    @ec.channel_rule("Cumsum")
    def forgetful(flow, op):
        pass

    assert why_frozen(found(summed())) == ["Cumsum 'Cumsum'"] * 6


def test_one_branch_that_a_rule_forgets_is_frozen_and_the_other_passes():
    @ec.channel_rule("Atan2")
    def half(flow, op):
        flow.put(op.outputs[0], flow.axes(op.inputs[0]))

    def build():
        x = some(2, 4)
        a, b = (tf.layers.dense(x, 6, name=name) for name in ("a", "b"))
        return tf.layers.dense(tf.atan2(a, b, name="angle"), 3)

    channels = found(build)
    assert why_frozen(channels, "a/kernel") == [None] * 6
    assert why_frozen(channels, "b/kernel") == ["Atan2 'angle'"] * 6


def test_a_users_rule_replaces_an_earlier_one():
    ec.channel_rule("Lgamma", "Cumsum")(lambda flow, op: flow.freeze_all(op))
    documented()
    assert len(found(summed()).prunable()) == 6


@pytest.mark.parametrize(
    "op_types,message",
    [
        ((), r'no op type; write @ec.channel_rule\("MyOp"\)'),
        ((angle,), "angle.* is no op type"),
        (("",), "'' is no op type"),
        (("Cumsum", 3), "3 is no op type"),
        (("Relu",), "'Relu' has a rule of ec_estimator's"),
        (("VarHandleOp",), "'VarHandleOp' is a variable"),
    ],
)
def test_types_that_cannot_have_a_rule(op_types, message):
    before = dict(RULES)
    with pytest.raises(ec.ConfigError, match=message):
        ec.channel_rule(*op_types)
    assert RULES == before


def test_a_rule_is_returned_as_it_is():
    assert ec.channel_rule("MyOp", "MyOtherOp")(angle) is angle


def test_a_rule_is_a_function():
    with pytest.raises(ec.ConfigError, match=r"channel_rule\('MyOp'\): 3 is no func"):
        ec.channel_rule("MyOp")(3)


@pytest.mark.parametrize(
    "change,counts",
    [
        (lambda axes: axes[1:], r"\[None, 6\]"),
        (lambda axes: axes[:2] + [axes[2][:4]], r"\[None, None, 4\]"),
    ],
)
def test_labels_that_do_not_fit_the_shape(change, counts):
    @ec.channel_rule("Cumsum")
    def wrong(flow, op):
        flow.put(op.outputs[0], change(flow.axes(op.inputs[0])))

    message = f"rule for 'Cumsum' puts out labels {counts} for 'Cumsum:0' of shape"
    with pytest.raises(ec.ConfigError, match=message):
        found(summed())


def test_the_small_network_is_built_through_an_op_with_a_users_rule(tmp_path):
    documented()
    ec.channel_rule("Atan2")(angle)

    def network(x, training):
        h = tf.layers.dense(x, 8, tf.nn.relu, name="first")
        h = tf.cumsum(h, 1)
        h = tf.atan2(h, tf.layers.dense(x, 8, name="beside"))
        # A literal, so that the small network is built under the veil.
        h = tf.reshape(h, [-1, 5 * 8])
        return tf.layers.dense(h, models.CLASSES, name="logits")

    folder = str(tmp_path / "pruned")
    parts = prune(folder, network, (5, 4), 0.5)
    check_predictions(folder, *parts)
    check_training(folder, *parts)
    small = tf.train.load_checkpoint(folder + "_small")
    width = small.get_variable_to_shape_map()["first/kernel"][1]
    assert width < 8
    shapes = {
        name: small.get_variable_to_shape_map()[name]
        for name in ("first/kernel", "beside/kernel", "logits/kernel")
    }
    assert shapes == {
        "first/kernel": [4, width],
        "beside/kernel": [4, width],
        "logits/kernel": [5 * width, models.CLASSES],
    }
