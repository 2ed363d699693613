"""How channel labels move through each type of op: a table of small rules.

A rule is a function of (flow, op). It reads the labels of the op's inputs with
`flow.axes(tensor)`, a list with a label vector or None for each axis; unites what must
live or die together; freezes what can't be removed; and gives the outputs their labels
with `flow.put`. An output without labels is just not put.
"""
import numpy as np
import tensorflow.compat.v1 as tf

RULES = {}


def rule(*op_types):
    def register(function):
        for op_type in op_types:
            RULES[op_type] = function
        return function

    return register


@rule(
    *("Identity", "IdentityN", "StopGradient", "CheckNumerics", "PreventGradient"),
    *("Relu", "Relu6", "Elu", "Selu", "LeakyRelu", "Sigmoid", "Tanh", "Softplus"),
    *("Softsign", "Exp", "Expm1", "Log", "Log1p", "Sqrt", "Rsqrt", "Square", "Neg"),
    *("Abs", "Sign", "Erf", "Floor", "Ceil", "Round", "Rint", "Reciprocal", "Inv"),
    *("Sin", "Cos", "ZerosLike", "OnesLike", "Snapshot", "Switch", "RefSwitch"),
    *("FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxArgs", "ReadVariableOp"),
)
def passes(flow, op):
    """Entry by entry: the channels of the output are those of the input."""
    for output in op.outputs:
        flow.put(output, flow.axes(op.inputs[0]))


@rule("Cast")
def cast(flow, op):
    """Between floats it passes. A size that becomes a float is used as a number, such
    as in 1 / sqrt(channels): it would change with the cut, so its axis is frozen."""
    if op.inputs[0].dtype.is_floating and op.outputs[0].dtype.is_floating:
        passes(flow, op)
        return
    for element in flow.values.of(op.inputs[0]) or ():
        if element.labels is not None:
            flow.freeze(element.labels, op)


@rule(
    *("Add", "AddV2", "Sub", "Mul", "RealDiv", "Div", "Maximum", "Minimum", "Pow"),
    *("SquaredDifference", "FloorDiv", "AddN", "DivNoNan", "Xdivy", "Xlogy"),
    *("Greater", "GreaterEqual", "Less", "LessEqual", "Equal", "NotEqual"),
    *("LogicalAnd", "LogicalOr", "Select", "SelectV2"),
)
def elementwise(flow, op):
    """Inputs are broadcast to one shape and united position by position."""
    flow.put(op.outputs[0], flow.broadcast(op, list(op.inputs)))


@rule("BiasAdd")
def bias_add(flow, op):
    axes = flow.axes(op.inputs[0])
    axis = flow.channel_axis(op)
    axes[axis] = flow.unite(axes[axis], flow.axes(op.inputs[1])[0], op)
    flow.put(op.outputs[0], axes)


@rule("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def batch_norm(flow, op):
    axes = flow.axes(op.inputs[0])
    axis = flow.channel_axis(op)
    for parameter in op.inputs[1:]:
        # While training, mean and variance are empty constants.
        if parameter.shape.as_list() != [0]:
            vector = flow.axes(parameter)[0]
            axes[axis] = flow.unite(axes[axis], vector, op, parameter)
    flow.put(op.outputs[0], axes)
    for statistic in op.outputs[1:5]:
        flow.put(statistic, [axes[axis]])


@rule("Conv2D", "Conv3D")
def convolution(flow, op):
    axes, kernel = flow.axes(op.inputs[0]), flow.axes(op.inputs[1])
    axis = flow.channel_axis(op)
    flow.contract(op, (axes[axis], 0), (kernel[-2], 1))
    flow.produce(kernel[-1], op.inputs[1])
    output = [None] * len(axes)
    output[axis] = kernel[-1]
    flow.put(op.outputs[0], output)


@rule("Conv2DBackpropInput")
def transposed_convolution(flow, op):
    """As a forward op: inputs are (sizes, kernel [h, w, out, in], x)."""
    kernel, axes = flow.axes(op.inputs[1]), flow.axes(op.inputs[2])
    axis = flow.channel_axis(op)
    flow.contract(op, (axes[axis], 2), (kernel[3], 1))
    flow.produce(kernel[2], op.inputs[1])
    output = [None] * 4
    output[axis] = kernel[2]
    flow.put(op.outputs[0], output)


@rule("DepthwiseConv2dNative")
def depthwise(flow, op):
    """Kernel [h, w, channels, multiplier]: input channel c gives the output channels
    c * multiplier .. (c + 1) * multiplier - 1, which live and die with it."""
    axes, kernel = flow.axes(op.inputs[0]), flow.axes(op.inputs[1])
    axis = flow.channel_axis(op)
    channels = flow.unite(axes[axis], kernel[2], op)
    flow.freeze(kernel[3], op)
    multiplier = op.inputs[1].shape.as_list()[3]
    axes[axis] = None if channels is None else np.repeat(channels, multiplier)
    flow.put(op.outputs[0], axes)


@rule("MatMul", "BatchMatMul", "BatchMatMulV2")
def matmul(flow, op):
    sides = [flow.axes(tensor) for tensor in op.inputs]
    flags = (
        ("transpose_a", "transpose_b") if op.type == "MatMul" else ("adj_x", "adj_y")
    )
    for axes, flag in zip(sides, flags):
        if op.get_attr(flag):
            axes[-1], axes[-2] = axes[-2], axes[-1]
    a, b = sides
    flow.contract(op, (a[-1], 0), (b[-2], 1))
    flow.produce(a[-2], op.inputs[0])
    flow.produce(b[-1], op.inputs[1])
    rank = op.outputs[0].shape.rank
    for axes in sides:
        for vector in axes[:-2]:
            flow.freeze(vector, op)
    flow.put(op.outputs[0], [None] * (rank - 2) + [a[-2], b[-1]])


@rule(
    *("MaxPool", "MaxPoolV2", "AvgPool", "MaxPool3D", "AvgPool3D"),
    *("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "ResizeArea"),
    *("SpaceToBatchND", "BatchToSpaceND"),
)
def spatial(flow, op):
    """Works within each channel."""
    flow.put(op.outputs[0], flow.axes(op.inputs[0]))


@rule("Pad", "PadV2", "MirrorPad")
def pad(flow, op):
    axes = flow.axes(op.inputs[0])
    paddings = tf.get_static_value(op.inputs[1])
    for axis, vector in enumerate(axes):
        if vector is not None and (paddings is None or np.any(paddings[axis])):
            flow.freeze(vector, op)
            axes[axis] = None
    flow.put(op.outputs[0], axes)


@rule("ConcatV2")
def concat(flow, op):
    parts = [flow.axes(tensor) for tensor in list(op.inputs)[:-1]]
    axis = flow.values.const(op.inputs[-1])[0] % len(parts[0])
    joined = list(parts[0])
    for part, tensor in zip(parts[1:], list(op.inputs)[1:-1]):
        for other, vector in enumerate(part):
            if other != axis:
                joined[other] = flow.unite(joined[other], vector, op, tensor)
    joined[axis] = flow.join(
        [(part[axis], t.shape.as_list()[axis]) for part, t in zip(parts, op.inputs)], op
    )
    flow.put(op.outputs[0], joined)


@rule("Split", "SplitV")
def split(flow, op):
    source, axis = (1, 0) if op.type == "Split" else (0, 2)
    axes = flow.axes(op.inputs[source])
    axis = flow.values.const(op.inputs[axis])[0] % len(axes)
    sizes = [output.shape.as_list()[axis] for output in op.outputs]
    vector = axes[axis]
    if vector is not None and len(set(sizes)) > 1:
        # The borders are literals in user code; they would move.
        flow.freeze(vector, op)
    for index, output in enumerate(op.outputs):
        piece = list(axes)
        if vector is not None:
            start = sum(sizes[:index])
            piece[axis] = vector[start : start + sizes[index]]
            if len(set(sizes)) == 1:
                flow.unite(vector[: sizes[0]], piece[axis], op)
        flow.put(output, piece)


@rule("Transpose")
def transpose(flow, op):
    axes = flow.axes(op.inputs[0])
    permutation = flow.values.const(op.inputs[1])
    if permutation is None:
        flow.freeze_all(op)
    else:
        flow.put(op.outputs[0], [axes[axis] for axis in permutation])


@rule("Squeeze", "ExpandDims")
def ones_come_or_go(flow, op):
    axes = flow.axes(op.inputs[0])
    rank = op.outputs[0].shape.rank
    if rank is None:
        flow.freeze_all(op)
        return
    if op.type == "ExpandDims":
        axis = flow.values.const(op.inputs[1])[0] % rank
        flow.put(op.outputs[0], axes[:axis] + [None] + axes[axis:])
        return
    sizes = op.inputs[0].shape.as_list()
    gone = [axis % len(axes) for axis in op.get_attr("squeeze_dims")]
    gone = gone or [axis for axis, size in enumerate(sizes) if size == 1]
    for axis in gone:
        flow.freeze(axes[axis], op)
    kept = [vector for axis, vector in enumerate(axes) if axis not in gone]
    flow.put(op.outputs[0], kept)


@rule("Reshape")
def reshape(flow, op):
    """Passes axes that keep their size, repeats an axis that is merged with unlabelled
    ones, and freezes the rest: an axis that is split, or merged with another."""
    source, target = op.inputs[0], op.outputs[0]
    if source.shape.rank is None or target.shape.rank is None:
        flow.freeze_all(op)
        return
    axes, sizes = flow.axes(source), flow.sizes(source)
    new_sizes = flow.target_sizes(op)
    output = [None] * len(new_sizes)
    i, j = len(sizes) - 1, len(new_sizes) - 1
    while i >= 0 and j >= 0:
        if sizes[i] == 1 and axes[i] is None:
            i -= 1
        elif new_sizes[j] == 1:
            j -= 1
        elif sizes[i] is not None and sizes[i] == new_sizes[j]:
            output[j] = axes[i]
            i, j = i - 1, j - 1
        else:
            merged, size = [], 1
            while (
                i >= 0 and None not in (sizes[i], new_sizes[j]) and size < new_sizes[j]
            ):
                size *= sizes[i]
                merged.append(i)
                i -= 1
            if not merged or size != new_sizes[j]:
                for axis in merged:
                    flow.freeze(axes[axis], op)
                break
            output[j] = flow.merge([(axes[a], sizes[a]) for a in reversed(merged)], op)
            j -= 1
    for axis in range(i + 1):
        flow.freeze(axes[axis], op)
    flow.put(target, output)


@rule("Mean", "Sum", "Max", "Min", "Prod", "All", "Any")
def reduction(flow, op):
    axes = flow.axes(op.inputs[0])
    reduced = flow.values.const(op.inputs[1])
    if reduced is None:
        flow.freeze_all(op)
        return
    reduced = {axis % len(axes) for axis in reduced} if axes else set()
    for axis in reduced:
        flow.freeze(axes[axis], op)
    if op.get_attr("keep_dims"):
        kept = [None if a in reduced else vector for a, vector in enumerate(axes)]
    else:
        kept = [vector for a, vector in enumerate(axes) if a not in reduced]
    flow.put(op.outputs[0], kept)


@rule("Slice", "StridedSlice")
def cut_out(flow, op):
    """Passes the axes that are taken whole."""
    axes, sizes = flow.axes(op.inputs[0]), op.inputs[0].shape.as_list()
    new_sizes = op.outputs[0].shape.as_list() if op.outputs[0].shape.rank else []
    if op.type == "StridedSlice":
        if op.get_attr("ellipsis_mask") or op.get_attr("new_axis_mask"):
            flow.freeze_all(op)
            return
        shrunk = op.get_attr("shrink_axis_mask")
        places = [a for a in range(len(axes)) if not shrunk >> a & 1]
    else:
        places = list(range(len(axes)))
    output = [None] * len(places)
    for axis, vector in enumerate(axes):
        whole = axis in places and sizes[axis] == new_sizes[places.index(axis)]
        if whole:
            output[places.index(axis)] = vector
        else:
            flow.freeze(vector, op)
    flow.put(op.outputs[0], output)


@rule("Pack")
def pack(flow, op):
    rank = op.outputs[0].shape.rank
    axes = flow.broadcast(op, list(op.inputs))
    axis = op.get_attr("axis") % rank
    flow.put(op.outputs[0], axes[:axis] + [None] + axes[axis:])


@rule("Unpack")
def unpack(flow, op):
    axes = flow.axes(op.inputs[0])
    axis = op.get_attr("axis") % len(axes)
    flow.freeze(axes[axis], op)
    for output in op.outputs:
        flow.put(output, axes[:axis] + axes[axis + 1 :])


@rule("Tile")
def tile(flow, op):
    axes = flow.axes(op.inputs[0])
    multiples = flow.values.of(op.inputs[1]) or [None] * len(axes)
    for axis, (vector, multiple) in enumerate(zip(axes, multiples)):
        if vector is not None and (multiple is None or multiple.value != 1):
            flow.freeze(vector, op)
            axes[axis] = None
    flow.put(op.outputs[0], axes)


@rule("Merge", "RefMerge")
def merge(flow, op):
    """The branches of a conditional hand on the same channels."""
    flow.put(op.outputs[0], flow.broadcast(op, list(op.inputs)))


@rule("GatherV2", "Gather", "ResourceGather")
def lookup(flow, op):
    """A table is never cut: its rows are looked up, its columns stay with them."""
    for vector in flow.axes(op.inputs[0]):
        flow.freeze(vector, op)


@rule("Shape", "ShapeN", "Size", "Rank", "Const", "Fill", "RandomUniform")
@rule("RandomStandardNormal", "TruncatedNormal", "Range", "NoOp", "VariableShape")
def no_labels(flow, op):
    """Puts out nothing that has channels; sizes are followed by `flow.values`."""
