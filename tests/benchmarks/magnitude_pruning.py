"""Pruning by magnitude, to compare the Taylor importance with."""
import numpy as np

import ec_estimator as ec
from ec_estimator.extend import EveryStep
from ec_estimator.pruning.gates import Gates


class MagnitudePruner(ec.Pruner):
    """A Pruner that ranks channels by the squared weights that read them."""

    def inject(self, graph, kernels, details):
        return _MagnitudeGates(self.config, kernels, details)


class _MagnitudeGates(Gates):
    """Fills the importance just before a trial reads it."""

    def finish(self, trained):
        super().finish(trained)
        return EveryStep()

    def run_trial(self, session, trial, ratio):
        names = self.gated
        kernels = session.run([self._variables[name] for name in names])
        self._importance.average.load(self._squares(dict(zip(names, kernels))), session)
        return super().run_trial(session, trial, ratio)

    def _squares(self, kernels):
        """[groups] float32: the sum over all readers of their squared weights."""
        channels = self._groups.channels
        sums = np.zeros(self._groups.count, np.float32)
        for name, kernel in kernels.items():
            for axis in channels.readers[name]:
                others = tuple(a for a in range(kernel.ndim) if a != axis)
                np.add.at(
                    sums, channels.axes[name][axis], np.square(kernel).sum(axis=others)
                )
        return sums
