"""Rules of ops that join tensors, or take parts of them: where positions may move."""
import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.channels.rules.table import rule


@rule("Pad", "PadV2", "MirrorPad")
def pad(flow, op):
    """Passes the axes that nothing is added to; where a literal number is, positions
    would move, so that axis freezes."""
    axes = flow.axes(op.inputs[0])
    paddings = tf.get_static_value(op.inputs[1])
    kept = []
    if paddings is not None:
        kept = [axis for axis in range(len(axes)) if not np.any(paddings[axis])]
    flow.put(op.outputs[0], flow.keep(op, axes, kept))


@rule("ConcatV2")
def concat(flow, op):
    """Joins the labels along the axis, where a part without labels is frozen, and
    unites the parts position by position along the other axes."""
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
    joined[axis] = _join(flow, rows, op)
    flow.put(op.outputs[0], joined)


def _join(flow, parts, op):
    """[(vector or None, size)] in a row; a part without labels is frozen."""
    if any(vector is None and size is None for vector, size in parts):
        for vector, _ in parts:
            flow.freeze(vector, op)
        return None
    if all(vector is None for vector, _ in parts):
        return None
    vectors = []
    for vector, size in parts:
        if vector is None:
            vector = flow.new(size)
            flow.freeze(vector, op)
        vectors.append(vector)
    return np.concatenate(vectors)


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


@rule("Slice", "StridedSlice")
def cut_out(flow, op):
    """Passes the axes that are taken whole, forwards. The borders of others are
    literals in user code and would move, so those axes freeze."""
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
    """Unites the parts position by position; the new axis has no labels."""
    axes = flow.broadcast(op, list(op.inputs))
    axis = op.get_attr("axis") % (len(axes) + 1)
    flow.put(op.outputs[0], axes[:axis] + [None] + axes[axis:])


@rule("Unpack")
def unpack(flow, op):
    """Passes all axes but the one that is taken apart; that is frozen: user code counts
    the pieces."""
    axes = flow.axes(op.inputs[0])
    axis = op.get_attr("axis") % len(axes)
    flow.freeze(axes[axis], op)
    for output in op.outputs:
        flow.put(output, axes[:axis] + axes[axis + 1 :])


@rule("Tile")
def tile(flow, op):
    """Passes the axes that are repeated once; the others would be repeated in another
    size, and freeze."""
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
