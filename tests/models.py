"""The models of the tests: model_fns as users write them, without compression in them.

Each entry of MODELS makes an Estimator and its input; all are deterministic.
"""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.contrib import rnn, slim
from tensorflow.contrib.slim import arg_scope
from tensorflow.contrib.slim.nets import inception, resnet_v1

ONE_THREAD = tf.ConfigProto(
    intra_op_parallelism_threads=1, inter_op_parallelism_threads=1
)
CLASSES = 5
BATCH = 2


def run_config(model_dir, **kwargs):
    kwargs.setdefault("save_checkpoints_steps", 5)
    return tf.estimator.RunConfig(
        model_dir, tf_random_seed=7, session_config=ONE_THREAD, **kwargs
    )


def dataset(shape, batch=BATCH, name="x"):
    """An input_fn over fixed random features, repeated for ever in one order."""

    def input_fn():
        random = np.random.RandomState(1)
        x = random.standard_normal((4 * batch,) + shape).astype(np.float32)
        y = random.randint(0, CLASSES, 4 * batch)
        return tf.data.Dataset.from_tensor_slices(({name: x}, y)).repeat().batch(batch)

    return input_fn


def classifier(network, shape, optimizer=None):
    """(model_fn, input_fn) around network(features, training) -> logits."""

    def model_fn(features, labels, mode):
        training = mode == tf.estimator.ModeKeys.TRAIN
        logits = network(features["x"], training)
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.EstimatorSpec(
                mode,
                predictions={"logits": logits, "probabilities": tf.nn.softmax(logits)},
            )
        entropy = tf.losses.sparse_softmax_cross_entropy(labels, logits)
        loss = tf.losses.get_total_loss()
        if not training:
            metrics = {
                "accuracy": tf.metrics.accuracy(labels, tf.argmax(logits, 1)),
                "cross_entropy": tf.metrics.mean(entropy),
            }
            return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops=metrics)
        make = optimizer or (lambda: tf.train.MomentumOptimizer(0.01, 0.9))
        with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
            train_op = make().minimize(loss, tf.train.get_global_step())
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    return model_fn, dataset(shape)


def _layers_network(x, training):
    x = tf.layers.conv2d(
        x,
        16,
        3,
        use_bias=False,
        kernel_regularizer=lambda w: 1e-3 * tf.nn.l2_loss(w),
    )
    x = tf.nn.relu(tf.layers.batch_normalization(x, training=training))
    x = tf.layers.separable_conv2d(x, 18, 3, activation=tf.nn.relu)
    x = tf.layers.conv2d_transpose(x, 12, 3, activation=tf.nn.relu)
    x = tf.layers.dropout(tf.layers.flatten(x), 0.3, training=training)
    return tf.layers.dense(x, CLASSES)


def _resnet_network(x, training):
    with arg_scope(resnet_v1.resnet_arg_scope()):
        logits, _ = resnet_v1.resnet_v1_50(x, CLASSES, is_training=training)
    return tf.squeeze(logits, [1, 2])


def _inception_network(x, training):
    with arg_scope(inception.inception_v3_arg_scope()):
        logits, ends = inception.inception_v3(x, CLASSES, is_training=training)
    # The auxiliary head trains only.
    if training:
        tf.losses.add_loss(0.4 * tf.reduce_mean(ends["AuxLogits"] ** 2))
    return logits


def _slim_network(x, training):
    """What the two large ones have: a unit of slim's ResNet, a head that trains only,
    and dropout before the last layer, which is a convolution."""
    with arg_scope(resnet_v1.resnet_arg_scope()):
        block = resnet_v1.resnet_v1_block("block", base_depth=4, num_units=1, stride=2)
        x, _ = resnet_v1.resnet_v1(x, [block], None, training, global_pool=False)
        if training:
            auxiliary = slim.conv2d(
                x, CLASSES, 1, normalizer_fn=None, scope="AuxLogits"
            )
            tf.losses.add_loss(0.4 * tf.reduce_mean(auxiliary**2))
        x = tf.reduce_mean(x, [1, 2], keepdims=True)
        x = slim.dropout(x, 0.8, is_training=training)
        x = slim.conv2d(
            x, CLASSES, 1, activation_fn=None, normalizer_fn=None, scope="logits"
        )
    return tf.squeeze(x, [1, 2])


def _raw_network(x, training):
    w1 = tf.get_variable("w1", [3, 3, 3, 8])
    w2 = tf.get_variable("w2", [8, 20])
    w3 = tf.get_variable("w3", [CLASSES, 20])
    x = tf.nn.relu(tf.nn.conv2d(x, w1, 2, "SAME"))
    x = tf.nn.relu(tf.matmul(tf.reduce_mean(x, [1, 2]), w2))
    return tf.matmul(x, w3, transpose_b=True)


def _keras_layers_network(x, training):
    x = tf.keras.layers.Conv2D(8, 3, activation="relu")(x)
    x = tf.keras.layers.BatchNormalization()(x, training=training)
    x = tf.keras.layers.Flatten()(x)
    x = tf.keras.layers.Dense(
        16, "relu", kernel_regularizer=tf.keras.regularizers.l2(1e-3)
    )(x)
    return tf.keras.layers.Dense(CLASSES)(x)


def _rnn_network(x, training):
    outputs, _ = tf.nn.dynamic_rnn(rnn.BasicLSTMCell(12), x, dtype=tf.float32)
    cell = tf.nn.rnn_cell.MultiRNNCell([tf.nn.rnn_cell.GRUCell(9)])
    outputs, _ = tf.nn.dynamic_rnn(cell, outputs, dtype=tf.float32, scope="second")
    return tf.layers.dense(outputs[:, -1], CLASSES)


def _rank3_network(x, training):
    x = tf.layers.dense(x, 16, tf.nn.relu)
    scores = tf.matmul(x, x, transpose_b=True)
    x = tf.matmul(tf.nn.softmax(scores), x)
    return tf.layers.dense(tf.reduce_mean(x, 1), CLASSES)


def _conv1d_network(x, training):
    x = tf.layers.conv1d(x, 16, 3, activation=tf.nn.relu)
    return tf.layers.dense(tf.layers.flatten(x), CLASSES)


def _placeholder_network(x, training):
    training = tf.placeholder_with_default(training, [], "is_training")
    x = tf.layers.conv2d(x, 8, 3, use_bias=False)
    x = tf.nn.relu(tf.layers.batch_normalization(x, training=training))
    return tf.layers.dense(tf.layers.flatten(x), CLASSES)


def _from_network(network, shape, optimizer=None):
    def make(model_dir, wrap, **config):
        model_fn, input_fn = classifier(network, shape, optimizer)
        estimator = tf.estimator.Estimator(
            wrap(model_fn), config=run_config(model_dir, **config)
        )
        return estimator, input_fn

    return make


def _functional_keras(model_dir, wrap, **config):
    # Names of layers count on from what was built before.
    tf.keras.backend.clear_session()
    inputs = tf.keras.Input((8, 8, 3), name="x")
    x = tf.keras.layers.Conv2D(8, 3, activation="relu")(inputs)
    x = tf.keras.layers.Flatten()(x)
    x = tf.keras.layers.Dense(16, "relu")(x)
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(CLASSES, "softmax")(x))
    model.compile(tf.keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    estimator = tf.keras.estimator.model_to_estimator(
        model, config=run_config(model_dir, **config)
    )
    tf.keras.backend.clear_session()
    return _rewrapped(estimator, wrap), dataset((8, 8, 3))


def _columns():
    words = tf.feature_column.categorical_column_with_identity("word", 50)
    deep = [
        tf.feature_column.embedding_column(words, 8),
        tf.feature_column.numeric_column("x", (6,)),
    ]
    return words, deep


def _column_input():
    random = np.random.RandomState(1)
    x = random.standard_normal((16, 6)).astype(np.float32)
    features = {"x": x, "word": random.randint(0, 50, (16, 1))}
    labels = random.randint(0, CLASSES, 16)
    data = tf.data.Dataset.from_tensor_slices((features, labels))
    return data.repeat().batch(BATCH)


def _dnn(model_dir, wrap, **config):
    _, deep = _columns()
    estimator = tf.estimator.DNNClassifier(
        [32, 16],
        deep,
        n_classes=CLASSES,
        optimizer=lambda: tf.train.AdagradOptimizer(0.05),
        config=run_config(model_dir, **config),
    )
    return _rewrapped(estimator, wrap), _column_input


def _wide_and_deep(model_dir, wrap, **config):
    words, deep = _columns()
    estimator = tf.estimator.DNNLinearCombinedClassifier(
        linear_feature_columns=[words],
        dnn_feature_columns=deep,
        dnn_hidden_units=[32, 16],
        n_classes=CLASSES,
        input_layer_partitioner=tf.min_max_variable_partitioner(2, min_slice_size=64),
        config=run_config(model_dir, **config),
    )
    # The partitioner of the parameter-server case: every kernel is in two parts.
    return _rewrapped(estimator, wrap, tf.fixed_size_partitioner(2)), _column_input


def _rewrapped(estimator, wrap, partitioner=None):
    """What a user does who has an Estimator that somebody else's code made."""
    inner = estimator.model_fn

    def model_fn(features, labels, mode, config):
        scope = tf.get_variable_scope()
        with tf.variable_scope(scope, partitioner=partitioner):
            return inner(features, labels, mode, config)

    return tf.estimator.Estimator(wrap(model_fn), config=estimator.config)


MODELS = {
    "layers": _from_network(_layers_network, (9, 9, 3)),
    "slim": _from_network(_slim_network, (16, 16, 3)),
    # At 32 pixels its last batch norms see one pixel an example, and it diverges.
    "resnet_v1_50": _from_network(_resnet_network, (64, 64, 3)),
    "inception_v3": _from_network(_inception_network, (107, 107, 3)),
    "raw": _from_network(_raw_network, (8, 8, 3), lambda: tf.train.AdamOptimizer()),
    "keras_layers": _from_network(_keras_layers_network, (8, 8, 3)),
    "keras_estimator": _functional_keras,
    "dnn": _dnn,
    "wide_and_deep": _wide_and_deep,
    "dynamic_rnn": _from_network(_rnn_network, (6, 10)),
    "rank3_dense": _from_network(_rank3_network, (6, 10)),
    "conv1d": _from_network(_conv1d_network, (12, 6)),
    "batch_norm_placeholder": _from_network(_placeholder_network, (8, 8, 3)),
}


# "slim" is their smaller twin.
LARGE = ("resnet_v1_50", "inception_v3")
NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name
    for name in MODELS
]


def unwrapped(model_fn):
    return model_fn
