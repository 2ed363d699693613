"""The Winograd form of a 3x3 convolution, with a place for quantizers in its domain.

Source: Lavin & Gray 2015, arXiv 1509.09308, F(2x2, 3x3): two by two outputs from a tile
of four by four inputs with 16 multiplications instead of 36.
"""
import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.quantization.constants import vector

POSITIONS = 16
_SUM, _DIFFERENCE = "EcEstimatorSum", "EcEstimatorDifference"
_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
# The Kronecker product of G with itself takes all nine taps to 16 positions.
_BOTH = np.kron(_G, _G)


def qualifies(op):
    """Whether a Conv2D has a Winograd form: 3x3, stride 1, undilated, ungrouped."""
    if op.type != "Conv2D" or op.get_attr("data_format") != b"NHWC":
        return False
    kernel, channels = op.inputs[1].shape, op.inputs[0].shape[-1]
    return (
        kernel.as_list()[:2] == [3, 3]
        and channels.value == kernel[2].value
        and list(op.get_attr("strides")) == [1, 1, 1, 1]
        and list(op.get_attr("dilations")) == [1, 1, 1, 1]
        and op.get_attr("padding") in (b"SAME", b"VALID")
    )


def convolve(x, kernel, padding, quantize_input, quantize_kernel):
    """A 3x3 convolution: Y = A^T [sum over c of (G w G^T) * (B^T d B)] A.

    d are the 4x4 tiles of the input, two apart, w the kernel, and

        B^T = [1 0 -1 0; 0 1 1 0; 0 -1 1 0; 0 -1 0 1]
        G   = [1 0 0; .5 .5 .5; .5 -.5 .5; 0 0 1]
        A^T = [1 1 1 0; 0 1 -1 1]

    Args:
      x: `[n, h, w, c]`, float32; sizes may be unknown.
      kernel: `[3, 3, c, o]`.
      padding: "SAME" or "VALID".
      quantize_input: callable(16 of `[tiles, c]`) -> as many; they are the positions
        4 * row + column of the transformed tiles.
      quantize_kernel: callable(`[c, 16 * o]`, columns by position and then output
        channel) -> the same shape.

    Returns:
      `[n, h, w, o]`, of a VALID convolution `[n, h - 2, w - 2, o]`.
    """
    margin = 1 if padding == "SAME" else 0
    n, h, w, channels = _sizes(x)
    out_h, out_w = h - 2 + 2 * margin, w - 2 + 2 * margin
    # Whole tiles: what is too much at the end is cut off again.
    tall, wide = (out_h + 1) // 2, (out_w + 1) // 2
    margins = [margin, 2 * tall + 2 - h - margin], [margin, 2 * wide + 2 - w - margin]
    x = tf.pad(x, [[0, 0], *margins, [0, 0]])
    v = [
        tf.reshape(part, vector(-1, channels))
        for row in _transform_input(_split(x, 1, tall))
        for part in _transform_input(_split(row, 2, wide))
    ]
    outputs = kernel.shape[3].value
    u = tf.split(quantize_kernel(_transform_kernel(kernel)), POSITIONS, 1)
    # Not one batched product: packing its operands would take longer than the rest.
    parts = [tf.matmul(tile, taps) for tile, taps in zip(quantize_input(v), u)]
    y = _join(parts, n, tall, wide, outputs)
    if isinstance(out_h, int) and isinstance(out_w, int) and not (out_h | out_w) % 2:
        return y
    return y[:, :out_h, :out_w]


def _sizes(x):
    """Its sizes, integers where they are known and tensors where they are not."""
    dynamic = tf.shape(x)
    return [
        dynamic[axis] if size is None else size
        for axis, size in enumerate(x.shape.as_list())
    ]


def _split(x, axis, count):
    """The four rows (or columns) of each of `count` tiles, two apart."""
    sizes = _sizes(x)
    pairs = tf.reshape(x, [*sizes[:axis], count + 1, 2, *sizes[axis + 1 :]])
    even, odd = tf.unstack(pairs, 2, axis + 1)
    first = [0, 0, 0, 0]
    second = [int(a == axis) for a in range(4)]
    # Not x[:, 1:]: the gradient of a strided slice takes several times as long.
    size = [-1 if a != axis else count for a in range(4)]
    return [
        tf.slice(part, begin, size) for begin in (first, second) for part in (even, odd)
    ]


def _transform_input(d):
    """B^T d along one axis."""
    with _of_one_shape():
        return d[0] - d[2], d[1] + d[2], d[2] - d[1], d[3] - d[1]


def _of_one_shape():
    """Context in which sums are of tensors of one shape: their gradients need no ops
    that see to broadcasting."""
    return tf.get_default_graph().gradient_override_map(
        {"Add": _SUM, "AddV2": _SUM, "Sub": _DIFFERENCE}
    )


@tf.RegisterGradient(_SUM)
def _sum_gradient(op, gradient):
    return gradient, gradient


@tf.RegisterGradient(_DIFFERENCE)
def _difference_gradient(op, gradient):
    return gradient, -gradient


def _transform_kernel(kernel):
    """G w G^T as `[c, 16 * o]`."""
    channels, outputs = kernel.shape.as_list()[2:]
    taps = tf.matmul(_BOTH, tf.reshape(kernel, [9, channels * outputs]))
    taps = tf.reshape(taps, [POSITIONS, channels, outputs])
    return tf.reshape(tf.transpose(taps, [1, 0, 2]), [channels, -1])


def transform_array(kernel):
    """What `convolve` has quantized of a kernel.

    Args:
      kernel: array `[3, 3, c, o]`.

    Returns:
      `[c, 16 * o]`, columns by position and then output channel.
    """
    channels, outputs = kernel.shape[2:]
    taps = _BOTH @ kernel.reshape(9, channels * outputs)
    taps = taps.reshape(POSITIONS, channels, outputs)
    return taps.transpose(1, 0, 2).reshape(channels, -1)


def _join(parts, n, tall, wide, outputs):
    """The outputs of all tiles side by side, `[n, 2 * tall, 2 * wide, outputs]`.

    Args:
      parts: 16 of `[tiles, outputs]`, the products at each position.
    """
    with _of_one_shape():
        rows = _transform_output([parts[4 * row : 4 * row + 4] for row in range(4)])
        # Two lists of two: the outputs of every tile.
        parts = [part for row in rows for part in _transform_sums(row)]
    shape = tf.convert_to_tensor([n, tall, wide, outputs])
    y = [tf.reshape(part, shape) for part in parts]
    y = tf.stack([tf.stack(y[:2], 3), tf.stack(y[2:], 3)], 2)
    return tf.reshape(y, [n, 2 * tall, 2 * wide, outputs])


def _transform_output(rows):
    """A^T along the rows of tiles: two lists of four columns."""
    first = [a + b + c for a, b, c in zip(rows[0], rows[1], rows[2])]
    second = [b - c + d for b, c, d in zip(rows[1], rows[2], rows[3])]
    return first, second


def _transform_sums(columns):
    a, b, c, d = columns
    return a + b + c, b - c + d
