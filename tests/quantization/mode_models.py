"""Models that are built otherwise in TRAIN than in EVAL or PREDICT, as users do it."""
import numpy as np
import tensorflow.compat.v1 as tf

MODES = tf.estimator.ModeKeys
ROWS, BATCH = 16, 8


def dataset(batch=BATCH, static=False, **features):
    """An input_fn over features `[ROWS, ...]`, once; labels are 0, 1, 2."""
    labels = np.random.RandomState(1).randint(0, 3, ROWS).astype(np.int32)

    def input_fn():
        data = tf.data.Dataset.from_tensor_slices((features, labels))
        return data.repeat(2).batch(batch, drop_remainder=static)

    return input_fn


def normal(*shape, seed=0):
    return np.random.RandomState(seed).normal(size=(ROWS, *shape)).astype(np.float32)


def spec(mode, predicted, loss=None):
    """Of a model that trains with Adam."""
    if mode == MODES.PREDICT:
        return tf.estimator.EstimatorSpec(mode, {"y": predicted})
    train_op = None
    if mode == MODES.TRAIN:
        train_op = tf.train.AdamOptimizer(0.01).minimize(
            loss, tf.train.get_global_step()
        )
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def classifier(mode, logits, labels):
    if mode == MODES.PREDICT:
        return spec(mode, logits)
    tf.losses.sparse_softmax_cross_entropy(labels, logits)
    return spec(mode, logits, tf.losses.get_total_loss())


def two_layers(x, name="net"):
    with tf.variable_scope(name, reuse=tf.AUTO_REUSE):
        x = tf.layers.dense(x, 12, tf.nn.relu, name="Hidden")
        return tf.layers.dense(x, 3, name="Out")


def plain(features, labels, mode):
    hidden = tf.layers.dense(features["x"], 12, tf.nn.relu, name="Hidden")
    return classifier(mode, tf.layers.dense(hidden, 3, name="Out"), labels)


def siamese(features, labels, mode):
    """Three copies of a network where it trains and is evaluated, one in PREDICT."""
    anchor = two_layers(features["anchor"])
    if mode == MODES.PREDICT:
        return spec(mode, anchor)
    near, far = (
        tf.reduce_sum((anchor - two_layers(features[name])) ** 2, 1)
        for name in ("positive", "negative")
    )
    return spec(mode, anchor, tf.reduce_mean(tf.nn.relu(1.0 + near - far)))


def towers(features, labels, mode):
    """Half of a batch each, gradients averaged: the second is built when those of the
    first are there."""
    if mode != MODES.TRAIN:
        return classifier(mode, two_layers(features["x"]), labels)
    optimizer = tf.train.AdamOptimizer(0.01)
    losses, gradients = [], []
    halves = zip(tf.split(features["x"], 2), tf.split(labels, 2))
    for index, (x, y) in enumerate(halves):
        with tf.name_scope(f"tower_{index}"):
            logits = two_layers(x)
            losses.append(tf.losses.sparse_softmax_cross_entropy(y, logits))
            gradients.append(optimizer.compute_gradients(losses[-1]))
    averages = [
        (tf.add_n([gradient for gradient, _ in pairs]) / len(pairs), pairs[0][1])
        for pairs in zip(*gradients)
    ]
    train_op = optimizer.apply_gradients(averages, tf.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=tf.add_n(losses), train_op=train_op)


def attend(x, dropout=0.0, residual=False):
    """Attention over `[batch, time, 8]` by tf.matmul."""
    q, k, v = (tf.layers.dense(x, 8, name=name) for name in "qkv")
    weights = tf.nn.softmax(tf.matmul(q, k, transpose_b=True))
    if dropout:
        weights = tf.nn.dropout(weights, rate=dropout)
    y = tf.matmul(weights, v)
    if dropout and residual:
        y = tf.nn.dropout(y, rate=dropout)
    return x + y if residual else y


def attention(one_more=None, served=False):
    """A model_fn with a product more in one mode, before those of the attention.

    Args:
      one_more: the mode, or None.
      served: whether PREDICT puts it out, or only a summary takes it.
    """

    def model_fn(features, labels, mode):
        x, product = features["x"], None
        if mode == one_more:
            product = tf.reduce_mean(tf.matmul(x, x, transpose_b=True), [1, 2])
            tf.summary.scalar("likeness", tf.reduce_mean(product))
            if mode != MODES.PREDICT:
                tf.losses.add_loss(1e-3 * tf.reduce_mean(product))
        logits = tf.layers.dense(tf.layers.flatten(attend(x)), 3, name="Out")
        made = classifier(mode, logits, labels)
        if served and product is not None:
            made.predictions["likeness"] = product
        return made

    return model_fn


def attention_with_dropout(features, labels, mode):
    rate = 0.3 if mode == MODES.TRAIN else 0.0
    x = tf.layers.dense(features["x"], 8, tf.nn.relu, name="In")
    x = tf.layers.flatten(attend(x, rate, residual=True))
    x = tf.layers.dropout(x, 0.3, training=mode == MODES.TRAIN)
    return classifier(mode, tf.layers.dense(x, 3, name="Out"), labels)


def pixels(features, labels, mode):
    """Takes bytes, floats from 0 to 255 (as `raw`) or floats from 0 to 1 (as `x`)."""
    if "raw" in features:
        x = tf.cast(features["raw"], tf.float32) / 255.0
    else:
        x = features["x"]
    hidden = tf.layers.dense(x, 12, tf.nn.relu, name="Hidden")
    return classifier(mode, tf.layers.dense(hidden, 3, name="Out"), labels)


def heads_by_einsum(features, labels, mode):
    with tf.variable_scope("heads"):
        w = tf.get_variable("w", [8, 2, 4])
    x = tf.nn.relu(tf.einsum("bsd,dhk->bshk", features["x"], w))
    logits = tf.layers.dense(tf.reduce_mean(x, [1, 3]), 3, name="Out")
    return classifier(mode, logits, labels)


TOKENS, TIME, BEAMS = 3, 4, 2


def _decode(tokens, memory):
    """Logits `[batch, time, TOKENS]` of what follows tokens `[batch, time]`."""
    with tf.variable_scope("decoder", reuse=tf.AUTO_REUSE):
        table = tf.get_variable("embedding", [TOKENS, 8])
        x = tf.nn.embedding_lookup(table, tokens)
        query = tf.layers.dense(x, 8, name="query")
        weights = tf.nn.softmax(tf.matmul(query, memory, transpose_b=True))
        x = tf.concat([x, tf.matmul(weights, memory)], 2)
        return tf.layers.dense(x, TOKENS, name="Out")


def translation(features, labels, mode):
    """An encoder and a decoder with attention: taught, in PREDICT a beam search."""
    memory = tf.layers.dense(features["x"], 8, tf.nn.relu, name="encoder")
    target = tf.tile(labels[:, None], [1, TIME]) if labels is not None else None
    if mode != MODES.PREDICT:
        logits = _decode(target, memory)
        loss = tf.losses.sparse_softmax_cross_entropy(target, logits)
        return spec(mode, logits, loss)
    return spec(mode, _beam_search(memory))


def _beam_search(memory):
    """[batch, BEAMS], the scores of the best sequences."""
    batch = tf.shape(memory)[0]
    # One row after the other for each beam of a sentence.
    memory = tf.reshape(tf.tile(memory[:, None], [1, BEAMS, 1, 1]), [-1, TIME, 8])
    first = tf.range(batch)[:, None] * BEAMS

    def step(turn, tokens, scores):
        logits = _decode(tokens, memory)[:, -1]
        found = tf.reshape(tf.nn.log_softmax(logits), [batch, BEAMS, TOKENS])
        found = tf.reshape(found + scores[:, :, None], [batch, BEAMS * TOKENS])
        scores, chosen = tf.nn.top_k(found, BEAMS)
        kept = tf.gather(tokens, tf.reshape(first + chosen // TOKENS, [-1]))
        tokens = tf.concat([kept, tf.reshape(chosen % TOKENS, [-1, 1])], 1)
        return turn + 1, tokens, scores

    start = tf.zeros([batch * BEAMS, 1], tf.int32)
    # All beams begin alike: all but one are out at first.
    scores = tf.tile([[0.0] + [-1e9] * (BEAMS - 1)], [batch, 1])
    _, _, scores = tf.while_loop(
        lambda turn, *_: turn < TIME,
        step,
        [0, start, scores],
        [tf.TensorShape([])] + [tf.TensorShape([None, n]) for n in (None, BEAMS)],
    )
    return scores


def adversarial(features, labels, mode):
    """A discriminator of real and of generated data, of features in PREDICT."""
    real = two_layers(features["x"], "discriminator")
    if mode == MODES.PREDICT:
        return spec(mode, real)
    if mode == MODES.EVAL:
        return spec(mode, real, tf.reduce_mean(tf.nn.softplus(-real)))
    with tf.variable_scope("generator"):
        noise = tf.random.normal(tf.shape(features["x"]), seed=1)
        generated = tf.layers.dense(tf.reshape(noise, [-1, 8]), 8, name="Out")
    fake = two_layers(generated, "discriminator")
    loss = tf.reduce_mean(tf.nn.softplus(-real) + tf.nn.softplus(fake))
    deceived = tf.reduce_mean(tf.nn.softplus(-fake))
    updates = [
        tf.train.AdamOptimizer(0.01).minimize(
            minimized, step, var_list=tf.trainable_variables(name)
        )
        for name, minimized, step in (
            ("discriminator", loss, tf.train.get_global_step()),
            ("generator", deceived, None),
        )
    ]
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=tf.group(*updates))


def two_levels(features, labels, mode):
    """A head that reads two levels of a network."""
    low = tf.layers.dense(features["x"], 8, tf.nn.relu, name="low")
    high = tf.layers.dense(low, 8, tf.nn.tanh, name="high")
    logits = 0.0
    for level in (low, high):
        with tf.variable_scope("head", reuse=tf.AUTO_REUSE):
            logits += tf.layers.dense(level, 3, name="Out")
    return classifier(mode, logits, labels)


def tied_autoencoder(features, labels, mode):
    """Serves its code; the decoder, with the same kernel transposed, only trains."""
    w = tf.get_variable("w", [8, 5])
    code = tf.nn.sigmoid(tf.matmul(features["x"], w))
    if mode != MODES.TRAIN:
        return spec(mode, code, tf.reduce_mean(code))
    decoded = tf.matmul(code, w, transpose_b=True)
    return spec(mode, code, tf.reduce_mean((decoded - features["x"]) ** 2))


def auxiliary(features, labels, mode):
    """A head that only trains."""
    hidden = tf.layers.dense(features["x"], 12, tf.nn.relu, name="Hidden")
    if mode == MODES.TRAIN:
        tf.losses.add_loss(tf.reduce_mean(tf.layers.dense(hidden, 3, name="Aux") ** 2))
    return classifier(mode, tf.layers.dense(hidden, 3, name="Out"), labels)


def without_layer_in(mode_without, activations=None):
    """A model_fn whose layer `Extra` is not built in one mode, and whose activation of
    `Hidden` may differ between modes.

    Args:
      activations: {mode: function}; tf.nn.relu where there is none.
    """

    def model_fn(features, labels, mode, params):
        activation = (activations or {}).get(mode, tf.nn.relu)
        x = tf.layers.dense(features["x"], 8, activation, name="Hidden")
        if params["extra"] and mode != mode_without:
            x = tf.layers.dense(x, 8, tf.nn.relu, name="Extra")
        return classifier(mode, tf.layers.dense(x, 3, name="Out"), labels)

    return model_fn
