"""Networks of each kind, compressed in each way, as MNN answers for them."""
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.export.mnn_format import MnnFormat
from examples import cifar10_model
from tests import models
from tests.export.onnx_runs import FAST, Run
from tests.shrink import networks


def u_net(x, training):
    """Goes down by pooling and up by a transposed convolution."""
    skip = tf.layers.conv2d(x, 8, 3, padding="same", activation=tf.nn.relu)
    x = tf.layers.max_pooling2d(skip, 2, 2)
    x = tf.layers.conv2d(x, 12, 3, padding="same", activation=tf.nn.relu)
    x = tf.layers.conv2d_transpose(x, 8, 2, 2, activation=tf.nn.relu)
    x = tf.layers.conv2d(tf.concat([skip, x], -1), 9, 3, activation=tf.nn.relu)
    return tf.layers.dense(tf.reduce_mean(x, [1, 2]), models.CLASSES)


def embeddings(x, training):
    """A DNN on two numbers and the rows that four whole numbers choose."""
    ids = tf.cast(tf.abs(x[:, :4]) * 10, tf.int32)
    table = tf.get_variable("table", [50, 8])
    rows = tf.reshape(tf.gather(table, tf.minimum(ids, 49)), [-1, 32])
    x = tf.concat([rows, x[:, 4:]], 1)
    for width in (32, 16):
        x = tf.layers.dense(x, width, tf.nn.relu)
    return tf.layers.dense(x, models.CLASSES)


# {name: (network, shape of an example)}.
NETWORKS = {
    "resnet20": (cifar10_model.network, (32, 32, 3)),
    "residual": (networks.residual, networks.IMAGE),
    "u_net": (u_net, networks.IMAGE),
    "transformer": (networks.transformer, networks.SEQUENCE),
    "mobile_net": (networks.mobile_net, networks.IMAGE),
    "vgg": (networks.vgg, networks.IMAGE),
    "embeddings": (embeddings, (6,)),
}


def _made(name, folder, wrap):
    """(Estimator, input_fn)."""
    return models._from_network(*NETWORKS[name])(str(folder), wrap)


def _finetuned(name, folder):
    """A wrapper of a model_fn, for the network with half the MACs."""
    pruner = ec.Pruner(
        ec.PrunerConfig(
            compression_ratio=0.5, ratio_metric="macs", step_interval=1, num_trials=1
        )
    )
    dense, input_fn = _made(name, folder, lambda m: ec.compress(m, pruner))
    dense.train(input_fn, max_steps=2)
    return lambda model_fn: ec.finetune(model_fn, dense.model_dir)


def _quantizer(network, **kwargs):
    """Of all but the head, whose answers MNN would round as well."""
    head = HEADS.get(network, "dense")
    config = ec.QuantizerConfig(
        step_interval=2, num_trials=2, exclude_scopes=(head,), **FAST, **kwargs
    )
    return ec.LSQQuantizer(config)


def _sparsifier(network):
    return ec.Sparsifier(
        ec.SparsifierConfig(
            target_sparse_ratio=0.6,
            sparse_block_shape=(1, 4),
            step_interval=1,
            num_trials=2,
        )
    )


# The last layer, of those that have several dense ones.
HEADS = {"transformer": "dense_13", "embeddings": "dense_2"}
# {name: (whether channels are gone, makes the compressor of what is left)}.
FORMS = {
    "dense": (False, None),
    "sparse": (False, _sparsifier),
    "pruned": (True, None),
    "int8": (False, _quantizer),
    "winograd": (False, lambda name: _quantizer(name, int8_winograd=True)),
    "pruned_int8": (True, _quantizer),
}


def run_of(name, form, folder, examples):
    """A trained Run of a network in a form."""
    is_pruned, compressor = FORMS[form]
    shrink = _finetuned(name, folder / "pruned") if is_pruned else models.unwrapped

    def wrap(model_fn):
        small = shrink(model_fn)
        return small if compressor is None else ec.compress(small, compressor(name))

    run = folder / "run"
    return Run(*_made(name, run, wrap), run, examples)


def answered(run, folder):
    """What MNN answers, and whose file is in the folder."""
    folder.mkdir()
    made = MnnFormat()
    made.write(run.model, run.signature, str(folder), run.inputs)
    return made.run(str(folder), run.inputs)
