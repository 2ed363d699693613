"""plan: which layers would be compressed."""
import tensorflow.compat.v1 as tf
from absl import flags

from ec_estimator import flags as ec_flags
from ec_estimator.commands.module import get, params
from ec_estimator.core.input_fn import call_input_fn
from ec_estimator.core.model_fn import compressed_model
from ec_estimator.graph.coverage import format_coverage
from ec_estimator.training.wrap import compress

FLAGS = flags.FLAGS


def plan(module):
    """Prints the coverage report without training."""
    model_fn = compress(get(module, "model_fn"), ec_flags.compressor())
    with tf.Graph().as_default():
        given, config = params(module) or {}, tf.estimator.RunConfig(FLAGS.model_dir)
        data = call_input_fn(
            get(module, "train_input_fn"), tf.estimator.ModeKeys.TRAIN, given, config
        )
        made = compressed_model(model_fn).plan(
            data.features, data.labels, given, config
        )
    print(format_coverage(made))
