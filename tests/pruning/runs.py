"""Short pruning runs of an Estimator."""
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models


def pruner(**kwargs):
    return ec.Pruner(
        ec.PrunerConfig(
            **{
                "compression_ratio": 0.5,
                "step_interval": 2,
                "num_trials": 2,
                **kwargs,
            }
        )
    )


def run(tmp_path, network, compressor, steps=5, shape=(8, 8, 3), optimizer=None):
    model_fn, input_fn = models.classifier(network, shape, optimizer)
    estimator = tf.estimator.Estimator(
        ec.compress(model_fn, compressor), config=models.run_config(str(tmp_path))
    )
    estimator.train(input_fn, max_steps=steps)
    return estimator, model_fn, input_fn
