"""finetune(): a model_fn in, a model_fn that builds the pruned network out."""
import tensorflow.compat.v1 as tf

from ec_estimator.graph.survey import placeholders, survey
from ec_estimator.pruning.check import check_same_network
from ec_estimator.pruning.finetune import GapFinetune
from ec_estimator.training.model_fn import ModelFn


def finetune(model_fn, folder):
    """Wraps the model_fn that was pruned so that it builds the small network.

    Variables have their pruned shapes and start from the pruned values; the optimizer
    starts afresh. What comes out trains, evaluates and exports with any Estimator in a
    model_dir of its own, in this process or another: the folder is all that is needed.

    Args:
      model_fn: as it was given to `compress`.
      folder: the artifact's folder, or the save_dir or model_dir of the pruning run.

    Returns:
      A model_fn with the same arguments.

    Raises:
      RunFolderError: at once: there is no artifact, or it is damaged.
      PlanError: when a graph is built: the code builds something else than the pruned
        network; the message names the op.
    """
    return _Finetuned(model_fn, folder).model_fn()


class _Finetuned:
    def __init__(self, model_fn, folder):
        self._user = ModelFn(model_fn)
        self._helper = GapFinetune(folder)
        self._checked = False

    def model_fn(self):
        return self._user.stand_in(self._build)

    def _build(self, features, labels, mode, params, config):
        if not self._checked:
            self._check(features, labels, params, config)
            self._checked = True
        return self._small(features, labels, mode, params, config)

    def _small(self, features, labels, mode, params, config):
        scope = tf.get_variable_scope()
        with tf.variable_scope(scope, custom_getter=self._helper.get_variable):
            with tf.variable_creator_scope(self._helper.create_variable):
                return self._user(features, labels, mode, params, config)

    def _check(self, features, labels, params, config):
        """Builds both networks in scratch graphs and compares them."""
        whole = survey(
            lambda x, y, mode: self._user(x, y, mode, params, config), features, labels
        )
        kept = {n: cut.kept for n, cut in self._helper.artifact.variables.items()}
        is_served = whole.mode == tf.estimator.ModeKeys.PREDICT
        small, failure = tf.Graph(), None
        with small.as_default():
            tf.train.create_global_step(small)
            x, y = placeholders(features), None if is_served else placeholders(labels)
            try:
                self._small(x, y, whole.mode, params, config)
            # What is wrong shows best in what was built before it failed.
            except (ValueError, TypeError) as error:
                failure = error
        check_same_network(whole.graph, whole.outputs, small, kept, failure)
