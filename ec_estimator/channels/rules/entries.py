"""Rules of ops that work entry by entry, or within each channel."""

from ec_estimator.channels.rules.table import rule


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
    """Input n is handed on as output n."""
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
    """The channels of the input pass; each goes with its entry of the bias."""
    axes = flow.axes(op.inputs[0])
    axis = flow.channel_axis(op)
    bias = flow.axes(op.inputs[1])[0]
    axes[axis] = flow.unite(axes[axis], bias, op, op.inputs[1])
    flow.put(op.outputs[0], axes)


@rule("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def batch_norm(flow, op):
    """The channels pass, united with their scales, offsets and statistics; the other
    axes are summed over and frozen."""
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


@rule(
    *("MaxPool", "MaxPoolV2", "AvgPool", "MaxPool3D", "AvgPool3D"),
    *("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "ResizeArea"),
)
def spatial(flow, op):
    """Works within each channel: these pass. Axes of pixels freeze, and all do where it
    works over channels."""
    axis = flow.channel_axis(op)
    axes = flow.keep(op, flow.axes(op.inputs[0]), (axis,))
    if flow.sizes(op.outputs[0])[axis] != flow.sizes(op.inputs[0])[axis]:
        # Pooling over channels.
        flow.freeze_all(op)
    else:
        flow.put(op.outputs[0], axes)


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
