"""Frozen graphs, float and fake-quant, as TensorFlow itself runs them.

    model.pb        without fake-quant ops; what TensorRT, MNN and others convert
    fake_quant.pb   of a quantized model: with the ops that it was trained with
    io.json         {file: {"inputs" or "outputs": {key: tensor name}}}
"""
import json
import os

import tensorflow.compat.v1 as tf

from ec_estimator.core.atomic import write_atomically
from ec_estimator.export.format import Format
from ec_estimator.export.handoff_data import check_tables


class FrozenGraphFormat(Format):
    """Writes GraphDefs without variables."""

    name = "frozen_graph"

    def write(self, model, signature, folder, samples):
        graphs = {"model.pb": model}
        if model.fake_quant is not None:
            graphs["fake_quant.pb"] = model.fake_quant
        names = {}
        for file, frozen in graphs.items():
            check_tables(self.name, frozen.graph_def)
            with open(os.path.join(folder, file), "wb") as stream:
                stream.write(frozen.graph_def.SerializeToString(deterministic=True))
            ends = frozen.signatures[signature]
            names[file] = {
                "inputs": {key: port.tensor for key, port in ends.inputs.items()},
                "outputs": {key: port.tensor for key, port in ends.outputs.items()},
            }
        path = os.path.join(folder, "io.json")
        write_atomically(path, json.dumps(names, indent=1) + "\n")
        return (*graphs, "io.json")

    def run(self, folder, inputs):
        """Runs the graph that answers as the model does: fake_quant.pb, if it has."""
        with open(os.path.join(folder, "io.json")) as stream:
            names = json.load(stream)
        file = max(names, key=("model.pb", "fake_quant.pb").index)
        graph_def = tf.GraphDef()
        with open(os.path.join(folder, file), "rb") as stream:
            graph_def.ParseFromString(stream.read())
        with tf.Graph().as_default(), tf.Session() as session:
            tf.import_graph_def(graph_def, name="")
            tensors = names[file]["inputs"]
            return session.run(
                names[file]["outputs"],
                {tensors[key]: array for key, array in inputs.items()},
            )
