"""DeepCTR's DeepFM: its Estimator trains a linear and a deep part, each with an
optimizer of its own, Ftrl and Adagrad."""
import numpy as np
import tensorflow.compat.v1 as tf
from deepctr.estimator import DeepFMEstimator

from tests.clients.client import BATCH, of_examples

FIELDS, VALUES = ("user", "item"), 20


def client(folder):
    del folder
    random = np.random.RandomState(0)
    examples = 4 * BATCH
    features = {
        name: random.randint(0, VALUES, (examples, 1)).astype(np.int64)
        for name in FIELDS
    }
    features["price"] = random.rand(examples, 1).astype(np.float32)
    labels = random.randint(0, 2, (examples, 1)).astype(np.float32)
    categories = [
        tf.feature_column.categorical_column_with_identity(name, VALUES)
        for name in FIELDS
    ]
    deep = [tf.feature_column.embedding_column(column, 8) for column in categories]
    price = tf.feature_column.numeric_column("price")
    made = DeepFMEstimator(
        [*categories, price], [*deep, price], dnn_hidden_units=(32, 16), dnn_dropout=0.1
    )
    return of_examples(
        made.model_fn,
        features,
        labels,
        answer="logits",
        # The two layers of the deep part, its output, and the linear weight of price.
        sparse=4,
        # kernel and bias of two layers, and the kernel that reads the second.
        cut=5,
    )
