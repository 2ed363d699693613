"""What keeps ranks alike (core.ranks).

Each rank runs the trials itself, on its own copy of the model, and takes rank 0's
result. Between trials weights are the same if all gradients are reduced; so are step
sizes and importance, which get reduced gradients, too (core.ranks). Recent values come
from each rank's own batches.
"""
import tensorflow.compat.v1 as tf

from ec_estimator.core.errors import CompressionError
from ec_estimator.core.memory import recall, remember
from ec_estimator.core.ranks import ranks_in
from ec_estimator.core.replicas import averaged, first, others, variables_of

_LIKENESS = "likeness"


class Likeness:
    """Shares rank 0's state, and finds what differs. Does nothing in a graph that is
    one process's alone.

    All ranks have to call the same methods in the same order.

    Args:
      attachment: training.attachment.Attachment, finished.
    """

    def __init__(self, attachment):
        graph = attachment.graph
        self._ranks = ranks = ranks_in(graph)
        if ranks is None:
            return
        # Ops of ranks find each other by their order, which sets would not keep.
        state = sorted(attachment.state, key=lambda v: v.op.name)
        weights = [v for v in variables_of(graph) if v.op.name in attachment.names]
        compared = [*sorted(weights, key=lambda v: v.op.name), *state]
        step = tf.train.get_global_step(graph)
        counted = state if step is None else [*state, first(step)]
        with graph.as_default(), tf.name_scope("ec_estimator/ranks/"):
            self._share = self._taken(counted)
            changed = sorted(attachment.changed, key=lambda v: v.op.name)
            self._share_trial = self._taken([*changed, *state])
            different = [
                tf.reduce_any(tf.not_equal(v, ranks.broadcast(v))) for v in compared
            ]
            # Averaged, so that all ranks stop; one that waits for others that have
            # stopped would not say why.
            self._different = ranks.mean(tf.cast(different, tf.float32))
            self._average = [
                copy.assign(value).op
                for copies in averaged(graph)
                for value in [ranks.mean(tf.add_n(copies) / len(copies))]
                for copy in copies
            ]
        self._names = [v.op.name for v in compared]

    def _taken(self, variables):
        """Ops that give all copies of variables rank 0's values."""
        return [
            copy.assign(value).op
            for variable in variables
            for value in [self._ranks.broadcast(variable)]
            for copy in (variable, *others(variable, variable.graph))
        ]

    def share(self, session):
        """Gives every rank the state and the global step of rank 0."""
        if self._ranks:
            session.run(self._share)

    def share_trial(self, session):
        """Gives every rank what a trial of rank 0 has made of weights and state. On
        other devices, and on GPUs, sums may differ in their last bits."""
        if self._ranks:
            session.run(self._share_trial)

    def average(self, session):
        """Gives every replica of every rank the mean of what a strategy saves the mean
        of, such as the moving averages of batch normalization. Their mean goes on as it
        would have, because they are linear in what is averaged."""
        if self._ranks:
            session.run(self._average)

    def check(self, session, when):
        """Are the compressed weights and our state the same on all ranks?

        Args:
          when: what is about to be done, for the error.

        Raises:
          CompressionError: on every rank; one of them is not.
        """
        if not self._ranks:
            return
        different = session.run(self._different)
        names = [name for name, share in zip(self._names, different) if share]
        if names:
            raise CompressionError(
                f"{when}: {names[0]!r} is not the same on all {self._ranks.kind} "
                f"({len(names)} of {len(self._names)} variables differ); "
                f"{self._ranks.advice}"
            )


def likeness_of(attachment):
    """The Likeness of a training graph, made once: sessions after the first find the
    graph finalized."""
    graph = attachment.graph
    if recall(graph, _LIKENESS) is None:
        remember(graph, _LIKENESS, Likeness(attachment))
    return recall(graph, _LIKENESS)
