"""export: a finished checkpoint, for an engine."""
import os

import tensorflow.compat.v1 as tf
from absl import flags

from ec_estimator.commands.module import get, params
from ec_estimator.core.errors import ConfigError
from ec_estimator.core.finished import FOLDER
from ec_estimator.core.folder import RunFolder
from ec_estimator.core.model_fn import ModelFn
from ec_estimator.core.state import open_checkpoint
from ec_estimator.export.formats import FORMATS
from ec_estimator.export.handoff import HandoffExporter
from ec_estimator.flags import COMPRESSORS
from ec_estimator.graph.variables import checkpoint_name, slice_info
from ec_estimator.shrink.finetune import finetune
from ec_estimator.training.wrap import compress

FLAGS = flags.FLAGS


def define():
    """Defines the flags that only this command has."""
    flags.DEFINE_enum("format", None, list(FORMATS), "what to write")
    flags.DEFINE_string("checkpoint", None, "default: the newest in --model_dir")
    flags.DEFINE_string(
        "output", None, "folder to write <global step> to; default: <model_dir>/export"
    )
    flags.DEFINE_string("signature", None, "the one to serve; default: serving_default")
    flags.DEFINE_integer(
        "samples", 256, "examples that the engine's answers are compared on"
    )
    flags.DEFINE_string(
        "pruned", None, "of a run of finetune: the --pruned that it had"
    )


def export(module):
    """Writes what the flags say of a checkpoint of a run."""
    if FLAGS.samples < 1:
        raise ConfigError(
            f"--samples: must be an integer greater than 0, got {FLAGS.samples}"
        )
    exporter = handoff_exporter(
        FLAGS.format, module, signature=FLAGS.signature, samples=FLAGS.samples
    )
    model_fn, compressors = _model_fn(module), _compressors()
    estimator = tf.estimator.Estimator(
        compress(model_fn, compressors) if compressors else model_fn,
        FLAGS.model_dir,
        params=params(module),
    )
    checkpoint = FLAGS.checkpoint or estimator.latest_checkpoint()
    if checkpoint is None:
        raise ConfigError(
            f"--model_dir: {FLAGS.model_dir!r} holds no checkpoint; train first, or "
            "give --checkpoint"
        )
    folder = FLAGS.output or os.path.join(FLAGS.model_dir, "export", exporter.name)
    target = exporter.target(folder, checkpoint)
    if tf.gfile.Exists(target):
        raise ConfigError(
            f"--output: {target!r} is there already; move it away, or name another "
            "folder"
        )
    _check_fit(module, model_fn, checkpoint)
    exporter.export(estimator, folder, checkpoint, None, is_the_final_export=True)
    print(f"exported: {target}")


def _check_fit(module, model_fn, checkpoint):
    """The checkpoint must be of the network that the module's model_fn builds."""
    shapes = open_checkpoint(checkpoint).get_variable_to_shape_map()
    with tf.Graph().as_default():
        tf.train.create_global_step()
        ModelFn(model_fn)(
            get(module, "serving_input_receiver_fn")().features,
            None,
            tf.estimator.ModeKeys.PREDICT,
            params(module) or {},
            tf.estimator.RunConfig(),
        )
        for variable in tf.global_variables():
            name, part = checkpoint_name(variable), slice_info(variable)
            built = list(part.full_shape) if part else variable.shape.as_list()
            if shapes.get(name, built) != built:
                raise ConfigError(
                    f"--model_dir: in checkpoint {checkpoint!r} variable {name!r} has "
                    f"shape {shapes[name]}, the module's model_fn makes it {built}; a "
                    "run of finetune needs the --pruned that it had"
                )


def handoff_exporter(name, module, **settings):
    """The HandoffExporter of a format, for a user's module."""
    return HandoffExporter(
        FORMATS[name](),
        get(module, "serving_input_receiver_fn"),
        get(module, "eval_input_fn"),
        **settings,
    )


def _model_fn(module):
    model_fn = get(module, "model_fn")
    return finetune(model_fn, FLAGS.pruned) if FLAGS.pruned else model_fn


def _compressors():
    """Those of the run in --model_dir, as its folder has them."""
    configs = RunFolder(os.path.join(FLAGS.model_dir, FOLDER)).configs()
    known = {algorithm.name: algorithm for algorithm in COMPRESSORS.values()}
    for name in configs:
        if name not in known:
            raise ConfigError(
                f"--model_dir: {FLAGS.model_dir!r} was compressed with {name!r}, which "
                "is unknown; have --model register it with ec_estimator.flags.register"
            )
    return [
        known[name](known[name].config_type(**fields))
        for name, fields in configs.items()
    ]
