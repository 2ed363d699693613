"""Models that are trained for a few steps and written as ONNX, for the tests of it."""
import os

import numpy as np
import onnx
import onnxruntime
import tensorflow.compat.v1 as tf
from onnx import numpy_helper

import ec_estimator as ec
from ec_estimator.core.finished import FOLDER
from ec_estimator.core.folder import RunFolder
from ec_estimator.export.frozen_model import freeze_model
from ec_estimator.export.onnx_format import FILE, OnnxFormat
from tests import models
from tests.shrink.networks import IMAGE, SMALL

# Engines add in another order than TensorFlow, relative to the largest answer. A sum
# that lies between two integers may be rounded to the other one: that example is off.
ROUNDING, ON_THE_GRID, A_STEP = 1e-5, 0.5, 0.05
FAST = dict(signed="auto", post_quant=True)


def estimator_of(network, folder, wrap):
    """(Estimator, input_fn) of a model of the tests, or of a network for images."""
    if callable(network):
        make = models._from_network(network, IMAGE)
    else:
        make = models.MODELS.get(network) or models._from_network(*SMALL[network])
    return make(str(folder), wrap)


def quantizer(**kwargs):
    config = ec.QuantizerConfig(**{"step_interval": 2, "num_trials": 2, **kwargs})
    return ec.LSQQuantizer(config)


def sparsifier():
    return ec.Sparsifier(ec.SparsifierConfig(step_interval=1, num_trials=2))


class Run:
    """A trained model: frozen, and as its SavedModel answers.

    model: frozen_model.FrozenModel; signature: key of it; inputs: {key: array}.
    """

    def __init__(self, estimator, input_fn, folder, examples=32):
        estimator.train(input_fn, max_steps=4)
        self._estimator = estimator
        self.inputs = _examples(input_fn, examples)
        self.checkpoint = estimator.latest_checkpoint()
        self.model = freeze_model(estimator, self._receiver, self.checkpoint)
        self.signature = next(
            name
            for name, signature in self.model.signatures.items()
            if set(signature.inputs) == set(self.inputs)
        )
        self._folder = str(folder)

    def _receiver(self):
        given = {
            name: tf.placeholder(value.dtype, (None,) + value.shape[1:], name=name)
            for name, value in self.inputs.items()
        }
        return tf.estimator.export.ServingInputReceiver(given, given)

    def reference(self):
        """What the model answers as it was trained, fake-quant ops and all."""
        path = self._estimator.export_saved_model(
            os.path.join(self._folder, "saved"), self._receiver
        )
        with tf.Graph().as_default(), tf.Session() as session:
            loaded = tf.saved_model.load(session, ["serve"], path.decode())
            signature = loaded.signature_def[self.signature]
            feeds = {signature.inputs[k].name: v for k, v in self.inputs.items()}
            outputs = {k: info.name for k, info in signature.outputs.items()}
            return session.run(outputs, feeds)

    def planned_kernels(self):
        """The kernels that are compressed, of the checkpoint."""
        run = RunFolder(os.path.join(self._estimator.model_dir, FOLDER))
        reader = tf.train.load_checkpoint(self.checkpoint)
        return [reader.get_tensor(n) for n in run.read_json("plan.json")["kernels"]]

    def write(self, target):
        """(OnnxFormat, the folder it wrote to, onnx.ModelProto)."""
        folder = os.path.join(self._folder, target)
        os.makedirs(folder)
        made = OnnxFormat(target)
        files = made.write(self.model, self.signature, folder, self.inputs)
        assert files == (FILE,)
        return made, folder, onnx.load(os.path.join(folder, FILE))


def run_of(network, folder, *compressors):
    def wrap(model_fn):
        return ec.compress(model_fn, list(compressors)) if compressors else model_fn

    return Run(*estimator_of(network, folder, wrap), folder)


def _examples(input_fn, count):
    """Of the shapes of the input; floats are drawn anew."""
    with tf.Graph().as_default(), tf.Session() as session:
        dataset = input_fn().take(1)
        features, _ = session.run(tf.data.make_one_shot_iterator(dataset).get_next())
    random = np.random.RandomState(3)
    return {
        name: random.standard_normal((count,) + value.shape[1:]).astype(np.float32)
        if value.dtype == np.float32
        else random.randint(0, 50, (count,) + value.shape[1:]).astype(value.dtype)
        for name, value in features.items()
    }


def evaluate(folder, inputs):
    """What a file says, op by op: nothing is made one integer op of."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = (
        onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    )
    session = onnxruntime.InferenceSession(
        os.path.join(folder, FILE), options, providers=["CPUExecutionProvider"]
    )
    names = [port.name for port in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs)))


def assert_same(answers, expected, share=1.0):
    """Of all outputs but strings, that share of the examples is the same."""
    expected = {k: v for k, v in expected.items() if v.dtype.kind != "O"}
    assert set(answers) == set(expected)
    for name, value in expected.items():
        assert answers[name].shape == value.shape
        assert answers[name].dtype == value.dtype
        off = np.abs(answers[name].astype(float) - value).reshape(len(value), -1)
        limit = ROUNDING * np.abs(value).max()
        assert np.mean(off.max(1) <= limit) >= share, (name, off.max(), limit)
        assert off.max() <= A_STEP * np.abs(value).max(), (name, off.max())


def initializers(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def count(model, op_type):
    return sum(node.op_type == op_type for node in model.graph.node)


def kernels(model):
    """{output name of a layer's node: (integers, scales, axis)} of those quantized."""
    arrays = initializers(model)
    made = {node.output[0]: node for node in model.graph.node}
    found = {}
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
            kernel = made.get(node.input[1])
            if kernel is not None and kernel.input[0] in arrays:
                integers, scales, _ = (arrays[name] for name in kernel.input)
                axis = next(a.i for a in kernel.attribute if a.name == "axis")
                found[node.output[0]] = integers, scales, axis
    return found
