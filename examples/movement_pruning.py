"""Movement pruning: a compressor of a user's own, explained in docs/extending.md.

A weight scores -(sum over steps of W * dL/dW); at a trial the lowest of a kernel go.
Source: Sanh et al. 2020, arXiv 2005.07683. There a weight may come back; not here.
"""
import dataclasses

import numpy as np
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator import extend


@dataclasses.dataclass(frozen=True)
class MovementConfig(extend.TrialsConfig):
    target: float = extend.field(0.8, extend.ratio(), "fraction of a kernel that goes")


class MovementPruner(ec.Compressor):
    name = flag = "movement"
    config_type = MovementConfig

    def decide(self, model):
        chosen = extend.choose_layers(self.config, model, lambda layer: "")
        return extend.take_kernels(model.layers, chosen)

    def conflict(self, others):
        twice = any(isinstance(other, ec.Sparsifier) for other in others)
        return "movement: a Sparsifier removes weights, too; use one" if twice else ""

    def inject(self, graph, kernels, details):
        return _Movement({part for kernel in kernels for part in kernel.parts})


class _Movement(ec.Attached):
    def __init__(self, names):
        super().__init__(MovementPruner.name)
        self.gated = frozenset(names)
        self._scores, self._masks = {}, {}

    def _own(self, made, name, what, value):
        """A variable of ours beside one of the user's, made when it is needed first."""
        if name not in made:
            w, ours = _variable(name), f"movement/{name}/{what}"
            made[name] = extend.create_variable(ours, w.shape, tf.float32, value, w)
        return made[name]

    def gate(self, variable_name, update):
        mask = self._own(self._masks, variable_name, "mask", 1)
        with tf.name_scope("ec_estimator/movement/"):
            return update * tf.cast(mask, update.dtype)

    def gate_gradient(self, variable_name, gradient):
        scores = self._own(self._scores, variable_name, "scores", 0)
        with tf.name_scope("ec_estimator/movement/"):
            moved = tf.cast(_variable(variable_name) * gradient, tf.float32)
            scored = scores.assign_sub(moved, use_locking=True)
        with tf.control_dependencies([scored]):  # Before the optimizer moves W.
            return self.gate(variable_name, gradient)

    def finish(self, trained):
        self._number, self._new = tf.placeholder(tf.int64, []), {}
        ops = [self.trial_counter.assign(self._number)]
        for name in sorted(self.gated & set(trained.companions)):
            if name not in self._scores:
                raise ec.PlanError(f"movement: {name!r} has no gradient to score by")
            w, mask = _variable(name), self._masks[name]
            self._new[name] = tf.placeholder(tf.float32, mask.shape)
            alive = tf.cast(self._new[name], w.dtype.base_dtype)
            ops.append(mask.assign(self._new[name]))
            ops += extend.remove(w, alive, trained.companions[name])
        self._trial = tf.group(*ops)
        return extend.EveryStep()

    def run_trial(self, session, trial, ratio):
        scores, masks = session.run([self._scores, self._masks])
        feeds, gone = {self._number: trial}, {}
        for name, new in self._new.items():
            if not np.isfinite(scores[name]).all():
                raise ec.CompressionError(
                    f"movement: {name!r} has diverged; lower the learning rate"
                )
            # What is gone scores lowest, so it goes again.
            alive = np.where(masks[name] > 0, scores[name], -np.inf)
            count = int(ratio * alive.size + 1e-6)  # 0.6 of 5 is 3, not 2.99.
            masks[name].flat[np.argsort(alive, axis=None, kind="stable")[:count]] = 0
            feeds[new], gone[name] = masks[name], count / alive.size
        session.run(self._trial, feeds)
        sizes = [masks[name].size for name in gone]
        return ec.TrialReport(np.average(list(gone.values()), weights=sizes), gone)


def _variable(name):
    return next(v for v in tf.global_variables() if v.op.name == name)


ec.flags.register(MovementPruner)
