"""Saver of graphs that evaluate and predict: what an export holds, and when."""
import os

import tensorflow.compat.v1 as tf

from ec_estimator.core.atomic import write_atomically
from ec_estimator.core.errors import UnfinishedError
from ec_estimator.core.finished import trained_without, unfinished, unfinished_allowed
from ec_estimator.core.state import is_state, open_checkpoint
from ec_estimator.rewrite.frozen import freeze


class ServingSaver(tf.train.Saver):
    """A Saver that restores anything, and saves only finished models.

    An Estimator restores with the Saver of its Scaffold to evaluate and predict as
    well as to export, and saves with it only when it exports. What is exported is the
    user's variables; what compressors compute from theirs becomes constants.

    Args:
      schedules: {compressor name: Schedule}.
      served: what compressors returned from `serve`: each has `constants`, the tensors
        that an export holds as constants, and `describe(values)`, the files
        {name: text} that go beside it.
    """

    def __init__(self, schedules, served, **kwargs):
        super().__init__(**kwargs)
        self._schedules = schedules
        self._served = served
        self._restored = None
        self._clean = None
        self._values = {}
        if served:
            objects = [
                *tf.get_collection(tf.GraphKeys.GLOBAL_VARIABLES),
                *tf.get_collection(tf.GraphKeys.SAVEABLE_OBJECTS),
            ]
            self._state = {o.op.name for o in objects if is_state(o.op.name)}
            self._clean = tf.train.Saver(
                [o for o in objects if not is_state(o.op.name)], sharded=True
            )

    def restore(self, sess, save_path):
        self._restored = save_path
        untrained = trained_without(save_path, self._schedules)
        if untrained:
            tf.logging.warning("%s", untrained)
        try:
            super().restore(sess, save_path)
        except (tf.errors.OpError, ValueError):
            # TensorFlow's words name neither the file nor what is to be done.
            open_checkpoint(save_path).check()
            raise
        for served in self._served:
            names = [tensor.name for tensor in served.constants]
            self._values.update(zip(names, sess.run(served.constants)))

    def save(self, sess, save_path, *args, **kwargs):
        missing = unfinished(self._restored, self._schedules) if self._restored else ""
        if missing and not unfinished_allowed():
            raise UnfinishedError(
                f"{missing}; in an EvalSpec ec_estimator.FinishedOnly(exporter) waits "
                "for that; or export inside `with ec_estimator.unfinished_export():`"
            )
        if not self._clean:
            return super().save(sess, save_path, *args, **kwargs)
        # <export>/variables/variables
        folder = os.path.dirname(os.path.dirname(save_path))
        for served in self._served:
            for name, text in served.describe(self._values).items():
                write_atomically(os.path.join(folder, name), text)
        return self._clean.save(sess, save_path, *args, **kwargs)

    def export_meta_graph(self, *args, **kwargs):
        if not self._clean:
            return super().export_meta_graph(*args, **kwargs)
        meta_graph = self._clean.export_meta_graph(*args, **kwargs)
        freeze(meta_graph, self._values, self._state)
        return meta_graph
