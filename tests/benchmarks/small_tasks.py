"""Tasks of the small benchmarks: data, a network, and how long it trains.

Data are ((features, labels), (features, labels)), to train with and to test with, of
arrays with an example in each row.
"""
import csv
import functools
import os
import zlib
from typing import Any, Dict, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from examples import digits_model


class Task(NamedTuple):
    """load: callable(folder) -> data; network: callable(features, training) -> logits;
    batch; steps of each half; rates: {optimizer: peak learning rate}."""

    load: Any
    network: Any
    batch: int
    steps: int
    rates: Dict[str, float]


def _load_digits(folder):
    del folder  # They come with scikit-learn.
    return [({"image": x}, labels) for x, labels in digits_model.load_data()]


def _digits_network(features, training):
    return digits_model.network(features["image"], training)


_NUMBERS = (
    "age",
    "education_num",
    "capital_gain",
    "capital_loss",
    "hr_per_week",
)
_CATEGORIES = (
    "type_employer",
    "education",
    "marital",
    "occupation",
    "relationship",
    "race",
    "sex",
    "country",
)
# Rows of the embedding table, for the hashes of (column, category).
_CENSUS_ROWS = 1000


@functools.lru_cache()
def _load_census(folder):
    train, test = (
        _census_columns(os.path.join(folder, name))
        for name in ("train.csv", "eval.csv")
    )
    mean = train[0]["numbers"].mean(0)
    deviation = train[0]["numbers"].std(0)
    for features, _ in (train, test):
        features["numbers"] = (features["numbers"] - mean) / deviation
    return train, test


def _census_columns(path):
    with open(path) as file:
        rows = list(csv.DictReader(file))
    numbers = [[np.log1p(float(row[name])) for name in _NUMBERS] for row in rows]
    categories = [
        [_hashed(f"{name}={row[name]}", _CENSUS_ROWS) for name in _CATEGORIES]
        for row in rows
    ]
    features = {
        "numbers": np.array(numbers, np.float32),
        "categories": np.array(categories, np.int32),
    }
    return features, np.array([row["income"] == ">50K" for row in rows], np.int32)


def _census_network(features, training):
    """Wide and deep: a linear model of the categories, and a network of embeddings."""
    del training
    categories = features["categories"]
    wide = tf.get_variable("wide", [_CENSUS_ROWS, 2])
    deep = tf.get_variable("deep", [_CENSUS_ROWS, 8])
    x = tf.reshape(tf.gather(deep, categories), [-1, 8 * len(_CATEGORIES)])
    x = tf.concat([x, features["numbers"]], 1)
    for width in (256, 128, 64):
        x = tf.layers.dense(x, width, tf.nn.relu)
    return tf.layers.dense(x, 2) + tf.reduce_sum(tf.gather(wide, categories), 1)


_VOCABULARY, _LENGTH, _WIDTH, _HEADS = 4096, 32, 64, 4


@functools.lru_cache()
def _load_sst2(folder):
    return [_sentences(os.path.join(folder, name)) for name in ("train.tsv", "dev.tsv")]


def _sentences(path):
    with open(path) as file:
        rows = [line.rstrip("\n").split("\t") for line in file][1:]
    tokens = np.zeros([len(rows), _LENGTH], np.int32)
    for row, (_, sentence) in zip(tokens, rows):
        words = sentence.split()[:_LENGTH]
        # 0 is no token.
        row[: len(words)] = [1 + _hashed(word, _VOCABULARY - 1) for word in words]
    return {"tokens": tokens}, np.array([int(label) for label, _ in rows], np.int32)


def _sst2_network(features, training):
    """An encoder of two layers, as BERT's; the mean of its tokens is classified."""
    del training
    tokens = features["tokens"]
    present = tf.cast(tokens > 0, tf.float32)
    words = tf.get_variable(
        "words",
        [_VOCABULARY, _WIDTH],
        initializer=tf.truncated_normal_initializer(stddev=0.1),
    )
    places = tf.get_variable(
        "places",
        [_LENGTH, _WIDTH],
        initializer=tf.truncated_normal_initializer(stddev=0.1),
    )
    x = tf.reshape(_normalized(tf.gather(words, tokens) + places, "in"), [-1, _WIDTH])
    hidden = (1 - present)[:, None, None, :] * -1e4
    for number in range(2):
        with tf.variable_scope(f"layer_{number}"):
            x = _normalized(x + _attention(x, hidden), "attention")
            inner = tf.layers.dense(x, 4 * _WIDTH, tf.nn.relu)
            x = _normalized(x + tf.layers.dense(inner, _WIDTH), "out")
    x = tf.reshape(x, [-1, _LENGTH, _WIDTH]) * present[:, :, None]
    count = tf.reduce_sum(present, 1, keepdims=True)
    return tf.layers.dense(tf.reduce_sum(x, 1) / tf.maximum(count, 1.0), 2)


def _attention(x, hidden):
    """Of `[batch * _LENGTH, _WIDTH]`; hidden: added to the logits, before softmax."""

    def heads(name):
        y = tf.layers.dense(x, _WIDTH, name=name)
        y = tf.reshape(y, [-1, _LENGTH, _HEADS, _WIDTH // _HEADS])
        return tf.transpose(y, [0, 2, 1, 3])

    logits = tf.matmul(heads("query"), heads("key"), transpose_b=True)
    logits *= (_WIDTH // _HEADS) ** -0.5
    found = tf.matmul(tf.nn.softmax(logits + hidden), heads("value"))
    found = tf.reshape(tf.transpose(found, [0, 2, 1, 3]), [-1, _WIDTH])
    return tf.layers.dense(found, _WIDTH, name="found")


def _normalized(x, name):
    """Layer norm over the last axis."""
    mean, variance = tf.nn.moments(x, [-1], keep_dims=True)
    with tf.variable_scope(f"{name}_norm"):
        gamma = tf.get_variable("gamma", [_WIDTH], initializer=tf.ones_initializer())
        beta = tf.get_variable("beta", [_WIDTH], initializer=tf.zeros_initializer())
    return (x - mean) * tf.math.rsqrt(variance + 1e-6) * gamma + beta


def _hashed(text, count):
    """One of so many integers; the same in every process."""
    return zlib.crc32(text.encode()) % count


def _rates(clipped_momentum):
    return {"clipped_momentum": clipped_momentum, "adam": 1e-3, "bert": 1e-3}


TASKS = {
    "digits": Task(_load_digits, _digits_network, 64, 300, _rates(0.02)),
    "census": Task(_load_census, _census_network, 128, 1000, _rates(0.02)),
    "sst2": Task(_load_sst2, _sst2_network, 32, 300, _rates(0.05)),
}
