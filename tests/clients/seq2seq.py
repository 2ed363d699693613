"""OpenNMT-tf's Transformer: strings looked up in the graph, beam search in a loop, in
EVAL as in PREDICT, and none in TRAIN."""
import os

import numpy as np
import tensorflow.compat.v1 as tf
from opennmt import constants, inputters
from opennmt.models import Transformer

from tests import models
from tests.clients.client import BATCH, Client

WORDS = [f"word{number}" for number in range(12)]
PARAMS = {
    "optimizer": "AdamOptimizer",
    "learning_rate": 1e-3,
    "clip_gradients": 5.0,
    "beam_width": 2,
    "maximum_iterations": 4,
}
LAYERS = 1


def _write(path, lines):
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)
    return path


def _transformer():
    return Transformer(
        inputters.WordEmbedder("vocabulary", embedding_size=16),
        inputters.WordEmbedder("vocabulary", embedding_size=16),
        num_layers=LAYERS,
        num_units=16,
        num_heads=2,
        ffn_inner_dim=32,
    )


def _estimator(model_fn, model_dir):
    # As OpenNMT's own main does: its model_fn copies the vocabulary there.
    tf.gfile.MakeDirs(model_dir)
    return tf.estimator.Estimator(
        model_fn, config=models.run_config(model_dir), params=PARAMS
    )


def client(folder):
    random = np.random.RandomState(0)
    sentences = [
        [list(random.choice(WORDS, 5)) for _ in range(4 * BATCH)] for _ in range(2)
    ]
    source, target = (
        _write(
            os.path.join(folder, f"{number}.txt"), [" ".join(words) for words in text]
        )
        for number, text in enumerate(sentences)
    )
    special = [
        constants.PADDING_TOKEN,
        constants.START_OF_SENTENCE_TOKEN,
        constants.END_OF_SENTENCE_TOKEN,
    ]
    vocabulary = _write(os.path.join(folder, "vocabulary.txt"), special + WORDS)
    model = _transformer()
    model.initialize({"vocabulary": vocabulary}, PARAMS)

    def input_fn(mode, labels=None):
        return model.input_fn(mode, BATCH, features_file=source, labels_file=labels)

    return Client(
        model_fn=model.model_fn(),
        estimator=_estimator,
        train_input_fn=input_fn(tf.estimator.ModeKeys.TRAIN, target),
        eval_input_fn=input_fn(tf.estimator.ModeKeys.EVAL, target),
        predict_input_fn=input_fn(tf.estimator.ModeKeys.PREDICT),
        receiver=model.serving_input_fn(),
        inputs={
            "tokens": np.array(sentences[0]),
            "length": np.full(4 * BATCH, 5, np.int32),
        },
        answer="log_probs",
        # Two layers of each self-attention and each feed forward part, three of the
        # attention between, and the output.
        sparse=4 * LAYERS + 7 * LAYERS + 1,
        # Kernel and bias of a feed forward layer, and the kernel that reads it. All
        # channels compete, and one of the two parts may lose none.
        cut=3,
    )
