"""One process of a cluster that trains under a strategy, as a user's program.

    python -m tests.training.strategy_task MODEL_DIR STRATEGY
"""
import sys

import tensorflow.compat.v1 as tf

import ec_estimator as ec
from examples import digits_model


def main(model_dir, strategy):
    strategies = tf.distribute.experimental
    config = tf.estimator.RunConfig(
        model_dir,
        train_distribute=getattr(strategies, strategy)(),
        save_checkpoints_steps=40,
        experimental_max_worker_delay_secs=2,
    )
    compressor = ec.Sparsifier(ec.SparsifierConfig(step_interval=20, num_trials=3))
    ec.train_and_evaluate(
        tf.estimator.Estimator(
            ec.compress(digits_model.model_fn, compressor), config=config
        ),
        tf.estimator.TrainSpec(digits_model.train_input_fn, 100),
        tf.estimator.EvalSpec(
            digits_model.eval_input_fn, 1, start_delay_secs=0, throttle_secs=1
        ),
    )


if __name__ == "__main__":
    tf.logging.set_verbosity(tf.logging.INFO)
    main(*sys.argv[1:])
