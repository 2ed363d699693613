"""What is quantized in a graph, read from its ops alone: nothing here is the package's.

The layers of a graph are a set of tuples, one for each kind of reader:

    (kernel, its step size, that of the activation)     a layer with a kernel
    ("", that of operand 0, that of operand 1)          a product of two activations

A step size has the name of its quantizer, from `ec_estimator/quantization/<name>/step`;
FLOAT where an operand is not quantized.
"""
import collections
import re

import numpy as np
import tensorflow.compat.v1 as tf

FLOAT = "float"
MODES = tf.estimator.ModeKeys
EXPORT = "export"
_STEP = re.compile("^ec_estimator/quantization/(.+)/step$")
_NOT_FORWARD = re.compile(r"(^|/)gradients(_\d+)?/|^ec_estimator/")
_LAYERS = (
    *("MatMul", "BatchMatMul", "BatchMatMulV2"),
    *("Conv2D", "DepthwiseConv2dNative", "Conv2DBackpropInput"),
)
_MOVES = (
    *("Identity", "IdentityN", "Reshape", "Squeeze", "ExpandDims", "Transpose"),
    *("Pad", "PadV2", "Enter", "RefEnter", "Switch", "RefSwitch", "ReadVariableOp"),
)
_VARIABLES = ("VariableV2", "VarHandleOp")


def in_training(estimator):
    """Counter of the layers of the graph that trained, of its newest .meta file."""
    path = tf.train.latest_checkpoint(estimator.model_dir)
    with tf.Graph().as_default() as graph:
        tf.train.import_meta_graph(f"{path}.meta")
    return layers(graph)


def in_mode(estimator, input_fn, mode):
    """Counter of the layers of the graph that evaluates or predicts."""
    with tf.Graph().as_default() as graph:
        tf.train.create_global_step()
        made = input_fn()
        if isinstance(made, tf.data.Dataset):
            made = tf.data.make_initializable_iterator(made).get_next()
        features, labels = made
        if mode == MODES.PREDICT:
            labels = None
        estimator.model_fn(features, labels, mode, estimator.config)
    return layers(graph)


def in_export(estimator, path):
    """Counter of the layers of a SavedModel, whose ranges are constants: a step size is
    the one of the checkpoint with their values."""
    reader = tf.train.load_checkpoint(estimator.model_dir)
    steps = {
        _STEP.match(name).group(1): reader.get_tensor(name)
        for name in sorted(reader.get_variable_to_shape_map())
        if _STEP.match(name)
    }
    with tf.Graph().as_default() as graph, tf.Session() as session:
        tf.saved_model.load(session, ["serve"], path)
        return layers(graph, lambda op: _step_of_constants(op, steps))


def everywhere(estimator, input_fn, path):
    """{mode: Counter of its layers} of a model that trained and was exported."""
    return {
        MODES.TRAIN: in_training(estimator),
        MODES.EVAL: in_mode(estimator, input_fn, MODES.EVAL),
        MODES.PREDICT: in_mode(estimator, input_fn, MODES.PREDICT),
        EXPORT: in_export(estimator, path),
    }


def compressed(found):
    """The set of layers that are quantized, and of those that read one of their kernels
    as it is: in no mode may there be another."""
    kernels = {layer[0] for layer in found if is_quantized(layer) and layer[0]}
    return {layer for layer in found if is_quantized(layer) or layer[0] in kernels}


def is_quantized(layer):
    """Whether a kernel, or a product of two activations, is quantized: activations that
    some layer reads quantized are so for all of their readers."""
    kernel, *steps = layer
    return steps[0] != FLOAT if kernel else FLOAT not in steps


def assert_same(found):
    """The same is quantized, with the same step sizes, in every mode.

    Returns:
      compressed(), that of every mode.
    """
    expected = compressed(found[MODES.PREDICT])
    for mode, layers_of_mode in found.items():
        others = compressed(layers_of_mode)
        lacking, more = sorted(expected - others), sorted(others - expected)
        assert others == expected, f"{mode} lacks {lacking} and has {more} instead"
    return expected


def layers(graph, step_of=None):
    """Counter of the layers of a graph's forward pass.

    Args:
      step_of: callable(a fake-quant op) -> its step size's name; by default that of the
        variable behind its range.
    """
    step_of = step_of or (lambda op: _step_behind(op.inputs[-1]))
    found = collections.Counter()
    for op in graph.get_operations():
        if op.type not in _LAYERS or _NOT_FORWARD.search(op.name):
            continue
        tensors = op.inputs[1:] if op.type == "Conv2DBackpropInput" else op.inputs
        operands = [_operand(tensor, step_of) for tensor in tensors]
        kernels = [kernel for kernel, _ in operands if kernel]
        # The kernel first, on whichever side it is.
        operands.sort(key=lambda operand: not operand[0])
        found[(*kernels[:1], *[""][len(kernels) :], *(s for _, s in operands))] += 1
    return found


def _operand(tensor, step_of):
    """(kernel's name or "", step size's name or FLOAT) of what a layer reads."""
    op = _source(tensor)
    if op.type == "Mul" and op.inputs[0].op.type == "FakeQuantWithMinMaxArgs":
        # Training divides kernels by their steps, and multiplies what is rounded.
        ratio = op.inputs[0].op.inputs[0].op
        return _kernel(ratio.inputs[0]), step_of(op)
    if op.type.startswith("FakeQuant"):
        return _kernel(op.inputs[0]), step_of(op)
    return _kernel(tensor), FLOAT


def _kernel(tensor):
    op = _source(tensor)
    if op.type == "ConcatV2":  # A partitioned variable.
        parts = {_kernel(part) for part in list(op.inputs)[:-1]}
        return parts.pop() if len(parts) == 1 else ""
    return re.sub(r"/part_\d+$", "", op.name) if op.type in _VARIABLES else ""


def _source(tensor):
    """The op whose values come in, wherever they have been moved to."""
    while tensor.op.type in _MOVES:
        op = tensor.op
        tensor = op.inputs[tensor.value_index if op.type == "IdentityN" else 0]
    return tensor.op


def _step_behind(tensor):
    """The nearest step size that a range is computed from: what it falls back to, while
    none is fitted, comes from further away."""
    seen, queue = set(), collections.deque([tensor.op])
    while queue:
        op = queue.popleft()
        if op.type in _VARIABLES and _STEP.match(op.name):
            return _STEP.match(op.name).group(1)
        for read in op.inputs:
            if read.op not in seen:
                seen.add(read.op)
                queue.append(read.op)
    raise AssertionError(f"{tensor.name} comes from no step size")


def _step_of_constants(op, steps):
    low, high = (tf.get_static_value(_source(t).outputs[0]) for t in op.inputs[1:])
    count = 2 ** op.get_attr("num_bits") - 1 - op.get_attr("narrow_range")
    step = (high - low) / count
    names = [
        name
        for name, value in steps.items()
        if value.shape == step.shape and np.allclose(value, step, rtol=1e-5, atol=0)
    ]
    # Equal by chance: then the constants' own name tells.
    [name] = [n for n in names if len(names) == 1 or f"/{n}/max" in op.inputs[2].name]
    return name
