"""export_session(): a SavedModel of what a session has trained, from its folder."""
import os

import tensorflow.compat.v1 as tf

from ec_estimator.core.errors import RunFolderError, UnfinishedError
from ec_estimator.core.folder import RunFolder
from ec_estimator.export.delivery import deliver_anew, temporary_folder
from ec_estimator.export.format import ExportError
from ec_estimator.quantization.placement import read_placement
from ec_estimator.quantization.quantizer import LSQQuantizer, serve
from ec_estimator.rewrite.serving import ServingSaver


def export_session(build, save_dir, export_dir, checkpoint_path=None):
    """Writes a SavedModel of a model that CompressionHook has compressed.

    Quantized layers are FakeQuant ops whose ranges are constants, and scales.json is
    beside them; masked weights are zeros in the variables. Any TensorFlow 1.15 loads
    it without this package.

    Args:
      build: callable() -> (inputs, outputs), {name: tensor} each; builds the model that
        predicts in the default graph, inputs as placeholders, without quantize_graph.
      save_dir: the folder that the hook wrote to.
      export_dir: folder to write to; must not exist, or be empty.
      checkpoint_path: checkpoint of the run; by default the one in `<save_dir>/clean`,
        which a finished run leaves.

    Returns:
      export_dir.

    Raises:
      ExportError: export_dir is not empty, or cannot be written.
      UnfinishedError: the checkpoint is from before the last trial; see
        `unfinished_export`.
      RunFolderError: save_dir holds no run, or is damaged; the checkpoint cannot be
        read.
      PlanError: a layer that was quantized in training is not in the graph.
    """
    if tf.gfile.Exists(export_dir) and tf.gfile.ListDirectory(export_dir):
        raise ExportError(f"{export_dir!r} is not empty; name another folder")
    folder = RunFolder(save_dir)
    schedules = folder.schedules()
    if not schedules:
        raise RunFolderError(
            f"{folder.path!r} holds no run (manifest.json); name the hook's save_dir"
        )
    if checkpoint_path is None:
        checkpoint_path, schedules = _clean_checkpoint(folder), {}
    stored = folder.details().get(LSQQuantizer.name)
    with temporary_folder("export_session") as place:
        made = os.path.join(place, "saved_model")
        _write(made, build, stored, checkpoint_path, schedules)
        deliver_anew(made, os.fspath(export_dir))
    return os.fspath(export_dir)


def _write(path, build, stored, checkpoint_path, schedules):
    with tf.Graph().as_default() as graph, tf.Session() as session:
        inputs, outputs = build()
        served = [serve(graph, read_placement(stored))] if stored is not None else []
        saver = ServingSaver(schedules, served)
        saver.restore(session, checkpoint_path)
        signature = tf.saved_model.predict_signature_def(inputs, outputs)
        builder = tf.saved_model.Builder(path)
        builder.add_meta_graph_and_variables(
            session,
            [tf.saved_model.SERVING],
            {tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY: signature},
            strip_default_attrs=True,
            saver=saver,
        )
        builder.save()


def _clean_checkpoint(folder):
    path = tf.train.latest_checkpoint(folder.file("clean"))
    if path is None:
        raise UnfinishedError(
            f"{folder.file('clean')!r} holds no checkpoint: training has not ended "
            "after the last trial; go on training, or give checkpoint_path"
        )
    return path
