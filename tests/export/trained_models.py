"""Models of six kinds, trained on scikit-learn's digits and compressed in every form.

Answers of random weights lie close together; what a served model gets wrong shows in
one that has learnt something.
"""
import os

import numpy as np
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from examples import cifar10_model, digits_model
from tests.shrink.networks import encoder

# Of the dense training, and of each that follows it.
DENSE_STEPS, STEPS = 200, 80
# Those that are slow to learn take longer: answers of what has learnt little lie close
# together, and a rounding decides between them.
LONGER = {"transformer": 4, "resnet20": 2}
# The test images, each moved by a pixel in four directions.
SAMPLES = 2000
BATCH = 32


def resnet20(x, training):
    return cifar10_model.network(tf.tile(x, [1, 1, 1, 3]), training)


def mobile_net(x, training):
    """Depthwise separable convolutions, batch norm, ReLU6."""

    def norm(x):
        return tf.nn.relu6(
            tf.layers.batch_normalization(x, training=training, momentum=0.9)
        )

    x = norm(tf.layers.conv2d(x, 16, 3, padding="same", use_bias=False))
    for number, (width, stride) in enumerate([(32, 1), (64, 2), (64, 1), (128, 2)]):
        shape = [3, 3, x.shape[3].value, 1]
        kernel = tf.get_variable(f"depthwise_{number}/kernel", shape)
        x = norm(tf.nn.depthwise_conv2d(x, kernel, [1, stride, stride, 1], "SAME"))
        x = norm(tf.layers.conv2d(x, width, 1, use_bias=False))
    return tf.layers.dense(tf.reduce_mean(x, [1, 2]), 10, name="head")


def vgg(x, training):
    del training
    for widths in ([16], [32], [64, 64]):
        for width in widths:
            x = tf.layers.conv2d(x, width, 3, padding="same", activation=tf.nn.relu)
        x = tf.layers.max_pooling2d(x, 2, 2)
    x = tf.layers.dense(tf.layers.flatten(x), 64, tf.nn.relu)
    return tf.layers.dense(x, 10, name="head")


def embeddings(x, training):
    """Of each pixel its grey, 0 to 15, by a table; three layers above."""
    del training
    greys = tf.cast(x[:, ::2, ::2, 0] * 15.0, tf.int32)
    table = tf.get_variable("table", [16, 4])
    x = tf.layers.flatten(tf.nn.embedding_lookup(table, greys))
    for _ in range(2):
        x = tf.layers.dense(x, 64, tf.nn.relu)
    return tf.layers.dense(x, 10, name="head")


def transformer(x, training):
    """Reads the rows of an image as words."""
    del training
    # Not squeezed nor reshaped: TFLite's converter leaves that away.
    words = tf.reduce_sum(x, 3)
    words += tf.get_variable("positions", words.shape[1:])
    return tf.layers.dense(encoder(words, 32, 4), 10, name="head")


def u_net(x, training):
    """Tells ink from paper where the image was blurred."""
    del training

    def conv(x, width):
        return tf.layers.conv2d(x, width, 3, padding="same", activation=tf.nn.relu)

    def down(x):
        return tf.layers.max_pooling2d(x, 2, 2)

    def up(x, width):
        return tf.layers.conv2d_transpose(x, width, 2, 2, activation=tf.nn.relu)

    fine = conv(tf.layers.average_pooling2d(x, 2, 1, "same"), 16)
    coarse = conv(down(fine), 32)
    x = conv(down(coarse), 64)
    x = conv(tf.concat([up(x, 32), coarse], -1), 32)
    x = conv(tf.concat([up(x, 16), fine], -1), 16)
    return tf.layers.conv2d(x, 2, 1, name="head")


NETWORKS = {
    n.__name__: n for n in (resnet20, mobile_net, vgg, embeddings, u_net, transformer)
}


def model_fn_of(network):
    def model_fn(features, labels, mode):
        logits = network(features["x"], mode == tf.estimator.ModeKeys.TRAIN)
        if mode == tf.estimator.ModeKeys.PREDICT:
            predictions = {"logits": logits}
            if logits.shape.rank == 4:
                predictions["classes"] = tf.argmax(logits, -1, output_type=tf.int32)
            return tf.estimator.EstimatorSpec(mode, predictions=predictions)
        if logits.shape.rank == 4:
            labels = tf.cast(features["x"][..., 0] > 0.5, tf.int32)
        loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
        accuracy = tf.metrics.accuracy(labels, tf.argmax(logits, -1))
        optimizer = tf.train.AdamOptimizer(2e-3)
        with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
            train_op = optimizer.minimize(loss, tf.train.get_global_step())
        return tf.estimator.EstimatorSpec(
            mode,
            loss=loss,
            train_op=train_op,
            eval_metric_ops={"accuracy": accuracy},
        )

    return model_fn


def _images(images):
    """`[n, 8, 8]` of 0 to 16 to `[n, 16, 16, 1]` of 0 to 1."""
    return np.kron(images / 16, np.ones([1, 2, 2]))[..., None].astype(np.float32)


def _moved(images):
    """Each by a pixel to the left, to the right, up and down."""
    return np.concatenate(
        [np.roll(images, by, axis) for axis in (1, 2) for by in (-1, 1)]
    )


def train_input_fn():
    (images, labels), _ = digits_model.load_data()
    images = _images(images)
    images = np.concatenate([images, _moved(images)])
    data = tf.data.Dataset.from_tensor_slices(({"x": images}, np.tile(labels, 5)))
    return data.shuffle(len(images), seed=1).repeat().batch(BATCH, True)


def eval_input_fn():
    _, (images, labels) = digits_model.load_data()
    data = ({"x": _moved(_images(images))}, np.tile(labels, 4))
    return tf.data.Dataset.from_tensor_slices(data).batch(100)


def receiver():
    x = tf.placeholder(tf.float32, [None, 16, 16, 1], "x")
    return tf.estimator.export.ServingInputReceiver({"x": x}, {"x": x})


def _schedule(trials):
    return {"step_interval": STEPS // 2 // trials, "num_trials": trials}


def _quantizer(**settings):
    return ec.LSQQuantizer(ec.QuantizerConfig(**_schedule(2), **settings))


# What ONNX Runtime and OpenVINO are fast with, what TensorRT asks for, and what leaves
# answers in float in MNN.
FAST, SIGNED = {"signed": "auto", "post_quant": True}, {"signed": True}


def _mnn(name):
    return {**FAST, "exclude_scopes": ("dense" if name == "resnet20" else "head",)}


# Makers by form, of what is given a network's name.
_COMPRESSORS = {
    "sparse": lambda name: ec.Sparsifier(
        ec.SparsifierConfig(
            target_sparse_ratio=0.6, sparse_block_shape=(1, 4), **_schedule(4)
        )
    ),
    "pruning": lambda name: ec.Pruner(
        ec.PrunerConfig(compression_ratio=0.5, ratio_metric="macs", **_schedule(4))
    ),
    "int8": lambda name: _quantizer(**FAST),
    "int8_signed": lambda name: _quantizer(**SIGNED),
    "int8_mnn": lambda name: _quantizer(**_mnn(name)),
    "winograd": lambda name: _quantizer(int8_winograd=True, **_mnn(name)),
}
FORMS = (
    *("dense", "sparse", "pruned", "int8", "int8_signed", "int8_mnn", "winograd"),
    *("pruned_int8", "pruned_int8_signed", "pruned_int8_mnn"),
)
HAS_WINOGRAD = ("resnet20", "vgg", "u_net")


class Trained:
    """The networks in a folder; what is trained is trained once."""

    def __init__(self, folder):
        self._folder = folder
        self._estimators = {}

    def estimator(self, name, form):
        """A trained Estimator of a network in a form."""
        if (name, form) not in self._estimators:
            self._estimators[name, form] = self._train(name, form)
        return self._estimators[name, form]

    def _train(self, name, form):
        model_fn, start = model_fn_of(NETWORKS[name]), None
        steps = DENSE_STEPS if form == "dense" else STEPS
        steps *= LONGER.get(name, 1)
        if form.startswith("pruned"):
            # The small network, with what it has left.
            pruning = self.estimator(name, "pruning").model_dir
            model_fn = ec.finetune(model_fn, pruning)
        elif form != "dense":
            start = ec.warm_start(self.estimator(name, "dense").model_dir)
        compressor = _COMPRESSORS.get(form.replace("pruned_", ""))
        if compressor is not None:
            model_fn = ec.compress(model_fn, compressor(name))
        run = tf.estimator.RunConfig(
            os.path.join(self._folder, name, form),
            tf_random_seed=1,
            save_checkpoints_steps=steps,
        )
        made = tf.estimator.Estimator(model_fn, config=run, warm_start_from=start)
        return made.train(train_input_fn, max_steps=steps)
