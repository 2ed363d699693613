"""How channel labels move through each type of op: a table of small rules.

A rule is a function of (flow, op). It reads the labels of the op's inputs with
`flow.axes(tensor)`, a list with a label vector or None for each axis; unites what must
live or die together; freezes what can't be removed; and gives the outputs their labels
with `flow.put`. An output without labels is just not put. Rules are called where an
input has labels, and the ranks of all inputs are known.
"""
import numpy as np
import tensorflow.compat.v1 as tf

RULES = {}
# The operand that is a shape, of the ops whose rules see to the sizes in it.
SHAPE_OPERAND = {
    **{"Reshape": 1, "Conv2DBackpropInput": 0, "Fill": 0, "RandomUniform": 0},
    **{"RandomStandardNormal": 0, "TruncatedNormal": 0},
}


def rule(*op_types):
    def register(function):
        for op_type in op_types:
            RULES[op_type] = function
        return function

    return register


@rule(
    *("Identity", "StopGradient", "CheckNumerics", "PreventGradient", "Snapshot"),
    *("Relu", "Relu6", "Elu", "Selu", "LeakyRelu", "Sigmoid", "Tanh", "Softplus"),
    *("Softsign", "Exp", "Expm1", "Log", "Log1p", "Sqrt", "Rsqrt", "Square", "Neg"),
    *("Abs", "Sign", "Erf", "Floor", "Ceil", "Round", "Rint", "Reciprocal", "Inv"),
    *("Sin", "Cos", "ZerosLike", "OnesLike", "Switch", "RefSwitch", "RefIdentity"),
    *("FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel"),
    *("FakeQuantWithMinMaxArgs", "ReadVariableOp", "Cast", "LogicalNot"),
)
def passes(flow, op):
    """Entry by entry: the channels of the output are those of the input."""
    for output in op.outputs:
        flow.put(output, flow.axes(op.inputs[0]))


@rule("IdentityN")
def passes_each(flow, op):
    for tensor, output in zip(op.inputs, op.outputs):
        flow.put(output, flow.axes(tensor))


@rule(
    *("Add", "AddV2", "Sub", "Mul", "RealDiv", "Div", "Maximum", "Minimum", "Pow"),
    *("SquaredDifference", "FloorDiv", "AddN", "DivNoNan", "Xdivy", "Xlogy"),
    *("Greater", "GreaterEqual", "Less", "LessEqual", "Equal", "NotEqual"),
    *("LogicalAnd", "LogicalOr", "SelectV2", "Assign", "AssignAdd", "AssignSub"),
)
def elementwise(flow, op):
    """Inputs are broadcast to one shape and united position by position."""
    flow.put(op.outputs[0], flow.broadcast(op, list(op.inputs)))


@rule("Select")
def select(flow, op):
    """As SelectV2, but for a condition of rank 1, which chooses whole rows."""
    condition, *branches = op.inputs
    if condition.shape.rank == branches[0].shape.rank:
        branches = list(op.inputs)
    else:
        flow.keep(op, flow.axes(condition), ())
    flow.put(op.outputs[0], flow.broadcast(op, branches))


@rule("BiasAdd")
def bias_add(flow, op):
    axes = flow.axes(op.inputs[0])
    axis = flow.channel_axis(op)
    bias = flow.axes(op.inputs[1])[0]
    axes[axis] = flow.unite(axes[axis], bias, op, op.inputs[1])
    flow.put(op.outputs[0], axes)


@rule("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def batch_norm(flow, op):
    axis = flow.channel_axis(op)
    axes = flow.keep(op, flow.axes(op.inputs[0]), (axis,))
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
    """As a forward op: inputs are (sizes, kernel [h, w, out, in], x)."""
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


@rule(
    *("MaxPool", "MaxPoolV2", "AvgPool", "MaxPool3D", "AvgPool3D"),
    *("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "ResizeArea"),
)
def spatial(flow, op):
    """Works within each channel."""
    axis = flow.channel_axis(op)
    axes = flow.keep(op, flow.axes(op.inputs[0]), (axis,))
    if flow.sizes(op.outputs[0])[axis] != flow.sizes(op.inputs[0])[axis]:
        # Pooling over channels.
        flow.freeze_all(op)
    else:
        flow.put(op.outputs[0], axes)


@rule("SpaceToBatchND", "BatchToSpaceND")
def space_and_batch(flow, op):
    """Moves between the batch and the axes of the block; the others pass."""
    axes, block = flow.axes(op.inputs[0]), op.inputs[1].shape.as_list()[0]
    kept = range(len(axes) if block is None else block + 1, len(axes))
    flow.put(op.outputs[0], flow.keep(op, axes, kept))


@rule("Pad", "PadV2", "MirrorPad")
def pad(flow, op):
    axes = flow.axes(op.inputs[0])
    paddings = tf.get_static_value(op.inputs[1])
    kept = []
    if paddings is not None:
        kept = [axis for axis in range(len(axes)) if not np.any(paddings[axis])]
    flow.put(op.outputs[0], flow.keep(op, axes, kept))


@rule("ConcatV2")
def concat(flow, op):
    parts = list(op.inputs)[:-1]
    (axis,) = flow.values.const(op.inputs[-1]) or (None,)
    if axis is None:
        flow.freeze_all(op)
        return
    axis %= parts[0].shape.rank
    joined = flow.axes(parts[0])
    for tensor in parts[1:]:
        for other, vector in enumerate(flow.axes(tensor)):
            if other != axis:
                joined[other] = flow.unite(joined[other], vector, op, tensor)
    rows = [(flow.axes(tensor)[axis], flow.sizes(tensor)[axis]) for tensor in parts]
    joined[axis] = flow.join(rows, op)
    flow.put(op.outputs[0], joined)


@rule("Split", "SplitV")
def split(flow, op):
    """Position i of one part goes with position i of the others. The borders of unequal
    parts are literals in user code; they would move, so their axis is frozen."""
    source, axis = (1, 0) if op.type == "Split" else (0, 2)
    axes = flow.axes(op.inputs[source])
    (axis,) = flow.values.const(op.inputs[axis]) or (None,)
    if axis is None:
        flow.freeze_all(op)
        return
    vector = axes[axis]
    sizes = [flow.sizes(output)[axis] for output in op.outputs]
    if vector is None or sizes != [len(vector) // len(sizes)] * len(sizes):
        flow.freeze(vector, op)
        pieces = [None] * len(sizes)
    else:
        pieces = np.split(vector, len(sizes))
    for output, piece in zip(op.outputs, pieces):
        flow.unite(pieces[0], piece, op)
        axes[axis] = piece
        flow.put(output, axes)


@rule("Transpose")
def transpose(flow, op):
    axes = flow.axes(op.inputs[0])
    permutation = flow.values.const(op.inputs[1])
    if permutation is None:
        flow.freeze_all(op)
    else:
        flow.put(op.outputs[0], [axes[axis] for axis in permutation])


@rule("ExpandDims")
def expand(flow, op):
    axes = flow.axes(op.inputs[0])
    (axis,) = flow.values.const(op.inputs[1]) or (None,)
    if axis is None:
        flow.freeze_all(op)
        return
    axis %= len(axes) + 1
    flow.put(op.outputs[0], axes[:axis] + [None] + axes[axis:])


@rule("Squeeze")
def squeeze(flow, op):
    axes, sizes = flow.axes(op.inputs[0]), flow.sizes(op.inputs[0])
    gone = {axis % len(axes) for axis in op.get_attr("squeeze_dims")}
    if not gone and None in sizes:
        flow.freeze_all(op)
        return
    gone = gone or {axis for axis, size in enumerate(sizes) if size == 1}
    kept = [axis for axis in range(len(axes)) if axis not in gone]
    axes = flow.keep(op, axes, kept)
    flow.put(op.outputs[0], [axes[axis] for axis in kept])


@rule("Reshape")
def reshape(flow, op):
    """Passes axes that keep their size, repeats an axis that is merged with unlabelled
    ones, and freezes the rest: an axis that is split, or merged with another."""
    if op.outputs[0].shape.rank is None:
        flow.freeze_all(op)
        return
    axes, sizes = flow.axes(op.inputs[0]), flow.sizes(op.inputs[0])
    new_sizes = flow.target_sizes(op)
    output, matched = [None] * len(new_sizes), []
    for merged, axis in _merges(sizes, new_sizes):
        output[axis] = flow.merge([(axes[a], sizes[a]) for a in merged], op)
        matched.extend(merged)
    flow.keep(op, axes, matched)
    flow.agree(op, output, op.inputs[1])
    flow.put(op.outputs[0], output)


def _merges(sizes, new_sizes):
    """From the right: (neighbouring axes, the axis that a Reshape merges them into).

    [2, 7, 7, 8] -> [2, 392] gives ([1, 2, 3], 1) and ([0], 0); it ends where an axis
    is split or a size is unknown.
    """
    i, j = len(sizes) - 1, len(new_sizes) - 1
    while i >= 0 and j >= 0:
        if sizes[i] == 1:
            i -= 1
        elif new_sizes[j] == 1:
            j -= 1
        elif sizes[i] is None or new_sizes[j] is None:
            return
        else:
            merged, size = [], 1
            while i >= 0 and sizes[i] is not None and size < new_sizes[j]:
                size *= sizes[i]
                merged.insert(0, i)
                i -= 1
            if size != new_sizes[j]:
                return
            yield merged, j
            j -= 1


@rule("Mean", "Sum", "Max", "Min", "Prod", "All", "Any")
def reduction(flow, op):
    axes = flow.axes(op.inputs[0])
    reduced = flow.values.const(op.inputs[1])
    if reduced is None:
        flow.freeze_all(op)
        return
    reduced = {axis % len(axes) for axis in reduced}
    kept = [axis for axis in range(len(axes)) if axis not in reduced]
    axes = flow.keep(op, axes, kept)
    if not op.get_attr("keep_dims"):
        axes = [axes[axis] for axis in kept]
    flow.put(op.outputs[0], axes)


@rule("Slice", "StridedSlice")
def cut_out(flow, op):
    """Passes the axes that are taken whole."""
    axes, sizes = flow.axes(op.inputs[0]), flow.sizes(op.inputs[0])
    places = list(range(len(axes)))
    if op.type == "StridedSlice":
        strides = flow.values.const(op.inputs[3])
        if strides is None or min(strides, default=1) < 0:
            # Backwards, channels change places.
            flow.freeze_all(op)
            return
        places = _places(op, len(axes), len(strides))
    new_sizes = flow.sizes(op.outputs[0]) or [None] * len(places)
    whole = {
        axis
        for axis, new_size in zip(places, new_sizes)
        if axis is not None and sizes[axis] is not None and sizes[axis] == new_size
    }
    axes = flow.keep(op, axes, whole)
    flow.put(op.outputs[0], [None if a is None else axes[a] for a in places])


def _places(op, rank, count):
    """For each output axis of a StridedSlice its input axis, or None for a new one."""

    def flag(mask, position):
        return op.get_attr(mask + "_mask") >> position & 1

    dots = next((n for n in range(count) if flag("ellipsis", n)), count)
    new = sum(flag("new_axis", n) for n in range(count) if n != dots)
    hidden = rank - (count - new - (dots < count))
    places, axis = [], 0
    for position in range(count):
        if position == dots:
            places.extend(range(axis, axis + hidden))
            axis += hidden
        elif flag("new_axis", position):
            places.append(None)
        else:
            if not flag("shrink_axis", position):
                places.append(axis)
            axis += 1
    return places + list(range(axis, rank))


@rule("Pack")
def pack(flow, op):
    axes = flow.broadcast(op, list(op.inputs))
    axis = op.get_attr("axis") % (len(axes) + 1)
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
    multiples = flow.values.of(op.inputs[1]) or []
    kept = [axis for axis, multiple in enumerate(multiples) if multiple.value == 1]
    flow.put(op.outputs[0], flow.keep(op, axes, kept))


@rule("GatherV2", "Gather", "ResourceGather")
def lookup(flow, op):
    """A table is never cut. What is added to its rows is frozen by it, and says so."""
    flow.freeze_all(op)
    axes, rank = flow.axes(op.inputs[0]), op.inputs[1].shape.rank
    axis = flow.values.const(op.inputs[2]) if op.type == "GatherV2" else [0]
    if axis == [0] and not op.node_def.attr["batch_dims"].i:
        flow.put(op.outputs[0], [None] * rank + axes[1:])


@rule("Merge", "RefMerge")
def merge(flow, op):
    """The branches of a conditional hand on the same channels."""
    flow.put(op.outputs[0], flow.broadcast(op, list(op.inputs)))


@rule("Fill", "RandomUniform", "RandomStandardNormal", "TruncatedNormal")
def made_to_size(flow, op):
    """Zeros as large as another tensor have its channels."""
    output = [None] * (op.outputs[0].shape.rank or 0)
    for axis, element in enumerate(flow.values.of(op.inputs[0]) or ()):
        if element.labels is not None and len(element.labels) == element.value:
            output[axis] = element.labels
    flow.agree(op, output, op.inputs[0])
    flow.put(op.outputs[0], output)


@rule("Shape", "Size", "Rank")
def no_labels(flow, op):
    """Puts out nothing that has channels; sizes are followed by `flow.values`."""


# Ops whose inputs have the axes of the output, counted from the back.
ALIGNED = frozenset(
    op_type
    for op_type, function in RULES.items()
    if function in (elementwise, select, merge, concat)
)
# {op type: inputs that are vectors with an entry for each channel}.
CHANNEL_PARAMETERS = {
    "BiasAdd": (1,),
    **{
        op_type: (1, 2, 3, 4)
        for op_type, function in RULES.items()
        if function is batch_norm
    },
}
# {op type: input that holds sizes of what it puts out, maybe as literals}.
SIZE_OPERAND = {**SHAPE_OPERAND, "Slice": 2, "SplitV": 1}
