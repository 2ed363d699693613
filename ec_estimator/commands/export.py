"""export: a finished checkpoint, for an engine."""
import os

import tensorflow.compat.v1 as tf
from absl import flags

from ec_estimator.commands.module import get, params
from ec_estimator.core.errors import ConfigError
from ec_estimator.core.finished import FOLDER
from ec_estimator.core.folder import RunFolder
from ec_estimator.export.formats import FORMATS
from ec_estimator.export.handoff import HandoffExporter
from ec_estimator.flags import COMPRESSORS
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
    estimator = tf.estimator.Estimator(
        _model_fn(module), FLAGS.model_dir, params=params(module)
    )
    checkpoint = FLAGS.checkpoint or estimator.latest_checkpoint()
    if checkpoint is None:
        raise ConfigError(
            f"--model_dir: {FLAGS.model_dir!r} holds no checkpoint; train first, or "
            "give --checkpoint"
        )
    path = exporter.export(
        estimator,
        FLAGS.output or os.path.join(FLAGS.model_dir, "export", exporter.name),
        checkpoint,
        None,
        is_the_final_export=True,
    )
    print(f"exported: {path}")


def handoff_exporter(name, module, **settings):
    """The HandoffExporter of a format, for a user's module."""
    return HandoffExporter(
        FORMATS[name](),
        get(module, "serving_input_receiver_fn"),
        get(module, "eval_input_fn"),
        **settings,
    )


def _model_fn(module):
    """The module's, pruned and compressed as the run in --model_dir was."""
    model_fn = get(module, "model_fn")
    if FLAGS.pruned:
        model_fn = finetune(model_fn, FLAGS.pruned)
    configs = RunFolder(os.path.join(FLAGS.model_dir, FOLDER)).configs()
    known = {algorithm.name: algorithm for algorithm in COMPRESSORS.values()}
    for name in configs:
        if name not in known:
            raise ConfigError(
                f"--model_dir: {FLAGS.model_dir!r} was compressed with {name!r}, which "
                "is unknown; have --model register it with ec_estimator.flags.register"
            )
    compressors = [
        known[name](known[name].config_type(**fields))
        for name, fields in configs.items()
    ]
    return compress(model_fn, compressors) if compressors else model_fn
