"""How much the loss depends on each group of channels: Taylor importance.

With a gate g_c on channel c, a layer with kernel W that reads the channel has

    dL/dg_c = sum over the slice of W that c is multiplied with of W * dL/dW

so the exact derivative costs one product and one sum over the weights, and nothing that
is as large as activations. The importance of a group is the square of the sum over all
its readers, averaged over the training steps:

    I_c = alpha * I_c + (1 - alpha) * (sum over readers of dL/dg_c) ** 2

L is the user's loss: a variable that it is multiplied with before gradients are taken,
so that they do not vanish in float16, is divided away, and a step whose gradients are
not finite counts for nothing. An optimizer with a dynamic loss scale skips it.

Source: Molchanov et al. 2019, arXiv 1906.10771, equation 8.
"""
import tensorflow.compat.v1 as tf

from ec_estimator.core.ranks import gradient_of_ranks
from ec_estimator.core.roles import runs_trials
from ec_estimator.core.state import create_variable, is_state
from ec_estimator.graph.op_types import APPLIES, ASSIGNMENTS, SENDS_GRADIENTS
from ec_estimator.graph.walk import ancestors, descendants
from ec_estimator.pruning.loss_scale import gradients_of_scaled_losses, unscaled
from ec_estimator.rewrite.edges import leave_branches

# Weights that are multiplied at a time: a quarter of a megabyte.
_BLOCK = 2**16


class Importance:
    """The importance of the groups of a graph; a variable, so in the checkpoint.

    Args:
      count: number of groups.
      ema_alpha: in (0, 1).
    """

    def __init__(self, count, ema_alpha):
        self._count = count
        self._alpha = ema_alpha
        self.average = create_variable("pruning/importance", [count], tf.float32, 0)
        self._shares = []
        # {op that a kernel is computed from: the shares that read it}.
        self._readers = {}
        # {(layer op, index), losses of a call}: a gradient that user code takes twice,
        # to look at its norm, is one.
        self._observed, self._counted = set(), set()

    @property
    def is_known(self):
        """Whether any layer's gradient was seen."""
        return bool(self._shares)

    def observe(self, forward, readings):
        """Has layers' shares come in when their gradients are taken.

        Args:
          forward: core.compressor.Forward.
          readings: [(channels.groups.Reading, [size of its axis] group of each channel,
            -1 for those that always stay)].
        """
        if not runs_trials(forward.graph):
            return
        self._call, self._losses = forward.call, forward.losses
        for reading, groups in readings:
            place = reading.op, reading.index
            if place not in self._observed and (groups >= 0).any():
                self._observed.add(place)
                op = forward.graph.get_operation_by_name(reading.op)
                forward.observe(op, reading.index, self._receiver(reading, groups))

    def _receiver(self, reading, groups):
        def receive(kernel, gradient):
            key = reading.op, reading.index, self._call
            if key not in self._counted or not self._call:
                self._counted.add(key)
                self._add(kernel, gradient, reading.axis, groups)

        return receive

    def _add(self, kernel, gradient, axis, groups):
        """Adds a layer's share of dL/dg.

        Args:
          kernel, gradient: tensors of one shape.
          axis: of the kernel's input channels.
          groups: as in `observe`.
        """
        with tf.name_scope("ec_estimator/pruning/importance_ops/"):
            share = _sum_of_products(kernel, gradient, axis)
            share = leave_branches(share, kernel.op)
            share = unscaled(share, self._taken(kernel))
            for op in ancestors([kernel]):
                self._readers.setdefault(op.name, []).append(share)
            # Negative segment numbers are dropped.
            share = tf.math.unsorted_segment_sum(share, groups, self._count)
        self._shares.append((gradient, share))

    def _taken(self, kernel):
        """The losses whose gradient the kernel's is."""
        if self._call:
            return [loss for loss in self._losses if loss.name in self._call]
        reached = descendants([kernel.op])
        return [loss for loss in self._losses if loss.op in reached]

    def before_update(self, variable_name):
        """Context for an update of a variable: shares read the weights that their
        gradients belong to, and a reference variable changes in place."""
        return tf.control_dependencies(self._readers.get(variable_name, []))

    def update(self, graph):
        """Ops that take a training step into the average.

        What user code takes gradients for without training on them, such as a norm to
        look at, does not count.

        Args:
          graph: complete, with all that writes its variables.
        """
        if not self._shares:
            return []
        trains = ancestors(
            tensor
            for op in graph.get_operations()
            if op.type in (*ASSIGNMENTS, *SENDS_GRADIENTS)
            or op.type.startswith(APPLIES)
            if not is_state(op.name)
            for tensor in op.inputs
        )
        shares = [share for gradient, share in self._shares if gradient.op in trains]
        # Gradients may be all that a graph is for: others apply them.
        shares = shares or [share for _, share in self._shares]
        total = gradient_of_ranks(tf.add_n(shares))
        average = self._alpha * self.average + (1 - self._alpha) * tf.square(total)
        checked = [total, *shares, *gradients_of_scaled_losses(graph)]
        is_finite = tf.reduce_all([tf.reduce_all(tf.is_finite(t)) for t in checked])
        kept = tf.where_v2(is_finite, average, self.average)
        return [self.average.assign(kept).op]


def _sum_of_products(kernel, gradient, axis):
    """sum of kernel * gradient over all axes but one, float32 `[size of the axis]`.

    Large kernels in blocks of rows, which TensorFlow takes out without a copy: products
    that fit a core's cache need not go through memory.
    """
    axis %= kernel.shape.rank
    axes = [a for a in range(kernel.shape.rank) if a != axis]
    rows = kernel.shape[0].value
    blocks = max(1, min(rows, kernel.shape.num_elements() // _BLOCK))
    while rows % blocks:
        blocks -= 1
    sums = [
        tf.reduce_sum(tf.cast(w * g, tf.float32), axes)
        for w, g in zip(tf.split(kernel, blocks), tf.split(gradient, blocks))
    ]
    return tf.concat(sums, 0) if axis == 0 else tf.add_n(sums)
