"""BERT's run_classifier, as its script runs it: TPUEstimator on a CPU, from a
pretrained checkpoint, labels among the features."""
import os

import numpy as np
import tensorflow.compat.v1 as tf
from bert import modeling, run_classifier

from tests import models
from tests.clients.client import BATCH, Client, receiver_of

LENGTH, LAYERS, STEPS = 6, 2, 20
CONFIG = modeling.BertConfig(
    vocab_size=40,
    hidden_size=16,
    num_hidden_layers=LAYERS,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=LENGTH,
)


def _model_fn(init_checkpoint):
    return run_classifier.model_fn_builder(
        CONFIG,
        num_labels=3,
        init_checkpoint=init_checkpoint,
        learning_rate=1e-3,
        num_train_steps=STEPS,
        num_warmup_steps=2,
        use_tpu=False,
        use_one_hot_embeddings=False,
    )


def _estimator(model_fn, model_dir):
    config = tf.estimator.tpu.RunConfig(
        model_dir=model_dir, tf_random_seed=7, session_config=models.ONE_THREAD
    )
    return tf.estimator.tpu.TPUEstimator(
        model_fn,
        config=config,
        use_tpu=False,
        export_to_tpu=False,
        train_batch_size=BATCH,
        eval_batch_size=BATCH,
        predict_batch_size=BATCH,
    )


def client(folder):
    random = np.random.RandomState(0)
    examples = [
        run_classifier.InputFeatures(
            input_ids=random.randint(0, 40, LENGTH).tolist(),
            input_mask=[1] * 4 + [0] * 2,
            segment_ids=[0] * 3 + [1] * 3,
            label_id=int(random.randint(3)),
        )
        for _ in range(4 * BATCH)
    ]

    def batches(is_training):
        return run_classifier.input_fn_builder(examples, LENGTH, is_training, True)

    inputs = {
        "input_ids": [e.input_ids for e in examples],
        "input_mask": [e.input_mask for e in examples],
        "segment_ids": [e.segment_ids for e in examples],
        "label_ids": [e.label_id for e in examples],
    }
    inputs = {name: np.array(value, np.int32) for name, value in inputs.items()}
    pretrained = _estimator(_model_fn(None), os.path.join(folder, "pretrained"))
    pretrained.train(batches(True), max_steps=2)
    return Client(
        model_fn=_model_fn(pretrained.latest_checkpoint()),
        estimator=_estimator,
        train_input_fn=batches(True),
        eval_input_fn=batches(False),
        predict_input_fn=batches(False),
        receiver=receiver_of(inputs),
        inputs=inputs,
        answer="probabilities",
        # Query, key, value, attention's output and two of the feed forward part in each
        # layer; pooler, classifier, and the token types, which it multiplies one-hot.
        sparse=6 * LAYERS + 3,
        # Kernel and bias of the intermediate layer, and the kernel that reads it.
        cut=3 * LAYERS,
    )
