"""What PAI-Blade takes, which runs in Alibaba Cloud only.

    frozen.pb       the model in float, without fake-quant ops
    saved_model/    the model as it was trained, fake-quant ops included
    io.json         names, shapes and dtypes of inputs and outputs
    calib_data.npz, test_data.npz    {tensor name: examples} of the eval input
    scales.json     what training quantized, and to which integers
    sparsity.json   how the zeros of each kernel lie
    optimize.py     makes the call

No public document says how Blade reads trained scales or blocks of zeros, so they are
in the folder for whoever knows.

Source of what its report says:
  alibabacloud.com/help/en/pai/user-guide/optimization-report
"""
import inspect
import os

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.export import blade_optimize
from ec_estimator.export.format import EngineMissing, Format
from ec_estimator.export.handoff_data import (
    check_tables,
    quantized_tensors,
    tensor_name,
    write_examples,
    write_io,
    write_json,
)
from ec_estimator.export.samples import batch_size
from ec_estimator.export.zeros import find_zeros

_SCRIPT = "optimize.py"


class BladeFormat(Format):
    """Writes any model, in float, and what is known of its integers and zeros."""

    name = "blade"

    def write(self, model, signature, folder, samples):
        for frozen in filter(None, (model, model.fake_quant)):
            check_tables(self.name, frozen.graph_def)
        ends = model.signatures[signature]
        examples = {ends.inputs[key].tensor: array for key, array in samples.items()}
        size = batch_size(ends)
        files = list(write_examples(folder, self.name, examples, size))
        with open(os.path.join(folder, "frozen.pb"), "wb") as file:
            file.write(model.graph_def.SerializeToString())
        with open(os.path.join(folder, _SCRIPT), "w", encoding="utf-8") as file:
            file.write(inspect.getsource(blade_optimize))
        _write_saved_model(
            os.path.join(folder, "saved_model"), model.fake_quant or model, signature
        )
        zeros = {
            op: found._asdict() for op, found in find_zeros(model.graph_def).items()
        }
        return (
            *files,
            "frozen.pb",
            _SCRIPT,
            os.path.join("saved_model", tf.saved_model.SAVED_MODEL_FILENAME_PB),
            write_io(folder, ends),
            write_json(folder, "scales.json", _scales(model)),
            write_json(folder, "sparsity.json", zeros),
        )

    def run(self, folder, inputs):
        raise EngineMissing(
            f"blade: it runs in Alibaba Cloud only; take the folder there, run "
            f"{_SCRIPT} and compare what it reports"
        )


def _write_saved_model(path, model, signature):
    with tf.Graph().as_default() as graph, tf.Session() as session:
        tf.import_graph_def(model.graph_def, name="")
        inputs, outputs = (
            {
                key: tf.saved_model.build_tensor_info(
                    graph.get_tensor_by_name(port.tensor)
                )
                for key, port in ports.items()
            }
            for ports in model.signatures[signature]
        )
        served = tf.saved_model.build_signature_def(
            inputs, outputs, tf.saved_model.PREDICT_METHOD_NAME
        )
        builder = tf.saved_model.Builder(path)
        builder.add_meta_graph_and_variables(
            session, [tf.saved_model.SERVING], {signature: served}
        )
        builder.save()


def _scales(model):
    """{"scales": {name: integers and steps}, "kernels": {layer's op: {tensor: name}},
    "activations": {tensor: [name]}}"""
    nodes = {node.name: node for node in model.graph_def.node}
    return {
        "scales": {
            name: {**scale._asdict(), "steps": np.asarray(scale.steps).tolist()}
            for name, scale in model.scales.items()
        },
        "kernels": {
            op: {
                tensor_name(nodes[op].input[layer.weights.index]): (
                    layer.weights.quantizer
                )
            }
            for op, layer in model.layers.items()
            if layer.weights
        },
        "activations": {
            tensor: sorted(names) for tensor, names in quantized_tensors(model).items()
        },
    }
