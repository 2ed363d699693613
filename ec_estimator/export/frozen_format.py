"""Frozen graphs, float and fake-quant, as TensorFlow itself runs them.

    model.pb        without fake-quant ops; what TensorRT, MNN and others convert
    fake_quant.pb   of a quantized model: with the ops that it was trained with
    io.json         names, shapes and dtypes of model.pb's inputs and outputs
    fake_quant_io.json    of fake_quant.pb's
"""
import os

import tensorflow.compat.v1 as tf

from ec_estimator.export.format import Format
from ec_estimator.export.handoff_data import IO, check_tables, read_io, write_io

_FLOAT, _FAKE_QUANT, _FAKE_QUANT_IO = "model.pb", "fake_quant.pb", "fake_quant_io.json"


class FrozenGraphFormat(Format):
    """Writes GraphDefs without variables."""

    name = "frozen_graph"

    def write(self, model, signature, folder, samples):
        graphs = [(_FLOAT, IO, model)]
        if model.fake_quant is not None:
            graphs.append((_FAKE_QUANT, _FAKE_QUANT_IO, model.fake_quant))
        files = []
        for file, ends_file, frozen in graphs:
            check_tables(self.name, frozen.graph_def)
            with open(os.path.join(folder, file), "wb") as stream:
                stream.write(frozen.graph_def.SerializeToString(deterministic=True))
            write_io(folder, frozen.signatures[signature], ends_file)
            files += [file, ends_file]
        return tuple(files)

    def run(self, folder, inputs):
        """Runs the graph that answers as the model does: fake_quant.pb, if it has."""
        file, ends_file = _FAKE_QUANT, _FAKE_QUANT_IO
        if not os.path.exists(os.path.join(folder, file)):
            file, ends_file = _FLOAT, IO
        graph_def = tf.GraphDef()
        with open(os.path.join(folder, file), "rb") as stream:
            graph_def.ParseFromString(stream.read())
        ends = read_io(folder, ends_file)
        names, asked = (
            {key: port["tensor"] for key, port in ends[side].items()}
            for side in ("inputs", "outputs")
        )
        with tf.Graph().as_default(), tf.Session() as session:
            tf.import_graph_def(graph_def, name="")
            return session.run(
                asked, {names[key]: array for key, array in inputs.items()}
            )
