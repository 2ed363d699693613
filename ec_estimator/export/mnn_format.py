"""Writes models for MNN: in float, int8 (also Winograd's), and with sparse blocks."""
import json
import os

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.core.atomic import write_atomically
from ec_estimator.core.errors import RunFolderError
from ec_estimator.export.format import ExportError, Format
from ec_estimator.export.mnn_check import check_layers
from ec_estimator.export.mnn_layers import prepare
from ec_estimator.export.mnn_params import compression_params
from ec_estimator.export.mnn_process import convert, infer
from ec_estimator.export.mnn_sparse import sparse_block

MODEL, PORTS = "model.mnn", "ports.json"
# MNN has no 64-bit integers, and takes these as 32-bit ones.
_NARROWED = {tf.int64: np.int32}
_INPUTS = (tf.float32, tf.int32, tf.int64, tf.uint8)


class MnnFormat(Format):
    """`model.mnn`, and `ports.json` with the names of its inputs and outputs.

    A quantized model's layers compute with the integers that it was trained with; what
    a layer puts out, too, with the scale of the layer that reads it, or one that its
    values in the samples just fit into. Convolutions and MatMuls that were trained
    quantized and that MNN cannot compute so are an error; products of two activations
    stay in float, and a warning says so.
    """

    name = "mnn"

    def refuse_training(self, config):
        if config.bits == 1 and config.signed is not False:
            return (
                "MNN's integers have a 0 between -1 and +1: QuantizerConfig.bits of 2 "
                "or more, or signed=False"
            )
        return ""

    def write(self, model, signature, folder, samples):
        ports = _served(model.signatures[signature])
        outputs = [port.tensor for port in ports.outputs.values()]
        part = tf.graph_util.extract_sub_graph(
            model.graph_def, [tensor.split(":")[0] for tensor in outputs]
        )
        reached = {node.name for node in part.node}
        inputs = {
            key: port
            for key, port in ports.inputs.items()
            if port.tensor.split(":")[0] in reached
        }
        _check_samples(inputs, samples)
        with tf.Graph().as_default() as graph, tf.Session() as session:
            tf.import_graph_def(part, name="")
            find = graph.get_tensor_by_name
            feeds = {find(port.tensor): samples[key] for key, port in inputs.items()}
            asked = [find(tensor) for tensor in outputs]
            prepared = prepare(session, model, asked, feeds)
            asked = [
                _first_output(prepared.results.get(tensor, tensor)) for tensor in asked
            ]
            block = sparse_block(session)
            part = tf.graph_util.extract_sub_graph(graph.as_graph_def(), asked)
        if prepared.left:
            tf.logging.warning(
                "mnn: %s stay in float: MNN has no integer form of them",
                ", ".join(prepared.left),
            )
        path = os.path.join(folder, MODEL)
        named = [layer for names in prepared.layers for layer in names]
        convert(part, compression_params(named, block), bool(block), path)
        check_layers(prepared.layers, path)
        names = {key: port.tensor.split(":")[0] for key, port in inputs.items()}
        dtypes = [
            port.dtype.as_numpy_dtype().dtype.name for port in ports.outputs.values()
        ]
        described = {
            "inputs": names,
            "outputs": dict(zip(ports.outputs, asked)),
            "dtypes": dict(zip(ports.outputs, dtypes)),
        }
        write_atomically(os.path.join(folder, PORTS), json.dumps(described, indent=2))
        return MODEL, PORTS

    def run(self, folder, inputs):
        ports = _read_ports(os.path.join(folder, PORTS))
        given = {}
        for key, name in ports["inputs"].items():
            array = np.asarray(inputs[key])
            narrowed = _NARROWED.get(tf.as_dtype(array.dtype), array.dtype)
            if array.dtype.kind in "iu" and np.any(array.astype(narrowed) != array):
                raise ExportError(
                    f"mnn: input {key!r} has numbers that {narrowed} does not hold"
                )
            given[name] = array.astype(narrowed)
        names = list(ports["outputs"].values())
        answers = infer(os.path.join(folder, MODEL), given, names)
        return {
            key: answers[name].astype(ports["dtypes"][key])
            for key, name in ports["outputs"].items()
        }


def _served(signature):
    """A signature as far as MNN has types for it."""
    for key, port in signature.inputs.items():
        if port.dtype not in _INPUTS:
            raise ExportError(
                f"mnn: input {key!r} is of {port.dtype.name}, and MNN reads numbers "
                "only; export with a serving_input_receiver_fn that takes the parsed "
                "features, or choose another signature"
            )
    outputs = {k: p for k, p in signature.outputs.items() if p.dtype != tf.string}
    if not outputs:
        raise ExportError(
            f"mnn: outputs {sorted(signature.outputs)} are strings, and MNN puts out "
            "numbers only; choose a signature that has numbers"
        )
    left = sorted(set(signature.outputs) - set(outputs))
    if left:
        tf.logging.warning("mnn: outputs %s are strings, and left out", left)
    return signature._replace(outputs=outputs)


def _check_samples(inputs, samples):
    if not set(inputs) <= set(samples):
        raise ExportError(
            "mnn: there are no examples of what is served, which integers' ranges are "
            "taken from; give the exporter an input_fn with its inputs"
        )


def _first_output(tensor):
    """The name of the op that a tensor is the first output of: MNN knows no other."""
    if tensor.value_index:
        raise ExportError(
            f"mnn: output {tensor.name!r} is not the first of its op; give it out "
            "through an op of its own, such as tf.reshape"
        )
    return tensor.op.name


def _read_ports(path):
    try:
        with open(path, encoding="utf-8") as file:
            ports = json.load(file)
        for part in ("inputs", "outputs", "dtypes"):
            if not all(isinstance(name, str) for name in ports[part].values()):
                raise ValueError(f"{part!r} are no names")
        if set(ports["outputs"]) != set(ports["dtypes"]):
            raise ValueError("'outputs' and 'dtypes' differ")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunFolderError(
            f"{path!r} is damaged ({type(error).__name__}: {error}); export again"
        ) from error
    return ports
