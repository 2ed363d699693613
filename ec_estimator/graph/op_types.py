"""What each type of op is and does: one table, for all that walks a graph.

A kernel goes from its variable to its layer by

    variable > references or handles > a read > its value, handed on > layer

A reference variable (VariableV2) puts out a reference, a resource variable
(VarHandleOp) a handle. HANDS_ON takes either further, as it does a value: into
conditionals by Switch, into loops by Enter. A reference is read by whatever takes it as
a value, mostly an Identity named `read`; a handle by ReadVariableOp. graph/walk.py goes
this way forth and back.

Rooms have tables of their own for what they alone ask: the channel rules
(channels/rules/), what keeps zeros or signs, what an engine quantizes. Such a table
is made of these where it includes them.
"""
VARIABLE_OPS = ("VariableV2", "Variable", "VarHandleOp", "AutoReloadVariable")
# Where data comes into a graph: the beginnings of their types' names.
FEEDS = ("Placeholder", "IteratorGetNext", "QueueDequeue", "Unstage", "PyFunc")

# Into a conditional, by its condition (input 1), and into a loop. What leaves them,
# Merge and Exit, has a value of several sources or of several turns.
SWITCHES = ("Switch", "RefSwitch")
ENTERS = ("Enter", "RefEnter")
# Input 0 comes out as it is: a value, a reference or a handle. RefIdentity is what
# control_flow_ops.with_dependencies makes of a reference, RefSwitch and RefEnter what
# `variable.read_value()` makes inside a conditional or loop.
HANDS_ON = ("Identity", "RefIdentity", *SWITCHES, *ENTERS)
# From a handle to the value. A reference needs none.
READS = ("ReadVariableOp",)
# The same values in another precision or rounded: zeros stay zeros. Not in HANDS_ON: a
# variable cannot be written through them, and two networks that differ in them are two.
CASTS = ("Cast",)
FAKE_QUANTIZES = (
    *("FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars"),
    "FakeQuantWithMinMaxVarsPerChannel",
)
# The same entries in the same order, in another shape.
RESHAPES = ("Reshape", "Squeeze", "ExpandDims")
# Input 0's entries at other places, or none of them elsewhere than zero.
MOVES = ("Identity", *RESHAPES, "Transpose", "Pad", "PadV2")

# Rows of a table, by their numbers. Their gradient is one of single rows, so a table is
# neither masked nor cut, wherever else it is read. channels/rules/ has a rule for
# those with plain numbers of rows; the others freeze all that they read.
LOOKUPS = (
    *("Gather", "GatherV2", "GatherNd", "ResourceGather", "ResourceGatherNd"),
    *("SparseSegmentSum", "SparseSegmentSumWithNumSegments"),
    *("SparseSegmentMean", "SparseSegmentMeanWithNumSegments"),
    *("SparseSegmentSqrtN", "SparseSegmentSqrtNWithNumSegments"),
)
# They look at a tensor's shape, not at its values.
SHAPE_OPS = (
    *("Shape", "ShapeN", "Size", "Rank", "VariableShape"),
    *("ZerosLike", "OnesLike"),
)
# They take a reference or a handle and leave the variable as it is.
LEAVES_UNCHANGED = (
    *HANDS_ON,
    *READS,
    *LOOKUPS,
    *SHAPE_OPS,
    *("IsVariableInitialized", "VarIsInitializedOp", "Save", "SaveSlices", "SaveV2"),
)
# What writes a variable, input 0 -> the input that changes it. Not the Apply ops of
# optimizers, whose arguments have names, and none that writes single entries.
ASSIGNMENTS = {
    "Assign": 1,
    "AssignAdd": 1,
    "AssignSub": 1,
    "AssignVariableOp": 1,
    "AssignAddVariableOp": 1,
    "AssignSubVariableOp": 1,
}
# The optimizers' ops that take a gradient: the beginnings of their types' names.
APPLIES = ("Apply", "ResourceApply")
SPARSE_APPLIES = ("SparseApply", "ResourceSparseApply")
# Into an accumulator, input 0, of gradients, and out of it: the mean of so many.
SENDS_GRADIENTS = (
    *("AccumulatorApplyGradient", "ResourceAccumulatorApplyGradient"),
    "SparseAccumulatorApplyGradient",
)
TAKES_GRADIENTS = (
    *("AccumulatorTakeGradient", "ResourceAccumulatorTakeGradient"),
    "SparseAccumulatorTakeGradient",
)
RESTORES = ("RestoreV2", "Restore", "RestoreSlice")
# They hand their inputs to function bodies, the last to the last argument.
CALLS = (
    *("PartitionedCall", "StatefulPartitionedCall", "RemoteCall"),
    *("If", "StatelessIf", "Case", "While", "StatelessWhile", "For"),
)

# The layers, and which input of each can hold the kernel. A matrix product may have
# it on either side.
LAYER_OPS = {
    "Conv2D": (1,),
    "Conv3D": (1,),
    "DepthwiseConv2dNative": (1,),
    "Conv2DBackpropInput": (1,),
    "MatMul": (1, 0),
    "SparseMatMul": (1, 0),
    "BatchMatMul": (1, 0),
    "BatchMatMulV2": (1, 0),
}
# Which axes of a convolution's kernel are its output channels. A depthwise one puts out
# each input channel so many times.
OUTPUT_AXES = {
    "Conv2D": (3,),
    "Conv3D": (4,),
    "DepthwiseConv2dNative": (2, 3),
    # The transposed convolution stores [height, width, out, in].
    "Conv2DBackpropInput": (2,),
}
