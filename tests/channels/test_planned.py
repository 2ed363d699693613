"""What a training graph has beside the graph that predicts, in the plan's numbers."""
import tensorflow.compat.v1 as tf

from ec_estimator.channels.groups import find_channels
from ec_estimator.channels.planned import planned_channels
from ec_estimator.graph.backward_pass import backward_ops


def trunk():
    """Groups 4..8: the five channels that dense layer a makes and b reads."""
    x = tf.placeholder(tf.float32, [2, 4])
    h = tf.layers.dense(x, 5, use_bias=False, name="a")
    return h, tf.layers.dense(h, 3, use_bias=False, name="b")


def plan():
    with tf.Graph().as_default() as graph:
        channels = find_channels(graph, [trunk()[1]])
    assert channels.of("a/kernel", 1).tolist() == [4, 5, 6, 7, 8]
    return channels


def found(build, backward=False):
    """Planned of a graph with the trunk and what `build` adds to its loss."""
    known = plan()
    with tf.Graph().as_default() as graph:
        h, y = trunk()
        loss = tf.reduce_sum(y) + build(h)
        ops = backward_ops(graph).values() if backward else ()
        return planned_channels(
            graph, [loss], known, frozenset(op for each in ops for op in each)
        )


def axes(planned, name):
    return [None if a is None else a.tolist() for a in planned.axes[name]]


def test_a_head_reads_the_trunks_channels_and_keeps_its_own():
    def head(h):
        h = tf.layers.dense(h, 2, name="hidden")
        return tf.reduce_sum(tf.layers.dense(h, 1, name="out"))

    planned = found(head)
    assert axes(planned, "hidden/kernel") == [[4, 5, 6, 7, 8], [-1, -1]]
    assert axes(planned, "hidden/bias") == [[-1, -1]]
    assert axes(planned, "out/kernel") == [[-1, -1], [-1]]
    assert planned.readers["hidden/kernel"] == (0,)
    assert {reading.op for reading in planned.readings} == {
        *("a/MatMul", "b/MatMul", "hidden/MatMul", "out/MatMul")
    }


def test_an_unknown_op_only_hides_what_lies_behind_it():
    def head(h):
        scores = tf.layers.dense(tf.nn.softmax(h), 2, name="hidden")
        return tf.reduce_sum(tf.layers.dense(h, 2, name="free") + scores)

    planned = found(head)
    assert axes(planned, "hidden/kernel")[0] == [-1] * 5
    assert axes(planned, "free/kernel")[0] == [4, 5, 6, 7, 8]
    assert axes(planned, "a/kernel")[1] == [4, 5, 6, 7, 8]


def test_what_training_ties_together_stays_apart_and_its_reader_belongs_to_neither():
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [2, 4])
        one, two = (tf.layers.dense(x, 2, name=n, use_bias=False) for n in "uv")
        read = [
            tf.layers.dense(one, 3, name="p", use_bias=False),
            tf.layers.dense(two, 3, name="q", use_bias=False),
        ]
        known = find_channels(graph, read)
        z = tf.layers.dense(one + two, 1, name="z", use_bias=False)
        planned = planned_channels(graph, [tf.reduce_sum(t) for t in read + [z]], known)
    assert axes(planned, "z/kernel") == [[-1, -1], [-1]]
    assert axes(planned, "u/kernel") == [
        known.of("u/kernel", a).tolist() for a in (0, 1)
    ]
    assert axes(planned, "v/kernel") == [
        known.of("v/kernel", a).tolist() for a in (0, 1)
    ]
    readings = {r.op: r.groups.tolist() for r in planned.readings}
    assert readings["p/MatMul"] == known.of("u/kernel", 1).tolist()
    assert readings["q/MatMul"] == known.of("v/kernel", 1).tolist()


def test_moving_statistics_and_averages_have_the_channels_of_what_they_follow():
    def head(h):
        h = tf.layers.batch_normalization(h, training=True, name="bn")
        average = tf.train.ExponentialMovingAverage(0.9)
        average.apply(tf.trainable_variables())
        return tf.reduce_sum(h)

    planned = found(head)
    channels = [4, 5, 6, 7, 8]
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        assert axes(planned, f"bn/{name}") == [channels]
    assert axes(planned, "a/kernel/ExponentialMovingAverage")[1] == channels
    assert axes(planned, "b/kernel/ExponentialMovingAverage")[0] == channels
    assert axes(planned, "bn/gamma/ExponentialMovingAverage") == [channels]


def test_resource_variables_follow_as_well():
    def head(h):
        seen = tf.get_variable("seen", [5], use_resource=True, trainable=False)
        with tf.control_dependencies([tf.assign_add(seen, tf.reduce_mean(h, 0))]):
            return tf.constant(0.0)

    assert axes(found(head), "seen") == [[4, 5, 6, 7, 8]]


def test_initial_values_bind_nothing():
    def head(h):
        (kernel,) = [v for v in tf.global_variables() if v.op.name == "b/kernel"]
        # A layer of its own that starts from another one's kernel.
        own = tf.Variable(kernel.initialized_value(), name="own")
        return tf.reduce_sum(tf.matmul(tf.ones([1, 5]) * 2.0, own))

    assert axes(found(head), "own")[0] == [-1] * 5


def test_a_reader_outside_of_the_loss_is_found_but_is_no_reading():
    def head(h):
        tf.layers.dense(h, 2, name="watched")
        return tf.constant(0.0)

    planned = found(head)
    assert axes(planned, "watched/kernel")[0] == [4, 5, 6, 7, 8]
    assert planned.readers["watched/kernel"] == (0,)
    assert "watched/MatMul" not in {reading.op for reading in planned.readings}


def test_what_is_computed_from_gradients_follows_nothing():
    def head(h):
        kernel = tf.trainable_variables()[0]
        (gradient,) = tf.gradients(tf.reduce_sum(tf.square(h)), [kernel])
        total = tf.get_variable("total", kernel.shape, trainable=False)
        tf.assign_add(total, gradient * kernel)
        return tf.constant(0.0)

    assert axes(found(head, backward=True), "total") == [[-1] * 4, [-1] * 5]


def test_a_kernel_that_training_reads_the_other_way_round_too_is_read_on_both_axes():
    def head(h):
        (kernel,) = [v for v in tf.trainable_variables() if v.op.name == "a/kernel"]
        return tf.reduce_sum(tf.matmul(h, kernel, transpose_b=True))

    assert plan().readers["a/kernel"] == (0,)
    assert found(head).readers["a/kernel"] == (0, 1)


def test_a_table_has_no_channels_on_its_first_axis():
    def head(h):
        table = tf.get_variable("table", [9, 5])
        rows = tf.gather(table, [1, 3])
        return tf.reduce_sum(tf.matmul(h, rows, transpose_b=True))

    assert axes(found(head), "table") == [None, [4, 5, 6, 7, 8]]
