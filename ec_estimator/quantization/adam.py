"""The training of step sizes: an Adam of ours, in the log domain."""
import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.core.devices import beside, task_of
from ec_estimator.core.ranks import gradient_of_ranks
from ec_estimator.core.state import create_variable
from ec_estimator.quantization.constants import constant
from ec_estimator.rewrite import accumulators
from ec_estimator.rewrite.edges import leave_branches

# Relative change of a step size in a training step: Adam's own default.
RATE = 1e-3
_BETA1, _BETA2 = 0.9, 0.999
# Adam has 1e-8, for gradients of weights; a step size may have far smaller ones.
_EPSILON = 1e-12
# Over any gradients |m| <= 7.27 sqrt(v), by Cauchy and Schwarz.
_RATIO = 1.01 * (1 - _BETA1) / np.sqrt((1 - _BETA2) * (1 - _BETA1**2 / _BETA2))


class StepAdam:
    """Moves the step sizes of all quantizers, as part of the train_op.

        g = s * dL/ds, the gradient of log s; of several ranks that of all of them
        m = 0.9 * m + 0.1 * g,  v = 0.999 * v + 0.001 * g^2,  n = n + 1
        log s -= RATE * m / (1 - 0.9^n) / (sqrt(v / (1 - 0.999^n)) + 1e-12)

    Relative to its size a step moves alike under any optimizer of the user's, at any
    width, and whatever the loss is multiplied by. One that is not fitted yet, which is
    0, stays; so does one that gets no gradient. A training step whose gradients are not
    finite, which a loss scale skips, changes nothing.

    m, v: `[K]`, of all step sizes one after the other, scalars first; count: n.
    Resource variables, as step sizes are: a read is not changed by a later write, so
    that no order of ops has to be kept.

    Args:
      steps: {quantizer name: variable of its step sizes}, some of them scalars.

    Source: Jain et al. 2020, arXiv 1903.08066, section 3.2 (log domain, Adam); Kingma
      and Ba 2015, arXiv 1412.6980, algorithm 1.
    """

    def __init__(self, steps):
        # Scalars first: one op puts them together, and one takes them apart.
        self._steps = dict(sorted(steps.items(), key=lambda step: step[1].shape.rank))
        self._total = sum(step.shape.num_elements() for step in steps.values())
        self._scalars = sum(step.shape.rank == 0 for step in steps.values())
        self._m, self._v, self._count = (
            create_variable(
                f"quantization/adam/{name}", shape, dtype, 0, use_resource=True
            )
            for name, shape, dtype in (
                ("m", [self._total], tf.float32),
                ("v", [self._total], tf.float32),
                ("count", [], tf.int64),
            )
        )

    @property
    def start(self):
        """{variable: its value} where training begins, or begins anew."""
        zeros = np.zeros(self._total, np.float32)
        return {self._m: zeros, self._v: zeros, self._count: 0}

    def update(self, reads, gradients):
        """Ops that take a training step.

        Args:
          reads: {quantizer name: its step sizes as the forward pass has read them}.
          gradients: {quantizer name: [dL/ds, one for each call of tf.gradients]}.
        """
        sums = {name: _sum(found) for name, found in gradients.items()}
        sums = {name: total for name, total in sums.items() if total is not None}
        if not sums:
            return []
        with beside(self._m):
            step = self._flat(reads, reads)
        self._send_together(reads, step)
        slope = gradient_of_ranks(step * self._flat(sums, sums))
        taken = accumulators.taken(slope.graph)
        if taken:
            return [self._averaged_step(slope, taken[0], sums)]
        # On a cluster they are read when the gradient is there: a trial may have begun
        # anew since the step began.
        with beside(self._m):
            landed = tf.identity(slope)
            with tf.control_dependencies([landed]):
                return self._step(step, landed, sums)

    def _send_together(self, reads, flat):
        """Has a worker get all step sizes from their parameter server as one tensor,
        not each by a call of its own.

        Args:
          flat: of `reads`, where they are.
        """
        away = [
            (name, op, index)
            for name, read in reads.items()
            for op in read.consumers()
            for index, tensor in enumerate(op.inputs)
            if tensor is read and task_of(op.device) != task_of(read.device)
        ]
        if away:
            with tf.device(away[0][1].device):
                parts = self._parts(flat)
            for name, op, index in away:
                tf_private.replace_input(op, index, parts[name])

    def _averaged_step(self, slope, take, names):
        """Op that sends a worker's slope, for workers whose gradients are averaged: one
        step for all, with the mean, where each of their own would be many."""

        def update(mean):
            with tf.control_dependencies([mean]):
                now = {name: self._steps[name].read_value() for name in names}
                return self._step(self._flat(now, names), mean, names)

        with beside(self._m):
            return accumulators.average(slope, take, update)

    def _step(self, step, slope, names):
        # Of a value that is not finite every sum is.
        is_good = tf.math.is_finite(tf.reduce_sum(tf.abs(slope)))
        m_before, v_before = self._m.read_value(), self._v.read_value()
        m = _BETA1 * m_before + (1 - _BETA1) * slope
        v = _BETA2 * v_before + (1 - _BETA2) * tf.square(slope)
        # Another worker's m may be there before its v. A v of 0 would throw a step size
        # to 0 or infinity.
        v = tf.maximum(v, tf.square(m / _RATIO))
        count = self._count.read_value() + tf.cast(is_good, tf.int64)
        n = tf.cast(count, tf.float32)
        m_hat, v_hat = m / (1 - _BETA1**n), v / (1 - _BETA2**n)
        moved = -RATE * m_hat / (tf.sqrt(v_hat) + _EPSILON)
        change = tf.where(is_good, step * tf.math.expm1(moved), tf.zeros_like(step))
        ops = [
            self._m.assign(tf.where(is_good, m, m_before), read_value=False),
            self._v.assign(tf.where(is_good, v, v_before), read_value=False),
            self._count.assign(count, read_value=False),
        ]
        # Added, not assigned: on a parameter server a trial may have fitted a step
        # size since it was read here.
        parts = self._parts(change)
        ops += [self._steps[n].assign_add(parts[n], read_value=False) for n in names]
        return ops

    def _flat(self, values, names):
        """`[K]` of {quantizer name: tensor}, with zeros for those not among names."""
        each = [
            values[name] if name in names else constant(0.0, shape=step.shape.as_list())
            for name, step in self._steps.items()
        ]
        scalars, vectors = each[: self._scalars], each[self._scalars :]
        return tf.concat([tf.stack(scalars), *vectors], 0)

    def _parts(self, flat):
        """{quantizer name: its part} of what `_flat` makes."""
        steps = list(self._steps.values())
        sizes = [step.shape.num_elements() for step in steps[self._scalars :]]
        scalars, *vectors = tf.split(flat, [self._scalars, *sizes])
        return dict(zip(self._steps, [*tf.unstack(scalars), *vectors]))


def _sum(gradients):
    """The sum of those that have a value in each training step, or None."""
    gradients = [
        leave_branches(gradient, gradient.op)
        for gradient in gradients
        # Taken in a loop of the user's, they are many.
        if not tf_private.is_in_loop(gradient.op)
    ]
    return tf.add_n(gradients) if gradients else None
