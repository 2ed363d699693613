"""The table of op kinds, where tables of single modules once disagreed."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.channels.groups import find_channels
from ec_estimator.graph import op_types, walk
from ec_estimator.graph.layers import find_layers


def all_types():
    for name, table in vars(op_types).items():
        if name.isupper() and name not in ("FEEDS", "APPLIES", "SPARSE_APPLIES"):
            yield from ((name, op_type) for op_type in table)


# Of Google's own servers: nobody else's TensorFlow makes it, graphs may hold it.
@pytest.mark.parametrize(
    "name,op_type", [pair for pair in all_types() if pair[1] != "AutoReloadVariable"]
)
def test_every_type_is_one_of_tensorflows(name, op_type):
    assert hasattr(tf.raw_ops, op_type), name


def reference(shape=(4, 6)):
    return tf.get_variable("w", shape, use_resource=False)


def resource(shape=(4, 6)):
    return tf.get_variable("w", shape, use_resource=True)


def in_a_conditional(read):
    """What read() gives inside tf.cond."""
    found = []

    def branch():
        found.append(read())
        return tf.reduce_sum(found[0])

    tf.cond(tf.placeholder(tf.bool, []), branch, lambda: 0.0)
    return found[0]


def in_a_loop(read):
    found = []

    def body(total):
        found.append(read())
        return total + tf.reduce_sum(found[0])

    tf.while_loop(lambda total: total < 1.0, body, [0.0])
    return found[0]


def outside(read):
    return read()


PLACES = [outside, in_a_conditional, in_a_loop]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("make", [reference, resource])
def test_from_what_is_read_back_to_the_variable(make, place):
    with tf.Graph().as_default():
        w = make()
        assert walk.origin(place(w.read_value)) is w.op
        assert walk.origin(place(lambda: tf.identity(w))) is w.op


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("make", [reference, resource])
def test_from_the_variable_to_what_is_read(make, place):
    with tf.Graph().as_default():
        w = make()
        read = place(w.read_value)
        found = [t.op for t in walk.values(w.op)]
        names = {op.name for op in found}
        source = read.op
        # An Identity of the value may be the last step: what is before it counts.
        while source.name not in names and source.type == "Identity":
            source = source.inputs[0].op
        assert source.name in names
        assert all(not walk.is_alias(tensor) for tensor in walk.values(w.op))


def test_a_reference_kernel_that_is_read_inside_a_conditional_is_found():
    def product():
        return tf.matmul(tf.ones([2, 4]), w.read_value())

    with tf.Graph().as_default() as graph:
        w = reference()
        in_a_conditional(product)
        (layer,) = find_layers(graph)
    # On the way from VariableV2 is a RefSwitch.
    assert layer.kernel is not None, layer.reason
    assert layer.kernel.parts == ("w",)


def test_a_fake_quantized_kernel_is_found_whatever_says_its_range():
    with tf.Graph().as_default() as graph:
        w = tf.quantization.fake_quant_with_min_max_args(reference())
        tf.matmul(tf.ones([2, 4]), w)
        (layer,) = find_layers(graph)
    assert layer.kernel.parts == ("w",)


def numbers(*shape):
    return tf.zeros(shape, tf.int32)


LOOKUPS = {
    "gather": lambda w: tf.gather(w, numbers(3)),
    "gather_nd": lambda w: tf.gather_nd(w, numbers(3, 1)),
    "in float16": lambda w: tf.gather(tf.cast(w, tf.float16), numbers(3)),
    "conditional": lambda w: in_a_conditional(
        lambda: tf.gather(w.read_value(), numbers(3))
    ),
    "segments": lambda w: tf.sparse.segment_sum(w, numbers(3), numbers(3)),
}


@pytest.mark.parametrize("make", [reference, resource])
@pytest.mark.parametrize("lookup", LOOKUPS)
def test_a_table_is_one_however_it_is_looked_up(make, lookup):
    with tf.Graph().as_default() as graph:
        w = make()
        assert not walk.is_looked_up(w.op)
        rows = LOOKUPS[lookup](w)
        assert walk.is_looked_up(w.op)
        # A vocabulary has no channels.
        channels = find_channels(graph, [rows])
    assert channels.axes["w"][0] is None
    assert len(channels.axes["w"][1]) == 6


def test_a_gathered_activation_makes_no_table():
    with tf.Graph().as_default():
        w = reference()
        tf.gather(tf.matmul(tf.ones([2, 4]), w), numbers(1))
        assert not walk.is_looked_up(w.op)


def test_resource_variables_gather_nd_takes_the_handle():
    with tf.Graph().as_default():
        w = resource()
        assert w.gather_nd(numbers(3, 1)).op.inputs[0].op.type == "ResourceGatherNd"
        assert walk.is_looked_up(w.op)


def test_values_are_those_of_the_variable():
    with tf.Graph().as_default(), tf.Session() as session:
        value = np.arange(6, dtype=np.float32)
        w = tf.get_variable("w", initializer=value, use_resource=True)
        tf.identity(w)
        session.run(w.initializer)
        found = session.run(walk.values(w.op))
    assert found
    for read in found:
        np.testing.assert_array_equal(read, value)
