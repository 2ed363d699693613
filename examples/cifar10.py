"""Trains ResNet-20 on CIFAR-10, dense or with any compressor.

    python -m examples.cifar10 --data_dir=cifar10 --model_dir=dense --epochs=20
    python -m examples.cifar10 --data_dir=cifar10 --model_dir=sparse --epochs=10 \\
        --warm_start_from=dense --learning_rate=0.05 --export=saved_model \\
        --compressor=sparsifier --sparsifier_target_sparse_ratio=0.8 \\
        --sparsifier_sparse_block_shape=1,16 --sparsifier_step_interval=200

The first line trains the dense model that the second one starts from, some two hours
on two cores. Pruning takes two trainings, the second one of the small network:

    python -m examples.cifar10 --data_dir=cifar10 --model_dir=pruned --epochs=2 \\
        --warm_start_from=dense --learning_rate=0.05 \\
        --compressor=pruner --pruner_compression_ratio=0.5 \\
        --pruner_ratio_metric=macs --pruner_step_interval=78 --pruner_num_trials=10
    python -m examples.cifar10 --data_dir=cifar10 --model_dir=small --epochs=3 \\
        --finetune_from=pruned --learning_rate=0.05 --export=saved_model

Quantized to 4 bits, the first and the last layer to 8:

    python -m examples.cifar10 --data_dir=cifar10 --model_dir=quantized --epochs=2 \\
        --warm_start_from=dense --learning_rate=0.05 --export=saved_model \\
        --compressor=quantizer --quantizer_bits=4 --quantizer_wbits=4 \\
        --quantizer_first_last_bits=8 --quantizer_signed=auto \\
        --quantizer_step_interval=78

The data comes from `python -m examples.make_cifar10_tfrecords`. A program
of your own can take its flags from ec_estimator in the same way; one that needs nothing
more than this is run by `python -m ec_estimator train --model=examples.cifar10` with
the same flags and --train_steps.
"""
import sys

import tensorflow.compat.v1 as tf
from absl import app, flags

import ec_estimator as ec
from examples import cifar10_model
from examples.cifar10_model import serving_input_receiver_fn

TRAIN_IMAGES = 50000

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "data_dir", None, "folder with train-*.tfrecord and test-*.tfrecord", required=True
)
flags.DEFINE_float(
    "epochs", 20.0, "times that all images are seen, unless --train_steps is given"
)
flags.DEFINE_integer("batch_size", 128, "images a step", lower_bound=1)
flags.DEFINE_float("learning_rate", 0.2, "the highest value", lower_bound=0.0)


@flags.validator("data_dir")
def _has_data(data_dir):
    try:
        for split in ("train", "test"):
            cifar10_model.find_files(data_dir or "", split)
    except FileNotFoundError as error:
        raise flags.ValidationError(str(error)) from error
    return True


def train_steps():
    """The global step to train to."""
    return FLAGS.train_steps or max(
        1, int(FLAGS.epochs * TRAIN_IMAGES / FLAGS.batch_size)
    )


def model_fn(features, labels, mode):
    """The model, with its settings from the flags."""
    params = {"learning_rate": FLAGS.learning_rate, "steps": train_steps()}
    return cifar10_model.model_fn(features, labels, mode, params)


def train_input_fn():
    """Augmented batches without end."""
    files = cifar10_model.find_files(FLAGS.data_dir, "train")
    return cifar10_model.dataset(files, FLAGS.batch_size, training=True)


def eval_input_fn():
    """The test images, once."""
    files = cifar10_model.find_files(FLAGS.data_dir, "test")
    return cifar10_model.dataset(files, 500, training=False)


def exporters():
    """What --export names."""
    made = {
        "saved_model": lambda: ec.SavedModelExporter(serving_input_receiver_fn),
        "best": lambda: ec.BestExporter(
            serving_input_receiver_fn, metric="accuracy", higher_is_better=True
        ),
        "clean_checkpoint": ec.CleanCheckpointExporter,
    }
    return [made[kind]() for kind in FLAGS.export]


def train(compressors):
    """Trains and evaluates; without compressors as if ec_estimator were not there.

    Returns:
      As tf.estimator.train_and_evaluate: (evaluation, exports).
    """
    # A run that is taken up again goes on from its own checkpoint.
    is_new = tf.train.latest_checkpoint(FLAGS.model_dir) is None
    start = FLAGS.warm_start_from if is_new else None
    steps = train_steps()
    network = model_fn
    if FLAGS.finetune_from:
        network = ec.finetune(model_fn, FLAGS.finetune_from)
    estimator = tf.estimator.Estimator(
        ec.compress(network, compressors) if compressors else network,
        FLAGS.model_dir,
        tf.estimator.RunConfig(
            save_checkpoints_steps=FLAGS.save_checkpoints_steps or max(1, steps // 10)
        ),
        warm_start_from=ec.warm_start(start) if start else None,
    )
    train_and_evaluate = (
        ec.train_and_evaluate if compressors else tf.estimator.train_and_evaluate
    )
    return train_and_evaluate(
        estimator,
        tf.estimator.TrainSpec(train_input_fn, max_steps=steps),
        tf.estimator.EvalSpec(
            eval_input_fn,
            FLAGS.eval_steps,
            exporters=exporters(),
            start_delay_secs=0,
            throttle_secs=0,
        ),
    )


def main(_):
    tf.logging.set_verbosity(tf.logging.INFO)
    tf.get_logger().propagate = False  # Or absl's handler shows each line again.
    try:
        evaluation, exports = train(ec.flags.compressor())
    except ec.CompressionError as error:
        sys.exit(f"examples.cifar10: {error}")
    print(f"test accuracy: {evaluation['accuracy']:.4f}")
    for path in filter(None, exports):
        print(f"exported: {path.decode() if isinstance(path, bytes) else path}")


if __name__ == "__main__":
    ec.flags.define()
    # Only here: `python -m ec_estimator finetune` has a flag of its own for it.
    flags.DEFINE_string("finetune_from", None, "model_dir of a pruning run")
    flags.mark_flag_as_required("model_dir")
    flags.register_multi_flags_validator(
        ["finetune_from", "warm_start_from"],
        lambda values: None in values.values(),
        "the small network starts from --finetune_from: leave --warm_start_from away",
    )
    app.run(main)
