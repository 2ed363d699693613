"""Which variables share which channel groups, by hand."""
import tensorflow.compat.v1 as tf

from ec_estimator.channels.groups import find_channels
from tests.channels import conv_models, other_models, published_models, variable_models
from tests.channels.net import built
from tests.channels.parts import some, weights


def groups_of(build, *variables):
    """Groups of (variable, axis) pairs."""
    _, _, channels = built(build)
    return [channels.of(name, axis).tolist() for name, axis in variables]


def test_two_dense_layers_have_a_group_for_each_channel_between_them():
    _, _, channels = built(other_models.dense)
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
    _, _, channels = built(other_models.dense)
    reading = channels.readings[1]
    assert (reading.op, reading.index, reading.axis) == ("dense_1/MatMul", 1, -2)
    assert reading.groups.tolist() == channels.of("dense/kernel", 1).tolist()
    _, _, channels = built(other_models.kernel_on_the_left)
    sides = [(r.op, r.index, r.axis) for r in channels.readings]
    assert sides == [("MatMul", 0, -1), ("MatMul_1", 0, -2), ("MatMul_2", 1, -2)]
    _, _, channels = built(conv_models.transposed_to_skip)
    (reading,) = [r for r in channels.readings if r.op == "conv2d_transpose"]
    assert (reading.index, reading.axis, len(reading.groups)) == (1, 3, 8)


def test_a_flatten_repeats_its_channels():
    a, b = groups_of(
        published_models.vgg_flatten, ("conv2d_1/kernel", 3), ("dense/kernel", 0)
    )
    assert b == 16 * a


def test_a_depthwise_multiplier_repeats_each_channel():
    a, b = groups_of(
        published_models.multiplier_2, ("conv2d/kernel", 3), ("conv2d_1/kernel", 2)
    )
    assert b == [group for group in a for _ in range(2)]


def test_a_concat_joins_channels():
    a, b, c = groups_of(
        published_models.unet,
        ("conv2d_transpose/kernel", 2),
        ("conv2d_1/kernel", 3),
        ("conv2d_3/kernel", 2),
    )
    assert c == a + b


def test_zeros_beside_channels_go_with_them():
    a, b = groups_of(
        conv_models.option_a_shortcut_unknown_batch,
        ("conv2d/kernel", 3),
        ("conv2d_2/kernel", 3),
    )
    assert b == a + a


def test_all_parts_of_a_kernel_are_read_and_produce():
    _, _, channels = built(variable_models.partitioned_outputs)
    parts = ["b/part_0", "b/part_1", "b/part_2"]
    assert {name: channels.readers[name] for name in parts} == {n: (0,) for n in parts}
    assert {channels.producers[n] for n in parts} == {(1,)}
    _, _, channels = built(variable_models.partitioned_inputs)
    parts = ["dense_1/kernel/part_0", "dense_1/kernel/part_1"]
    assert all(
        channels.readers[name] == channels.producers[name][:0] + (0,) for name in parts
    )
    assert all(channels.producers[name] == (1,) for name in parts)
    _, _, channels = built(variable_models.summed_weights)
    assert channels.readers["a"] == channels.readers["b"] == (0,)


def test_a_tied_kernel_is_read_along_both_axes():
    _, _, channels = built(other_models.tied_autoencoder)
    assert channels.readers["w"] == channels.producers["w"] == (0, 1)


def test_a_vocabulary_has_no_channels():
    _, _, channels = built(other_models.wide_and_deep)
    assert channels.axes["embedding"][0] is None
    assert len(channels.axes["embedding"][1]) == 6
    assert all("Gather" in channels.frozen[g] for g in channels.of("embedding", 1))


def test_of_a_transformer_only_the_feed_forward_part_can_go():
    _, _, channels = built(other_models.transformer)
    kernels = ["", "_1", "_2", "_3", "_5"]
    for kernel in kernels:
        groups = channels.of(f"layer_0/dense{kernel}/kernel", 1)
        assert all(group in channels.frozen for group in groups)
    hidden = channels.of("layer_0/dense_4/kernel", 1)
    assert not any(group in channels.frozen for group in hidden)
    # Heads are split off by a Reshape; the residual stream starts at a lookup.
    assert "Reshape" in channels.frozen[channels.of("layer_0/dense/kernel", 1)[0]]
    assert "Gather" in channels.frozen[channels.of("layer_0/dense_3/kernel", 1)[0]]


def test_what_nothing_reads_cannot_be_pruned():
    _, _, channels = built(lambda: tf.reduce_sum(other_models.dense(), 0)[None])
    assert len(channels.prunable()) == 8
    assert not set(channels.of("dense_1/kernel", 1)) & set(channels.prunable())


def test_a_loss_is_walked_and_freezes_nothing_by_itself():
    with tf.Graph().as_default() as graph:
        x = some(2, 4)
        hidden = tf.layers.dense(x, 8, name="hidden")
        served = tf.layers.dense(hidden, 3)
        auxiliary = tf.layers.dense(hidden, 2, name="auxiliary")
        loss = tf.reduce_mean(served) + tf.reduce_mean(auxiliary)
    assert "auxiliary/kernel" not in find_channels(graph, [served]).axes
    channels = find_channels(graph, [served], [loss])
    assert channels.readers["auxiliary/kernel"] == (0,)
    assert len(channels.prunable()) == 8


def test_a_model_without_layers_has_nothing_to_prune():
    _, _, channels = built(lambda: some(2, 3) + weights("b", 3))
    assert channels.prunable().tolist() == []
    assert channels.readers == channels.producers == {}
    _, _, channels = built(lambda: some(2, 3) * 2.0)
    assert channels.axes == {}


def test_tensors_without_a_rank_stop_channels():
    def unknown():
        x = relu_layer = tf.layers.dense(some(2, 4), 8)
        shape = tf.placeholder(tf.int32, [None])
        return [tf.reduce_sum(tf.reshape(x, shape)), relu_layer]

    _, _, channels = built(unknown)
    assert all("Reshape" in channels.frozen[g] for g in channels.of("dense/kernel", 1))
