"""tf.contrib.model_pruning, set up as its documentation says, to compare with."""
import tensorflow.compat.v1 as tf
from tensorflow.contrib.model_pruning.python import pruning


def mask_kernels(getter, name, *args, **kwargs):
    """A custom_getter that puts contrib's apply_mask on every kernel."""
    variable = getter(name, *args, **kwargs)
    return pruning.apply_mask(variable) if name.endswith("/kernel") else variable


def mask_update_op(config):
    """contrib's op that is to be run after every step, for a SparsifierConfig.

    Its sparsity function with exponent 3 is the cubic ramp; its masks are set at the
    same steps as ours.
    """
    last_step = config.schedule.last_step
    spec = pruning.get_pruning_hparams().override_from_dict(
        {
            "begin_pruning_step": config.start_step,
            "end_pruning_step": last_step,
            "pruning_frequency": config.step_interval,
            "target_sparsity": config.target_sparse_ratio,
            "sparsity_function_begin_step": config.start_step,
            "sparsity_function_end_step": last_step,
            "sparsity_function_exponent": 3.0,
            "block_height": config.sparse_block_shape[0],
            "block_width": config.sparse_block_shape[1],
        }
    )
    return pruning.Pruning(spec).conditional_mask_update_op()


class MaskUpdateHook(tf.train.SessionRunHook):
    """Runs the mask update after every step, as contrib's learning.train does."""

    def __init__(self, config):
        self._config = config

    def begin(self):
        self._update = mask_update_op(self._config)

    def after_run(self, run_context, run_values):
        run_context.session.run(self._update)
