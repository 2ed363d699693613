"""Block sparsity: the lowest-scored blocks of the kernels become and stay zero."""
import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.config import SparsifierConfig
from ec_estimator.core.compressor import Attached, Compressor, EveryStep
from ec_estimator.core.devices import beside, task_of
from ec_estimator.core.errors import CompressionError
from ec_estimator.core.replicas import variables_of
from ec_estimator.core.report import TrialReport
from ec_estimator.core.state import create_variable
from ec_estimator.graph.decisions import choose_layers, take_kernels
from ec_estimator.rewrite.kernels import from_matrix, to_matrix
from ec_estimator.rewrite.updates import remove
from ec_estimator.sparsity import bits, blocks
from ec_estimator.sparsity.selection import find_cut, removed


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
    flag = "sparsifier"
    config_type = SparsifierConfig

    def decide(self, model):
        return take_kernels(
            model.layers, choose_layers(self.config, model, self._refusal)
        )

    def _refusal(self, layer):
        if layer.op_type == "DepthwiseConv2dNative":
            return "is depthwise: few weights, and no engine has a sparse kernel for it"
        return ""

    def inject(self, graph, kernels, details):
        return _Masks(self.config, graph, kernels)


class _Masks(Attached):
    """One mask a kernel variable, 1 where weights live; and the ops of a trial."""

    gate_is_enough = True

    def __init__(self, config, graph, kernels):
        super().__init__(Sparsifier.name)
        self._config = config
        self._graph = graph
        self._kernels = kernels
        self.gated = frozenset(part for kernel in kernels for part in kernel.parts)
        self._masks = {}
        self._variables = {}

    def gate(self, variable_name, update):
        return tf.multiply(update, self._mask(variable_name), name="ec_estimator/gate")

    def gate_gradient(self, variable_name, gradient):
        mask = self._mask(variable_name)
        if not task_of(mask.device):
            return self.gate(variable_name, gradient)
        # A worker that clips gradients needs it there: a bit a weight, not four bytes.
        with beside(mask):
            packed = bits.pack(mask)
        mask = bits.unpack(packed, mask.shape.as_list(), gradient.dtype)
        return tf.multiply(gradient, mask, name="ec_estimator/gate")

    def _mask(self, name):
        """Made on first use: gradients may be taken in the middle of user code."""
        if name not in self._masks:
            if name not in self._variables:
                self._variables.update(
                    (v.op.name, v) for v in variables_of(self._graph)
                )
            variable = self._variables[name]
            self._masks[name] = create_variable(
                f"sparsity/{name}/mask",
                variable.shape.as_list(),
                variable.dtype.base_dtype,
                1,
                beside=variable,
            )
        return self._masks[name]

    def finish(self, trained):
        companions = trained.companions
        # What no op updates is frozen, and would not recover from a cut.
        self._kernels = [k for k in self._kernels if set(k.parts) <= set(companions)]
        with tf.name_scope("ec_estimator/sparsity/trial_ops/"):
            self._new_trials = tf.placeholder(tf.int64, [])
            self._scores = [
                _in_turn(self._score_grid, share) for share in _shares(self._kernels, 8)
            ]
            self._keeps = [
                tf.placeholder(tf.bool, grid.shape)
                for share in self._scores
                for grid in share
            ]
            masked = _in_turn(
                lambda kernel_and_keep: self._set_masks(*kernel_and_keep),
                list(zip(self._kernels, self._keeps)),
            )
            counted = self.trial_counter.assign(self._new_trials)
            self._trial = tf.group(*masked, counted)
            removed_ops = _in_turn(
                lambda kernel: self._remove(kernel, companions), self._kernels
            )
            self._sweep = tf.group(*removed_ops)
        return EveryStep()

    def _score_grid(self, kernel):
        """The scores of a kernel's blocks, [blocks down, blocks across]."""
        # A removed weight scores -1 so that nothing alive, not even an exact zero,
        # is ever below it: what is gone stays gone.
        magnitudes = [self._magnitudes(name) for name in kernel.parts]
        matrix = to_matrix(kernel, magnitudes)
        scores = blocks.scores(matrix, self._config.sparse_block_shape)
        return tf.cast(scores, tf.float32)

    def _magnitudes(self, name):
        with beside(self._variables[name]):
            return self._mask(name) - 1 + tf.abs(self._variables[name])

    def _set_masks(self, kernel, keep):
        """Op that sets a kernel's masks."""
        matrix = blocks.expand(
            keep, self._config.sparse_block_shape, kernel.matrix_shape
        )
        updates = []
        for name, alive in zip(kernel.parts, from_matrix(kernel, matrix)):
            mask = self._mask(name)
            updates.append(mask.assign(tf.cast(alive, mask.dtype.base_dtype)))
        return tf.group(*updates)

    def _remove(self, kernel, companions):
        """Op that puts to zero what a kernel's masks remove."""
        updates = []
        for name in kernel.parts:
            mask = self._mask(name)
            updates.extend(remove(self._variables[name], mask, companions[name]))
        return tf.group(*updates)

    def run_trial(self, session, trial, ratio):
        # A few runs, however many kernels: the first run of every new set of fetches
        # makes TensorFlow prune and optimize the whole graph. More than one, because
        # fetched tensors are in memory twice while they are copied.
        grids = []
        for share in self._scores:
            grids.extend(session.run(share))
        for kernel, grid in zip(self._kernels, grids):
            _protect_best(kernel, grid)
        if self._config.sort_range == "global":
            contests = [list(range(len(grids)))]
        else:
            contests = [[index] for index in range(len(grids))]
        feeds, per_kernel, gone, notes = {self._new_trials: trial}, {}, 0, []
        for contest in contests:
            for index, keep, weights in self._compete(contest, grids, ratio):
                kernel = self._kernels[index]
                feeds[self._keeps[index]] = keep
                per_kernel[kernel.name] = weights / kernel.size
                gone += weights
                if keep.size == 1:
                    notes.append(f"{kernel.name} is a single block and stays dense")
                elif np.count_nonzero(keep) == 1:
                    notes.append(f"{kernel.name} keeps its last block")
        session.run(self._trial, feeds)
        # In a run of its own: from now on no update brings back what goes.
        self.sweep(session)
        total = sum(kernel.size for kernel in self._kernels)
        return TrialReport(gone / total, per_kernel, tuple(notes))

    def sweep(self, session):
        session.run(self._sweep)

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


def _shares(kernels, count):
    """Cuts a list of kernels into at most `count` lists of similar size."""
    most = sum(kernel.size for kernel in kernels) / count
    shares, size = [], 0
    for kernel in kernels:
        if not shares or size >= most * len(shares):
            shares.append([])
        shares[-1].append(kernel)
        size += kernel.size
    return shares


def _in_turn(build, items):
    """Builds ops for each item that run one item after the other.

    A trial's temporary tensors are as large as the kernels; in turn there is only one
    kernel's worth of them at a time.
    """
    built = []
    for item in items:
        with tf.control_dependencies(built[-1:]):
            built.append(build(item))
    return built


def _protect_best(kernel, grid):
    """The best block of a kernel always stays: a layer without weights is none."""
    if np.isnan(grid.sum()):
        raise CompressionError(
            f"kernel {kernel.name!r} holds NaN at a trial: training has diverged; "
            "lower the learning rate or start from an earlier checkpoint"
        )
    grid.flat[np.argmax(grid)] = np.inf
