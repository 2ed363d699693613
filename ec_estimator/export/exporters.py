"""Exporters for EvalSpec that hand over finished models only."""
import json
import os

import tensorflow.compat.v1 as tf

from ec_estimator.core.atomic import write_atomically
from ec_estimator.core.errors import ConfigError
from ec_estimator.core.fields import integer, or_none
from ec_estimator.core.finished import FOLDER, FinishedExporter
from ec_estimator.core.folder import RunFolder
from ec_estimator.export.checkpoint import (
    write_checkpoint_without_slots,
    write_clean_checkpoint,
)
from ec_estimator.export.delivery import writing


class SavedModelExporter(FinishedExporter):
    """Writes a SavedModel at each evaluation after the last trial.

    The graph is the model's own and the zeros are in its weights, so any TensorFlow
    1.15 loads it without this package.

    Args:
      serving_input_receiver_fn: as Estimator.export_saved_model takes it.
      name: folder under `<model_dir>/export/`.
      assets_extra: {path inside assets.extra: file to copy there}.
      exports_to_keep: how many of the newest exports stay; None keeps all.

    Raises:
      ConfigError: exports_to_keep is neither an integer greater than 0 nor None.
    """

    def __init__(
        self,
        serving_input_receiver_fn,
        name="saved_model",
        assets_extra=None,
        exports_to_keep=5,
    ):
        self._receiver_fn = serving_input_receiver_fn
        self._name = name
        self._assets_extra = assets_extra
        self._exports_to_keep = self._checked(exports_to_keep)

    @property
    def name(self):
        return self._name

    def hand_over(
        self, estimator, export_path, checkpoint_path, eval_result, is_the_final_export
    ):
        with writing(f"exporter {self.name!r}", export_path):
            path = estimator.export_saved_model(
                export_path,
                self._receiver_fn,
                assets_extra=self._assets_extra,
                checkpoint_path=checkpoint_path,
            )
            path = _as_newest(path)
        self._delete_old(export_path)
        return path

    def _checked(self, exports_to_keep):
        rule = or_none(integer(1))
        try:
            return rule.parse(exports_to_keep)
        except (TypeError, ValueError):
            raise ConfigError(
                f"{type(self).__name__}.exports_to_keep: must be {rule.text}, got "
                f"{exports_to_keep!r}"
            ) from None

    def _delete_old(self, export_path):
        if self._exports_to_keep is None:
            return
        for name in _versions(export_path)[: -self._exports_to_keep]:
            tf.gfile.DeleteRecursively(os.path.join(export_path, name))


def _versions(export_path):
    """Names of the exports in a folder, the newest last."""
    # Object stores list folders with a slash at the end.
    names = [name.strip("/") for name in tf.gfile.ListDirectory(export_path)]
    return sorted((name for name in names if name.isdigit()), key=int)


def _as_newest(path):
    """Gives an export the greatest number of its folder, and returns its new path.

    TensorFlow numbers exports by the clock. Where another host wrote earlier ones, and
    its clock was ahead, this one would not be served, and be the first to be deleted.
    """
    folder, name = os.path.split(tf.compat.as_str(path))
    newest = _versions(folder)[-1]
    if name == newest:
        return path
    renamed = os.path.join(folder, str(int(newest) + 1))
    tf.gfile.Rename(path, renamed)
    tf.logging.warning(
        "%r has exports up to version %s, later than this host's clock: its export is "
        "version %s; compare the hosts' clocks",
        *(folder, newest, os.path.basename(renamed)),
    )
    return tf.compat.as_bytes(renamed)


class BestExporter(SavedModelExporter):
    """Writes a SavedModel when a finished model evaluates better than those before.

    tf.estimator.BestExporter would pick an early checkpoint: less compressed, it
    scores better. The best result so far is kept beside the exports, so a restarted
    run goes on from it.

    Args:
      serving_input_receiver_fn: as Estimator.export_saved_model takes it.
      metric: key of the evaluation's results.
      higher_is_better: whether more of the metric is better.
      name: folder under `<model_dir>/export/`.
      exports_to_keep: how many of the newest exports stay; None keeps all.

    Raises:
      ConfigError: exports_to_keep is neither an integer greater than 0 nor None; at
        the first evaluation, it does not have the metric.
    """

    def __init__(
        self,
        serving_input_receiver_fn,
        metric="loss",
        higher_is_better=False,
        name="best",
        exports_to_keep=5,
    ):
        super().__init__(
            serving_input_receiver_fn, name, exports_to_keep=exports_to_keep
        )
        self._metric = metric
        self._sign = 1 if higher_is_better else -1

    def check(self, eval_result):
        if self._metric not in eval_result:
            raise ConfigError(
                f"BestExporter.metric: {self._metric!r} is not evaluated; there is "
                f"{', '.join(sorted(eval_result))}"
            )

    def hand_over(
        self, estimator, export_path, checkpoint_path, eval_result, is_the_final_export
    ):
        value = float(eval_result[self._metric])
        record = os.path.join(export_path, "best.json")
        best = None
        if tf.gfile.Exists(record):
            with tf.gfile.GFile(record) as file:
                best = json.loads(file.read())["value"]
        if best is not None and self._sign * value <= self._sign * best:
            return None
        path = super().hand_over(
            estimator, export_path, checkpoint_path, eval_result, is_the_final_export
        )
        content = {
            "metric": self._metric,
            "value": value,
            "checkpoint": checkpoint_path,
        }
        write_atomically(record, json.dumps(content) + "\n")
        return path


class CleanCheckpointExporter(FinishedExporter):
    """Writes a checkpoint of the user's own variables, without slots and state.

    Of a model without compression, such as the one that `finetune` builds, too; there
    the optimizer's variables are told by their names.

    Args:
      name: folder under `<model_dir>/export/`.
    """

    def __init__(self, name="clean_checkpoint"):
        self._name = name

    @property
    def name(self):
        return self._name

    def hand_over(
        self, estimator, export_path, checkpoint_path, eval_result, is_the_final_export
    ):
        folder = os.path.join(estimator.model_dir, FOLDER)
        with writing(f"exporter {self.name!r}", export_path):
            if RunFolder(folder).read_json("manifest.json") is None:
                return write_checkpoint_without_slots(checkpoint_path, export_path)
            return write_clean_checkpoint(checkpoint_path, folder, export_path)
