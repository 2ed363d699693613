"""Which axes of variables labels were made for."""
import numpy as np


class Births:
    """The variable axes behind labels, and which of them are joined before a layer.

    A birth is (variable name, axis). Example: a kernel in two parts has an output axis
    each; where the parts are concatenated along another axis, position i of one is
    united with position i of the other. A layer that reads the whole produces both.
    """

    def __init__(self):
        self._births = []
        # [label] the index of its birth, and room for more: looked up at once for a
        # vector, without a search that would grow with the number of variables.
        self._indices = np.empty(1024, np.int64)
        self._twins = {}

    def add(self, vector, birth):
        """New labels, the next in order; birth: None if they are no variable's."""
        if not len(vector):
            return
        start, stop = int(vector[0]), int(vector[-1]) + 1
        if stop > len(self._indices):
            room = np.empty(max(stop, 2 * len(self._indices)), np.int64)
            room[:start] = self._indices[:start]
            self._indices = room
        self._indices[start:stop] = len(self._births)
        self._births.append(birth)

    def of(self, vector):
        """The births of a vector's labels, a set."""
        places = np.unique(self._indices[vector])
        return {self._births[place] for place in places} - {None}

    def pair(self, a, b):
        """Weights with these labels are joined before they come to a layer."""
        births, others = self.of(a), self.of(b)
        for birth in births:
            self._twins.setdefault(birth, set()).update(others)
        for other in others:
            self._twins.setdefault(other, set()).update(births)

    def kin(self, vector):
        """The births of a vector's labels, and all that these are joined with."""
        found, news = set(), self.of(vector)
        while news:
            found |= news
            news = set().union(*(self._twins.get(b, ()) for b in news)) - found
        return found
