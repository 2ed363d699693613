"""train and finetune: a compressed run, or the small network after a pruning run."""
import os
import sys

import tensorflow.compat.v1 as tf
from absl import flags

from ec_estimator import flags as ec_flags
from ec_estimator.commands.export import handoff_exporter
from ec_estimator.commands.module import get, params
from ec_estimator.core.errors import ConfigError, RunFolderError, UnfinishedError
from ec_estimator.core.state import open_checkpoint
from ec_estimator.export.exporters import (
    BestExporter,
    CleanCheckpointExporter,
    SavedModelExporter,
)
from ec_estimator.export.formats import FORMATS
from ec_estimator.shrink.artifact import read_artifact
from ec_estimator.shrink.finetune import finetune as finetuned
from ec_estimator.training.loop import train_and_evaluate
from ec_estimator.training.warm_start import warm_start
from ec_estimator.training.wrap import compress

FLAGS = flags.FLAGS


def train(module):
    """Trains, evaluates and exports what the flags say."""
    _check_flags()
    model_fn = compress(get(module, "model_fn"), ec_flags.compressor())
    _run(module, model_fn, train_and_evaluate, _warm_start())


def finetune(module):
    """Trains, evaluates and exports the network that pruning left.

    With --compressor it is compressed while it trains.
    """
    _check_flags()
    if FLAGS.warm_start_from:
        raise ConfigError(
            "--warm_start_from: the small network starts from --pruned; leave it away"
        )
    model_fn = finetuned(get(module, "model_fn"), FLAGS.pruned)
    artifact = read_artifact(FLAGS.pruned)
    _check_finished(artifact.manifest)
    _check_model_dir(artifact)
    compressors = ec_flags.compressor()
    if compressors:
        _run(module, compress(model_fn, compressors), train_and_evaluate)
    else:
        _run(module, model_fn, tf.estimator.train_and_evaluate)


def _check_flags():
    for name in ("model_dir", "train_steps"):
        if getattr(FLAGS, name) is None:
            raise ConfigError(f"--{name} is needed to train")
    if FLAGS.train_steps < 1:
        raise ConfigError(
            f"--train_steps: must be an integer greater than 0, got {FLAGS.train_steps}"
        )


def _check_finished(manifest):
    done, planned = manifest.get("trials"), manifest.get("num_trials")
    if done != planned:
        raise UnfinishedError(
            f"--pruned: {FLAGS.pruned!r} has been through trial {done} of {planned}; "
            "train it to the last one"
        )


def _check_model_dir(artifact):
    """A checkpoint that the run would go on from must be of the small network."""
    path = tf.train.latest_checkpoint(FLAGS.model_dir)
    if path is None:
        return
    reader = open_checkpoint(path)
    shapes = reader.get_variable_to_shape_map()
    # Others, such as an auxiliary head's, are smaller than the artifact has them.
    served = artifact.manifest.get("served", ())
    for name in sorted(set(artifact.variables).intersection(served)):
        wanted = artifact.variables[name].small_shape
        found = tuple(shapes.get(name, wanted))
        if found != wanted:
            raise RunFolderError(
                f"--model_dir: in checkpoint {path!r} variable {name!r} has shape "
                f"{found}, in the pruned network {wanted}; use a folder of its own"
            )
    reader.check()


def _warm_start():
    """Only a new run starts from elsewhere; one that goes on has its checkpoint."""
    if not FLAGS.warm_start_from or tf.train.latest_checkpoint(FLAGS.model_dir):
        return None
    return warm_start(FLAGS.warm_start_from)


def _run(module, model_fn, train_and_evaluate, warm_start_from=None):
    estimator = tf.estimator.Estimator(
        model_fn,
        FLAGS.model_dir,
        config=tf.estimator.RunConfig(
            save_checkpoints_steps=FLAGS.save_checkpoints_steps
            or max(1, FLAGS.train_steps // 10),
            experimental_max_worker_delay_secs=FLAGS.worker_delay_secs,
        ),
        params=params(module),
        warm_start_from=warm_start_from,
    )
    eval_spec = tf.estimator.EvalSpec(
        get(module, "eval_input_fn"),
        FLAGS.eval_steps,
        exporters=[_exporter(kind, module) for kind in FLAGS.export],
        start_delay_secs=0,
        # An evaluator polls for new checkpoints.
        throttle_secs=int(estimator.config.task_type == "evaluator"),
    )
    done = train_and_evaluate(
        estimator,
        tf.estimator.TrainSpec(get(module, "train_input_fn"), FLAGS.train_steps),
        eval_spec,
    )
    if done is None:
        # On a cluster each process does its part; the evaluator logs what it finds.
        return
    results, exports = done
    if results is None:
        results, exports = _evaluate_and_export(estimator, eval_spec)
    for name, value in sorted(results.items()):
        print(f"{name}: {value:.6g}")
    for path in exports or []:
        if path:
            print(f"exported: {path.decode() if isinstance(path, bytes) else path}")


def _evaluate_and_export(estimator, eval_spec):
    """What train_and_evaluate leaves out when there is nothing left to train."""
    results = estimator.evaluate(eval_spec.input_fn, eval_spec.steps)
    print(f"already at step {results['global_step']}", file=sys.stderr)
    exports = [
        exporter.export(
            estimator,
            os.path.join(estimator.model_dir, "export", exporter.name),
            estimator.latest_checkpoint(),
            results,
            is_the_final_export=True,
        )
        for exporter in eval_spec.exporters
    ]
    return results, exports


def _exporter(kind, module):
    if kind == "clean_checkpoint":
        return CleanCheckpointExporter()
    if kind in FORMATS:
        return handoff_exporter(kind, module)
    receiver_fn = get(module, "serving_input_receiver_fn")
    return {"saved_model": SavedModelExporter, "best": BestExporter}[kind](receiver_fn)
