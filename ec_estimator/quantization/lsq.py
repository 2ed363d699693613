"""LSQ's equations: real numbers become integers times a step size, and back."""
import dataclasses
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf

from ec_estimator.core.tf_workers import exchanged
from ec_estimator.quantization.constants import constant, vector

# TensorFlow's kernels divide by the step; no tensor of a network is this fine.
SMALLEST_STEP = 1e-12
_GRADIENT = "EcEstimatorStepSize"
_BY_COLUMNS = "EcEstimatorStepSizes"
_PASSED_ON = "EcEstimatorPassedOn"
_FITTED = "EcEstimatorFittedStep"
_OF_EACH = "EcEstimatorStepSizeOfEach"


@dataclasses.dataclass(frozen=True)
class Quantizer:
    """A tensor's integers.

    bits: 1 to 8; low, high: the smallest and the largest integer. At one bit, signed,
    they are {-1, +1} without 0.
    steps: how many step sizes it has, for the channels of its last axis; 0 for one
    step for the whole tensor.
    """

    bits: int
    low: int
    high: int
    steps: int = 0

    @property
    def is_binary(self):
        return self.bits == 1 and self.low < 0

    @property
    def shape(self):
        """The shape of its step sizes."""
        return [self.steps] if self.steps else []


class Range(NamedTuple):
    """What a quantizer's integers stand for: step, and low * step, high * step."""

    step: Any
    low: Any
    high: Any


def range_of(step, quantizer):
    """The Range of a step size, float32 of quantizer.shape, > 0."""
    return Range(
        step,
        tf.multiply(step, constant(float(quantizer.low)), name="min"),
        tf.multiply(step, constant(float(quantizer.high)), name="max"),
    )


def of_weights(bits, channels):
    """Signed and symmetric, a step for each output channel.

    At 8 bits without -128, so that a negative gamma of a batch norm, which flips the
    sign when it is folded in, can't overflow.
    """
    if bits == 8:
        return Quantizer(bits, -127, 127, channels)
    return of_activations(bits, True, channels)


def of_activations(bits, signed, steps=0):
    """One step for the tensor; from 0 upwards unless signed."""
    if not signed:
        return Quantizer(bits, 0, 2**bits - 1, steps)
    if bits == 1:
        return Quantizer(bits, -1, 1, steps)
    return Quantizer(bits, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1, steps)


def fake_quantize(x, step, quantizer):
    """Rounds a tensor to integers times its step sizes.

    Forward:  q = s * clip(round(x / s), low, high), halves rounded upwards;
              at one bit, signed: q = s where x >= 0, else -s
    Backward: dq/dx = 1 where low <= x / s <= high, else 0
              dq/ds = q / s - x / s there, low or high outside
              (at one bit, signed: sign(x) - x / s inside, sign(x) outside)

    A tensor of one step is quantized by TensorFlow's FakeQuantWithMinMaxVars; what it
    lacks, the share of what is inside in dq/ds, is added to its gradient. With a step a
    channel TensorFlow's kernel reads memory a channel at a time, and needs ten to
    thirty times as long: here the columns are divided by their steps, and quantized
    to integers as one tensor.

    Args:
      x: float32; with quantizer.steps, the last axis has that many channels.
      step: float32 of quantizer.shape, > 0.
      quantizer: Quantizer.

    Returns:
      float32 of the shape of `x`.

    LSQ divides dq/ds by sqrt(elements * high), for optimizers that move a step by a
    multiple of its gradient; adam.StepAdam divides by the gradient's size.

    Source: Esser et al. 2020, arXiv 1902.08153, equations 1 to 3.
    """
    if quantizer.bits == 1:
        return _one_bit(x, step, quantizer)
    if quantizer.steps:
        return _by_columns(x, step, quantizer)
    with tf.get_default_graph().gradient_override_map(
        {"FakeQuantWithMinMaxVars": _GRADIENT, "Mul": _PASSED_ON}
    ):
        return frozen_fake_quantize(x, *range_of(step, quantizer), quantizer)


def frozen_fake_quantize(x, step, low, high, quantizer):
    """The same, of ops that other tools know, for a Range that is not trained.

    From 2 bits on these are FakeQuantWithMinMaxVars and, for a step a channel,
    FakeQuantWithMinMaxVarsPerChannel.
    """
    if quantizer.bits == 1:
        return _one_bit(x, step, quantizer)
    op = (
        tf.quantization.fake_quant_with_min_max_vars_per_channel
        if quantizer.steps
        else tf.quantization.fake_quant_with_min_max_vars
    )
    is_narrow = _is_narrow(quantizer)
    return op(x, low, high, quantizer.bits, is_narrow, name="quantized")


def fake_quantize_each(tensors, steps, quantizer):
    """`fake_quantize` of several tensors with a step each, in fewer ops.

    Args:
      tensors: list of float32.
      steps: float32 `[len(tensors)]`, > 0.
      quantizer: Quantizer of 2 bits or more.
    """
    one = dataclasses.replace(quantizer, steps=0)
    _, lows, highs = range_of(steps, quantizer)
    with tf.get_default_graph().gradient_override_map(
        {"FakeQuantWithMinMaxVars": _PASSED_ON, "IdentityN": _OF_EACH}
    ):
        quantized = [
            frozen_fake_quantize(x, None, low, high, one)
            for x, low, high in zip(
                tensors, tf.unstack(lows, len(tensors)), tf.unstack(highs, len(tensors))
            )
        ]
        return tf.identity_n([*quantized, steps])[:-1]


@tf.RegisterGradient(_OF_EACH)
def _gradient_of_each(op, *gradients):
    """Of the IdentityN that ends `fake_quantize_each`: see _step_size_gradient."""
    *quantized, steps = op.inputs
    found = [_parts(q.op, dq) for q, dq in zip(quantized, gradients)]
    dx, d_low, d_high, inside = zip(*found)
    lows, highs = (t.op.inputs[0] for t in quantized[0].op.inputs[1:])
    ends = tf.stack(d_low) * lows + tf.stack(d_high) * highs
    inside = tf.reshape(tf.concat(inside, 0), vector(-1))
    return [*dx, (ends + inside) / steps]


def _is_narrow(quantizer):
    """At -127 .. 127 the kernels leave their lowest integer away."""
    return quantizer.low == -quantizer.high


def _by_columns(x, step, quantizer):
    """Quantizes `[..., steps]` with a step for each entry of the last axis."""
    integers = {
        "min": float(quantizer.low),
        "max": float(quantizer.high),
        "num_bits": quantizer.bits,
        "narrow_range": _is_narrow(quantizer),
    }

    # Not tf.custom_gradient, whose functions, and with them the graph, live as long as
    # the process.
    with tf.get_default_graph().gradient_override_map(
        {
            "RealDiv": _PASSED_ON,
            "FakeQuantWithMinMaxArgs": _PASSED_ON,
            "Mul": _BY_COLUMNS,
        }
    ):
        ratio = x / step
        rounded = tf.quantization.fake_quant_with_min_max_args(ratio, **integers)
        return tf.multiply(rounded, step, name="quantized")


@tf.RegisterGradient(_PASSED_ON)
def _pass_on(op, gradient):
    """To the first input, what the last op of a quantizer has computed for it."""
    return [gradient] + [None] * (len(op.inputs) - 1)


@tf.RegisterGradient(_BY_COLUMNS)
def _columns_gradient(op, dq):
    """Of the product that ends `_by_columns`: of x and of the steps."""
    rounded, step = op.inputs
    (ratio,) = rounded.op.inputs
    attributes = ("min", "max", "num_bits", "narrow_range")
    dx = tf.quantization.fake_quant_with_min_max_args_gradient(
        dq, ratio, **{name: rounded.op.get_attr(name) for name in attributes}
    )
    dx = exchanged(dx)
    share = dq * rounded - dx * ratio
    if share.shape.rank != 2:
        share = tf.reshape(share, vector(-1, step.shape.num_elements()))
    # A product with ones: half of the time of a sum over the rows.
    rows = share.shape[0].value
    ones = (
        tf.ones([1, tf.shape(share)[0]])
        if rows is None
        else constant(1.0, shape=[1, rows])
    )
    return dx, tf.squeeze(tf.matmul(ones, share), [0])


@tf.RegisterGradient(_GRADIENT)
def _step_size_gradient(op, gradient):
    """Of FakeQuantWithMinMaxVars: that of TensorFlow, and the rounding's share.

    With min = low * s and max = high * s, dL/ds = low * dL/dmin + high * dL/dmax +
    sum(dx * (q - x)) / s. It is given to `max`, a product of s, which passes it on.
    """
    _, low, high = op.inputs
    step = high.op.inputs[0]
    dx, d_low, d_high, inside = _parts(op, gradient)
    ends = d_low * low + d_high * high
    return exchanged(dx), None, (ends + tf.squeeze(inside)) / step


def _parts(op, gradient):
    """Of FakeQuantWithMinMaxVars: dx, dL/dmin, dL/dmax, `[1, 1]` sum(dx * (q - x))."""
    x, low, high = op.inputs
    dx, d_low, d_high = tf.raw_ops.FakeQuantWithMinMaxVarsGradient(
        gradients=gradient,
        inputs=x,
        min=low,
        max=high,
        num_bits=op.get_attr("num_bits"),
        narrow_range=op.get_attr("narrow_range"),
    )
    # A dot product: a third of the time of a product and its sum.
    row = vector(1, -1)
    inside = tf.matmul(
        tf.reshape(dx, row), tf.reshape(op.outputs[0] - x, row), transpose_b=True
    )
    return dx, d_low, d_high, inside


def _one_bit(x, step, quantizer):
    """What FakeQuant can't: it needs two bits."""
    ratio = x / step
    low = -1.0 if quantizer.is_binary else 0.0
    clipped = tf.clip_by_value(ratio, low, 1.0)
    threshold = 0.0 if quantizer.is_binary else 0.5
    rounded = tf.where(
        tf.greater_equal(ratio, threshold),
        tf.ones_like(ratio),
        tf.fill(tf.shape(ratio), low),
    )
    # Of `clipped` the gradient is taken, of `rounded` the value.
    return tf.multiply(
        clipped + tf.stop_gradient(rounded - clipped), step, name="quantized"
    )


def trained_step(step, fallback):
    """The step size of a tensor in training: until a fit is made, the fallback.

    Args:
      step: float32 of quantizer.shape, 0 where no fit was made. It gets the gradient of
        what is returned; there it gets none.
      fallback: float32 of the same shape.
    """
    with tf.get_default_graph().gradient_override_map({"Select": _FITTED}):
        return tf.where(step > constant(0.0), step, frozen_step(fallback))


@tf.RegisterGradient(_FITTED)
def _fitted_gradient(op, gradient):
    zeros = constant(0.0, shape=gradient.shape.as_list())
    return None, tf.where(op.inputs[0], gradient, zeros), None


def frozen_step(step):
    """A step size that can be divided by."""
    return tf.maximum(step, constant(SMALLEST_STEP))
