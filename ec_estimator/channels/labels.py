"""Channel labels: which positions of which tensor axes live or die together."""
import numpy as np


class Labels:
    """Integers for channels, united where channels must go together.

    Uniting only records an edge; the groups are found once, at the end, by `roots`. So
    rules may unite whole vectors at the cost of appending two arrays.

    edges: [(label vector, label vector)], united position by position.

    Example: a residual block adds its input x, whose channels have labels 0..7, to a
    branch with labels 8..15. The add unites 0 with 8, 1 with 9 and so on; afterwards
    there are eight groups of two.
    """

    def __init__(self):
        self._count = 0
        self.edges = []
        self._frozen = []

    def new(self, size):
        """A vector of `size` labels that no other tensor has."""
        start = self._count
        self._count += size
        return np.arange(start, self._count)

    def unite(self, a, b):
        """Position i of one vector lives or dies with position i of the other."""
        self.edges.append((a, b))

    def freeze(self, vector, reason):
        """These channels can't be removed; `reason` names the op."""
        self._frozen.append((vector, reason))

    def roots(self):
        """For each label the smallest label of its group."""
        roots = np.arange(self._count)
        if not self.edges:
            return roots
        a = np.concatenate([edge[0] for edge in self.edges])
        b = np.concatenate([edge[1] for edge in self.edges])
        while len(a):
            # Hooks larger roots to smaller ones, then shortens all paths. A root is
            # hooked to the smallest of its neighbours; with any other, a label that
            # is united with a thousand would take a thousand rounds.
            low, high = np.minimum(roots[a], roots[b]), np.maximum(roots[a], roots[b])
            np.minimum.at(roots, high, low)
            while True:
                shorter = roots[roots]
                if np.array_equal(shorter, roots):
                    break
                roots = shorter
            apart = roots[a] != roots[b]
            a, b = a[apart], b[apart]
        return roots

    def spread(self, known):
        """Numbers for all labels, where those of some are known.

        Args:
          known: [(label vector, number of each of its labels)].

        Returns:
          [labels] the number that was given; for the others that of the labels they are
          united with, or -1 where these have none, or several.
        """
        roots = self.roots()
        numbers = np.full(len(roots), -1)
        for vector, its in known:
            numbers[vector] = its
        given = np.nonzero(numbers >= 0)[0]
        largest, smallest = np.full(len(roots), -1), np.full(len(roots), np.inf)
        np.maximum.at(largest, roots[given], numbers[given])
        np.minimum.at(smallest, roots[given], numbers[given])
        agreed = np.where(largest == smallest, largest, -1)[roots]
        return np.where(numbers >= 0, numbers, agreed)

    def frozen_reasons(self, roots):
        """{root of a frozen group: the first reason that froze it}."""
        reasons = {}
        for vector, reason in self._frozen:
            for root in np.unique(roots[vector]):
                reasons.setdefault(int(root), reason)
        return reasons
