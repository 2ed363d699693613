"""Block sparsity: the lowest-scored blocks of the kernels become and stay zero."""
import tensorflow.compat.v1 as tf

from ec_estimator.core.compressor import Attached, Compressor, TrialReport
from ec_estimator.core.errors import CompressionError
from ec_estimator.core.selection import Cut, find_cut, removed
from ec_estimator.core.state import create_variable
from ec_estimator.sparsity import blocks

import numpy as np


class Sparsifier(Compressor):
    """Sets blocks of weights to zero while training, a few more at each trial.

    A block's score is the mean magnitude of its weights; a trial removes the blocks
    that score lowest until the trial's ratio of the weights is gone (local: of each
    kernel; global: of all kernels together). What is gone stays gone.

    Args:
      config: a SparsifierConfig.

    Source: Zhu & Gupta 2017, arXiv 1710.01878 (gradual magnitude pruning); Narang
      et al. 2017, arXiv 1711.02782 (blocks).
    """

    name = "sparsity"

    def refusal(self, layer):
        if layer.op_type == "DepthwiseConv2dNative":
            return "is depthwise: few weights, and no engine has a sparse kernel for it"
        return ""

    def attach(self, kernels, variables):
        return _Masks(self.config, kernels, variables)


class _Masks(Attached):
    """One mask a kernel variable, 1 where weights live; and the ops of a trial."""

    def __init__(self, config, kernels, variables):
        self._config = config
        self._kernels = kernels
        self._variables = variables
        self._masks = {}
        self._trials = create_variable("sparsity/trial", [], tf.int64, 0)

    @property
    def trial_counter(self):
        return self._trials

    def gate(self, variable_name, update):
        return tf.multiply(update, self._mask(variable_name), name="ec_estimator/gate")

    def _mask(self, name):
        """Made on first use: gradients may be taken in the middle of user code."""
        if name not in self._masks:
            variable = self._variables[name]
            self._masks[name] = create_variable(
                f"sparsity/{name}/mask",
                variable.shape.as_list(),
                variable.dtype.base_dtype,
                1,
                beside=variable,
            )
        return self._masks[name]

    def finish(self, companions):
        with tf.name_scope("ec_estimator/sparsity/trial_ops/"):
            self._ops = [self._kernel_ops(kernel) for kernel in self._kernels]
            self._zero = tf.group(
                *(
                    _zero_out(self._variables[name], self._mask(name), None)
                    for kernel in self._kernels
                    for name in kernel.parts
                )
            )
            self._zero_companions = tf.group(
                *(
                    _zero_out(companion.variable, self._mask(name), companion.fresh)
                    for name, followers in companions.items()
                    for companion in followers
                )
            )
            self._new_trials = tf.placeholder(tf.int64, [])
            self._count = self._trials.assign(self._new_trials)

    def _kernel_ops(self, kernel):
        """(scores, placeholder for the blocks to keep, op that sets the masks)."""
        block = self._config.sparse_block_shape
        # A removed weight scores -1 so that nothing alive, not even an exact zero,
        # is ever below it: what is gone stays gone.
        magnitudes = [
            tf.abs(self._variables[name]) + (self._mask(name) - 1)
            for name in kernel.parts
        ]
        matrix = blocks.to_matrix(kernel, magnitudes)
        scores = tf.cast(blocks.scores(matrix, block), tf.float32)
        keep = tf.placeholder(tf.bool, scores.shape)
        matrix = blocks.expand(keep, block, kernel.matrix_shape)
        parts = blocks.from_matrix(kernel, matrix)
        update = tf.group(
            *(
                self._mask(name).assign(tf.cast(part, self._mask(name).dtype.base_dtype))
                for name, part in zip(kernel.parts, parts)
            )
        )
        return scores, keep, update

    def run_trial(self, session, trial, ratio):
        grids = [self._fetch_scores(session, i) for i in range(len(self._kernels))]
        if self._config.sort_range == "global":
            contests = [list(range(len(grids)))]
        else:
            contests = [[index] for index in range(len(grids))]
        per_kernel, gone, notes = {}, 0, []
        for contest in contests:
            for index, keep, weights in self._compete(contest, grids, ratio):
                kernel = self._kernels[index]
                _, placeholder, update = self._ops[index]
                session.run(update, {placeholder: keep})
                per_kernel[kernel.name] = weights / kernel.size
                gone += weights
                if np.count_nonzero(keep) == 1 and keep.size > 1:
                    notes.append(f"{kernel.name} keeps its last block")
                elif keep.size == 1:
                    notes.append(f"{kernel.name} is a single block and stays dense")
        session.run(self._zero)
        session.run(self._zero_companions)
        session.run(self._count, {self._new_trials: trial})
        total = sum(kernel.size for kernel in self._kernels)
        return TrialReport(gone / total, per_kernel, tuple(notes))

    def _fetch_scores(self, session, index):
        grid = session.run(self._ops[index][0])
        kernel = self._kernels[index]
        if np.isnan(grid.sum()):
            raise CompressionError(
                f"kernel {kernel.name!r} holds NaN at a trial: training has diverged; "
                "lower the learning rate or start from an earlier checkpoint"
            )
        # The best block of a kernel always stays: a layer without weights is none.
        grid.flat[np.argmax(grid)] = np.inf
        return grid

    def _compete(self, contest, grids, ratio):
        """Yields (kernel index, blocks to keep, weights gone) of kernels that share a
        budget."""
        block = self._config.sparse_block_shape
        total = sum(self._kernels[index].size for index in contest)
        parts = [
            (index, blocks.segments(grids[index], self._shape(index), block))
            for index in contest
        ]
        # The small addend makes up for ratios such as 0.6 that are not exact: 0.6 of
        # 5 weights is 3.
        budget = int(ratio * total + 1e-6)
        cut = find_cut([s for _, found in parts for s in found], budget)
        ties = 0
        for index, found in parts:
            keep = np.ones(grids[index].shape, bool)
            weights = 0
            targets = blocks.segments(keep, self._shape(index), block)
            for segment, target in zip(found, targets):
                out, ties = removed(segment, cut, ties)
                np.logical_not(out, out=target.scores)
                weights += int(np.count_nonzero(out)) * segment.size
            grids[index] = None  # Gives the memory back before the masks are set.
            yield index, keep, weights

    def _shape(self, index):
        return self._kernels[index].matrix_shape


def _zero_out(variable, mask, fresh):
    """Puts a kernel to zero, or a variable that follows it to its first value, where
    the mask is zero. A product would keep infinities as NaN, a select does not."""
    fresh = tf.zeros_like(variable) if fresh is None else fresh
    return variable.assign(tf.where(mask > 0, variable, fresh))
