"""A model with weights, from which channel groups are taken away.

Removing a group means that its readers are masked; then whatever else belongs to the
group may hold any values, and the model must not change.
"""
import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.channels.groups import find_channels
from tests.models import ONE_THREAD


def built(build):
    """(graph, outputs, channels) of a model in a graph of its own."""
    tf.keras.backend.clear_session()
    with tf.Graph().as_default() as graph:
        outputs = build()
    outputs = outputs if isinstance(outputs, list) else [outputs]
    return graph, outputs, find_channels(graph, outputs)


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
