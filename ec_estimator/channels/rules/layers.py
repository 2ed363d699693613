"""Rules of layers: they end the channels that they read and start others."""
import numpy as np

from ec_estimator.channels.rules.table import rule


@rule("Conv2D", "Conv3D")
def convolution(flow, op):
    """Ends the channels it reads, which go with the kernel's input axis, and starts
    those of the kernel's output axis. Axes of pixels freeze: a window moves over
    them. So does all that a grouped convolution reads."""
    axes, kernel = flow.axes(op.inputs[0]), flow.axes(op.inputs[1])
    axis = flow.channel_axis(op)
    flow.keep(op, axes, (axis,))
    channels, taken = flow.sizes(op.inputs[0])[axis], flow.sizes(op.inputs[1])[-2]
    if None not in (channels, taken) and channels != taken:
        # Grouped: each output channel reads some of the input channels.
        flow.freeze_all(op)
        return
    flow.contract(op, (0, axis), (1, -2))
    flow.produce(kernel[-1], op.inputs[1])
    flow.put(op.outputs[0], flow.only(axis, kernel[-1], len(axes)))


@rule("Conv2DBackpropInput")
def transposed_convolution(flow, op):
    """As a forward op: inputs are (sizes, kernel [h, w, out, in], x). As a convolution,
    and the channels that it starts go with the size that its first input names."""
    kernel, axes = flow.axes(op.inputs[1]), flow.axes(op.inputs[2])
    axis = flow.channel_axis(op)
    flow.keep(op, axes, (axis,))
    flow.contract(op, (2, axis), (1, 3))
    flow.produce(kernel[2], op.inputs[1])
    output = flow.only(axis, kernel[2], len(axes))
    flow.agree(op, output, op.inputs[0])
    flow.put(op.outputs[0], output)


@rule("DepthwiseConv2dNative")
def depthwise(flow, op):
    """Kernel [h, w, channels, multiplier]: input channel c gives the output channels
    c * multiplier .. (c + 1) * multiplier - 1, which live and die with it."""
    kernel = flow.axes(op.inputs[1])
    axis = flow.channel_axis(op)
    axes = flow.keep(op, flow.axes(op.inputs[0]), (axis,))
    channels = flow.unite(axes[axis], kernel[2], op)
    flow.freeze(kernel[3], op)
    multiplier = op.inputs[1].shape.as_list()[3]
    axes[axis] = None if channels is None else np.repeat(channels, multiplier)
    flow.put(op.outputs[0], axes)


@rule("MatMul", "BatchMatMul", "BatchMatMulV2")
def matmul(flow, op):
    """Ends the summed axes, of which one has to be a kernel's, and passes rows and
    columns. Axes of a batch freeze: each has a product of its own."""
    a, b = (flow.keep(op, flow.axes(tensor), (-1, -2)) for tensor in op.inputs)
    flags = (
        ("transpose_a", "transpose_b") if op.type == "MatMul" else ("adj_x", "adj_y")
    )
    # (rows, summed) of a and (summed, columns) of b.
    rows, left = (-1, -2) if op.get_attr(flags[0]) else (-2, -1)
    right, columns = (-1, -2) if op.get_attr(flags[1]) else (-2, -1)
    flow.contract(op, (0, left), (1, right))
    flow.produce(a[rows], op.inputs[0])
    flow.produce(b[columns], op.inputs[1])
    rank = max(tensor.shape.rank for tensor in op.inputs)
    flow.put(op.outputs[0], [None] * (rank - 2) + [a[rows], b[columns]])
