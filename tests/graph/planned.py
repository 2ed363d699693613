"""Plans of small networks, for the tests of plans."""
import tensorflow.compat.v1 as tf

from ec_estimator.config import SparsifierConfig
from ec_estimator.graph.layers import find_layers
from ec_estimator.graph.plan import make_plan
from ec_estimator.sparsity.sparsifier import Sparsifier

ONE, TWO, HEAD = "tower/one/MatMul", "tower/two/MatMul", "head/MatMul"
TAKEN = "compressed"
NOTHING = {"sparsity": frozenset()}
TRAINS_ONLY = "only trains: the predictions do not read it"


class Second(Sparsifier):
    """A compressor beside the Sparsifier that takes convolutions only."""

    name = "second"

    def _refusal(self, layer):
        return "" if layer.op_type == "Conv2D" else "is no convolution"


def plan(network, *compressors, **config):
    """The plan of a network; it returns its predictions."""
    compressors = compressors or (Sparsifier(SparsifierConfig(**config)),)
    with tf.Graph().as_default() as graph:
        outputs = network()
    return make_plan("infer", graph, find_layers(graph), outputs, compressors)


def decisions(*args, **config):
    """{op: decision} of the only compressor."""
    return {row.op: row.decisions["sparsity"] for row in plan(*args, **config).layers}


def some(*shape):
    return tf.placeholder(tf.float32, shape, "x")


def towers():
    """tower/one and tower/two, then head; [2, 4] -> [2, 3]."""
    x = some(2, 4)
    with tf.variable_scope("tower"):
        x = tf.layers.dense(x, 8, name="one")
        x = tf.layers.dense(x, 8, name="two")
    return [tf.layers.dense(x, 3, name="head")]


def with_auxiliary_head():
    x = tf.layers.dense(some(2, 4), 8, name="trunk")
    tf.layers.dense(x, 3, name="auxiliary")
    return [tf.layers.dense(x, 3, name="head")]


def attention():
    x = tf.layers.dense(some(2, 3, 4), 4, name="query")
    return [tf.matmul(x, x, transpose_b=True, name="scores")]
