"""A checkpoint's model in float, as a frozen graph, with what is quantized beside it.

What engines read. A quantized model is handed over without fake-quant ops: each format
has its own way to say where a tensor is rounded, and to which integers.
"""
import os
import tempfile
from typing import Any, Dict, FrozenSet, NamedTuple, Optional, Tuple

import tensorflow.compat.v1 as tf

from ec_estimator.core import tf_private
from ec_estimator.core.errors import RunFolderError
from ec_estimator.core.finished import FOLDER
from ec_estimator.core.folder import RunFolder
from ec_estimator.core.model_fn import uncompressed
from ec_estimator.core.state import SCOPE, open_checkpoint
from ec_estimator.graph.op_types import VARIABLE_OPS
from ec_estimator.quantization.match import Binding
from ec_estimator.quantization.placement import QuantizedLayer, read_placement
from ec_estimator.quantization.quantizer import check_found

NAME = "quantization"


class Scale(NamedTuple):
    """The integers of a tensor, and what they stand for.

    bits: 1 to 8; low, high: the smallest and the largest integer, low < 0 where it is
      signed; at one bit, signed, they are {-1, +1}.
    steps: float32 `[]`, or `[channels]` of a kernel's output channels.
    """

    bits: int
    low: int
    high: int
    steps: Any


class Signature(NamedTuple):
    """inputs, outputs: {key: TensorInfo's name, shape (None where unknown), dtype}."""

    inputs: Dict[str, "Port"]
    outputs: Dict[str, "Port"]


class Port(NamedTuple):
    """A tensor of a signature; size: tuple with None where it is unknown, or None."""

    tensor: str
    size: Optional[Tuple[Optional[int], ...]]
    dtype: tf.DType


class FrozenModel(NamedTuple):
    """A model that predicts.

    graph_def: tf.GraphDef without variables; kernels are Const ops named as the
      variables were.
    signatures: {name: Signature}.
    layers: {op name in graph_def: quantization.placement.QuantizedLayer}, those that
      are quantized; `weights.index` and `activations[i].index` are inputs of the op,
      their `quantizer` a key of scales.
    outputs: {tensor name: key of scales}, what else is quantized (post_quant).
    scales: {quantizer name: Scale}.
    variables: names of the Const ops that were variables.
    fake_quant: FrozenModel of the same with the fake-quant ops that it was trained
      with, where a HandoffExporter has one that is quantized; it has no layers.
    """

    graph_def: Any
    signatures: Dict[str, Signature]
    layers: Dict[str, QuantizedLayer]
    outputs: Dict[str, str]
    scales: Dict[str, Scale]
    variables: FrozenSet[str] = frozenset()
    fake_quant: Optional["FrozenModel"] = None


def freeze_model(estimator, receiver_fn, checkpoint_path):
    """Freezes what an Estimator's own model_fn predicts, without fake-quant ops.

    Args:
      estimator: tf.estimator.Estimator, compressed or not.
      receiver_fn: as Estimator.export_saved_model takes it.
      checkpoint_path: a checkpoint of it.

    Returns:
      FrozenModel.

    Raises:
      PlanError: a layer that was trained quantized is not in the graph.
      RunFolderError: the run's folder or the checkpoint is damaged.
    """
    model_fn = tf_private.model_fn_of(estimator)
    plain = tf_private.with_model_fn(estimator, uncompressed(model_fn))
    run = RunFolder(os.path.join(estimator.model_dir, FOLDER))
    stored = run.details().get(NAME)
    placement = read_placement(stored) if stored is not None else None
    with tempfile.TemporaryDirectory() as folder:
        path = plain.export_saved_model(
            folder, receiver_fn, checkpoint_path=checkpoint_path
        )
        return _freeze(path.decode(), placement, checkpoint_path)


def freeze_saved_model(path):
    """Freezes a SavedModel as it is, fake-quant ops included.

    Returns:
      FrozenModel without layers and scales.
    """
    return _freeze(path, None, None)


def _freeze(path, placement, checkpoint_path):
    with tf.Graph().as_default() as graph, tf.Session() as session:
        meta_graph = tf.saved_model.load(session, [tf.saved_model.SERVING], path)
        layers, outputs, scales = {}, {}, {}
        if placement is not None:
            binding = Binding(graph, placement)
            layers = {op.name: layer for op, layer in binding.find().items()}
            check_found(binding, binding.missing(), "in the graph that is exported")
            outputs = {
                op.outputs[0].name: output.quantizer
                for output in placement.outputs
                for op in binding.outputs[output.tensor]
            }
            scales = _scales(placement, checkpoint_path)
        signatures = {
            name: Signature(_ports(s.inputs), _ports(s.outputs))
            for name, s in meta_graph.signature_def.items()
            if s.method_name != "__saved_model_init_op"
        }
        ends = {
            port.tensor.split(":")[0]
            for signature in signatures.values()
            # An input that no output needs is served all the same.
            for port in (*signature.inputs.values(), *signature.outputs.values())
        }
        graph_def = tf.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), sorted(ends)
        )
        kept = {node.name for node in graph_def.node}
        variables = frozenset(
            op.name
            for op in graph.get_operations()
            if op.type in VARIABLE_OPS and op.name in kept
        )
    return FrozenModel(graph_def, signatures, layers, outputs, scales, variables)


def _scales(placement, checkpoint_path):
    reader = open_checkpoint(checkpoint_path)
    scales = {}
    for name, quantizer in placement.quantizers.items():
        variable = f"{SCOPE}/{NAME}/{name}/step"
        if not reader.has_tensor(variable):
            raise RunFolderError(
                f"checkpoint {checkpoint_path!r} has no {variable!r}, the step size "
                "that the run's plan asks for; export a checkpoint of that run"
            )
        steps = reader.get_tensor(variable)
        scales[name] = Scale(quantizer.bits, quantizer.low, quantizer.high, steps)
    return scales


def _ports(tensors):
    return {
        key: Port(info.name, _size(info.tensor_shape), tf.as_dtype(info.dtype))
        for key, info in tensors.items()
    }


def _size(shape):
    if shape.unknown_rank:
        return None
    return tuple(None if d.size == -1 else int(d.size) for d in shape.dim)
