"""What the door's tests share: gates, and gradients in front of it and behind it."""
import contextlib
import zlib

import numpy as np
import tensorflow.compat.v1 as tf

from tests.models import ONE_THREAD
from tests.rewrite.door import gated_reads


def identity_gate(name, gradient):
    return gradient


def mask_of(name, shape):
    """0 or 1; all 1 for what is no kernel."""
    if len(shape) < 2:
        return np.ones(shape, np.float32)
    random = np.random.RandomState(zlib.crc32(name.encode()) % 2**32)
    return random.randint(0, 2, shape).astype(np.float32)


def masking_gate(name, gradient):
    """Leaves what is no kernel alone, as a compressor does."""
    if gradient.shape.ndims < 2:
        return gradient
    return gradient * mask_of(name, gradient.shape.as_list())


@contextlib.contextmanager
def fresh_graph(gate):
    """A graph with a seed; behind the door, unless `gate` is None."""
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(3)
        # Keras asks NumPy for the seeds of an LSTM's dropout.
        np.random.seed(3)
        if gate is None:
            yield graph
        else:
            with gated_reads(graph, gate):
                yield graph


def started():
    session = tf.Session(config=ONE_THREAD)
    session.run(tf.global_variables_initializer())
    return session


def gradients_of(build, gate):
    """Three dicts of NumPy values, for the first step from the first values.

    Returns:
      {name: value} and {name: gradient} of the trainable variables, and
      {tensor's name: gradient} of the input and the activations.
    """
    with fresh_graph(gate):
        network = build()
        variables = tf.trainable_variables()
        tensors = [network.x, *network.activations]
        gradients = tf.gradients(network.loss, variables + tensors)
        assert None not in gradients
        with started() as session:
            values = session.run([v.read_value() for v in variables])
            gradients = session.run(gradients)
    names = [v.op.name for v in variables]
    others = gradients[len(names) :]
    return (
        dict(zip(names, values)),
        dict(zip(names, gradients)),
        {t.name: gradient for t, gradient in zip(tensors, others)},
    )


def check_masked(build):
    """Gradients behind the door are mask x dense gradient, all others as they were."""
    dense_values, dense, dense_others = gradients_of(build, None)
    values, gated, others = gradients_of(build, masking_gate)
    assert list(gated) == list(dense) and list(others) == list(dense_others)
    masked = 0
    for name, gradient in dense.items():
        np.testing.assert_array_equal(values[name], dense_values[name], name)
        mask = mask_of(name, gradient.shape)
        if mask.all():
            np.testing.assert_array_equal(gated[name], gradient, name)
        else:
            np.testing.assert_allclose(
                gated[name], mask * gradient, rtol=1e-6, atol=0, err_msg=name
            )
            masked += np.any(gradient[mask == 0])
    for name, gradient in dense_others.items():
        assert np.any(gradient), name
        np.testing.assert_array_equal(others[name], gradient, name)
    # Else the gate had nothing to do.
    assert masked


def nodes(graph):
    """What a graph is, but for which function takes a gradient: list of NodeDefs."""
    found = []
    for op in graph.get_operations():
        node = tf.NodeDef()
        node.CopyFrom(op.node_def)
        node.attr.pop("_gradient_op_type", None)
        found.append(node)
    return found
