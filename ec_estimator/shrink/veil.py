"""Builds a small graph from code that sees, and counts on, the shapes of the whole one.

User code branches on static channel counts (slim's ResNet chooses its shortcut so),
computes with them and holds them as literals. While the small graph is built, the
tensors therefore show Python the static shapes of the whole model; TensorFlow itself
knows the small ones. Literals are cut where an op reads them.
"""
import contextlib
import functools
import threading

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_intercept, tf_private
from ec_estimator.core.replicas import replica_scope, variable_name

# What fits the output of an op `x` to its readers is called `x/kept/...`.
_SCOPE = "kept"


class Veil:
    """The veil over one graph.

    Args:
      graph: the tf.Graph that the small model is built in.
      cut: shrink.cut.Cut of the whole model's graph.
      shapes: {op name: static shape of each output, as it was when the op was made in
        the whole graph}.
    """

    def __init__(self, graph, cut, shapes):
        self._graph = graph
        # Replicas have veils of their own, over one graph.
        self._thread, self._replica = threading.get_ident(), replica_scope(graph)
        self._cut = cut
        self._shapes = shapes
        self._is_worn = False
        # Ops that fit a tensor to what reads it.
        self.added = set()
        self._is_adding = False
        self._taken = _names_and_scopes(shapes)
        # {tensor: shape that is shown}, and (variable, true shape, shape shown).
        self._covered = {}
        self._variables = []

    @property
    def is_worn(self):
        return self._is_worn

    @contextlib.contextmanager
    def worn(self):
        """Context in which the forward pass is built."""
        with tf_intercept.intercept_creation(self._graph, self._create):
            self._is_worn = True
            try:
                yield
            finally:
                self.lift()

    def lift(self):
        """Shows the true shapes from here on, as gradients and slots need them."""
        if not self._is_worn:
            return
        self._is_worn = False
        for tensor in self._covered:
            tf_private.show_true_shape(tensor)
        for variable, shape, _ in self._variables:
            tf_private.show_variable_shape(variable, shape)

    @contextlib.contextmanager
    def lifted(self):
        """Context with true shapes, for gradients that are part of the forward pass."""
        if not self._is_worn:
            yield
            return
        shown = {tensor: tensor.shape for tensor in self._covered}
        self.lift()
        try:
            yield
        finally:
            self._is_worn = True
            for tensor, shape in shown.items():
                self._show(tensor, self._covered[tensor], shape)
            for variable, _, shape in self._variables:
                tf_private.show_variable_shape(variable, shape)

    @contextlib.contextmanager
    def variables_shown(self):
        """Context with the shown shapes of variables alone, inside of `lifted`."""
        for variable, _, shape in self._variables:
            tf_private.show_variable_shape(variable, shape)
        try:
            yield
        finally:
            for variable, shape, _ in self._variables:
                tf_private.show_variable_shape(variable, shape)

    def cover_variable(self, variable):
        """A resource variable remembers its shape by itself."""
        twin = self._twin(variable_name(variable.op), variable.op.type)
        if twin is not None:
            shown = tf.TensorShape(twin.get_attr("shape"))
            self._variables.append((variable, variable.shape, shown))
            tf_private.show_variable_shape(variable, shown)

    def covers(self, name):
        """Whether a variable, or a part of it, was made under the veil."""
        names = (name, f"{name}/part_0")
        return any(variable.op.name in names for variable, _, _ in self._variables)

    def _twin(self, name, op_type):
        """The op of the whole graph that an op of the small one corresponds to."""
        op = self._cut.operation(name) if self._is_worn else None
        return op if op is not None and op.type == op_type else None

    def _create(self, make, op_type, inputs, name):
        if threading.get_ident() != self._thread:
            return make(inputs)
        if self._is_adding:
            op = make(inputs)
            self.added.add(op)
            return op
        if name.startswith(self._replica):
            name = name[len(self._replica) :]
        twin = self._twin(name, op_type)
        if twin is None or len(twin.inputs) != len(inputs):
            return make(inputs)
        op = make([self._fit(twin, i, tensor) for i, tensor in enumerate(inputs)])
        for tensor, its, shape in zip(op.outputs, twin.outputs, self._shapes[name]):
            axes = self._cut.axes(its)
            # What a resource's handle refers to has axes, the handle has none.
            if shape.rank == len(axes) and any(alive is not None for alive in axes):
                self._covered[tensor] = axes
                self._show(tensor, axes, shape)
        return op

    def _show(self, tensor, axes, shape):
        tf_private.show_shape(
            tensor, shape, functools.partial(_set_shape, tensor, axes)
        )

    def _fit(self, twin, index, tensor):
        """An input as the small op must read it."""
        sizes = self._cut.operand_sizes(twin, index)
        if sizes:
            with self._beside(tensor):
                return _replaced(tensor, sizes)
        wanted = self._cut.fitted_axes(twin, index)
        if all(alive is None for alive in wanted):
            return tensor
        actual = tf_private.true_shape(tensor)
        if actual.rank is None:
            return tensor
        positions = [
            np.nonzero(alive)[0] if alive is not None and len(alive) == size else None
            for alive, size in zip(wanted, actual.as_list())
        ]
        if all(chosen is None for chosen in positions):
            return tensor
        with self._beside(tensor):
            return _sliced(tensor, positions)

    @contextlib.contextmanager
    def _beside(self, tensor):
        """Ops made inside run where, and only if, the tensor's op runs."""
        scope = self._free_scope(f"{tensor.op.name}/{_SCOPE}")
        with tf_private.context_of_outputs(tensor.op), tf.name_scope(None):
            with tf.name_scope(scope):
                self._is_adding = True
                try:
                    yield
                finally:
                    self._is_adding = False

    def _free_scope(self, wanted):
        """A name that no op or scope of the whole network will ask for."""
        name, count = wanted, 0
        while name.lower() in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name.lower())
        return name


def _names_and_scopes(names):
    """Names of ops and of all scopes around them, as TensorFlow compares them."""
    taken = set()
    for name in names:
        parts = name.lower().split("/")
        taken.update("/".join(parts[:n]) for n in range(1, len(parts) + 1))
    return taken


def _set_shape(tensor, axes, shape):
    """Tensor.set_shape under the veil: TensorFlow gets what it says of axes not cut."""
    shape = tf.TensorShape(shape)
    if shape.rank is None:
        return
    tf_private.show_shape(tensor, tensor.shape.merge_with(shape), tensor.set_shape)
    sizes = [
        n if alive is None else np.count_nonzero(alive)
        for n, alive in zip(shape.as_list(), axes)
    ]
    tf_private.set_true_shape(tensor, sizes)


def _sliced(tensor, positions):
    """The given positions of each axis; None: all."""
    if tensor.op.type == "Const":
        value = tf.make_ndarray(tensor.op.get_attr("value"))
        for axis, chosen in enumerate(positions):
            if chosen is not None:
                value = np.take(value, chosen, axis)
        return tf.constant(value)
    for axis, chosen in enumerate(positions):
        if chosen is not None:
            tensor = tf.gather(tensor, chosen, axis=axis)
    return tensor


def _replaced(operand, sizes):
    """A shape operand with some of its elements replaced.

    Args:
      sizes: {position: size}.
    """
    if operand.op.type == "Const":
        value = tf.make_ndarray(operand.op.get_attr("value")).copy()
        value[list(sizes)] = list(sizes.values())
        return tf.constant(value)
    # A Pack of scalars: TensorFlow infers static sizes through it.
    rank = tf_private.true_shape(operand).as_list()[0]
    elements = [
        tf.constant(sizes[n], operand.dtype) if n in sizes else operand[n]
        for n in range(rank)
    ]
    return tf.stack(elements)
