"""What this package remembers of a tf.Graph, for as long as the graph lives."""

_PREFIX = "ec_estimator_"


def remember(graph, what, value):
    """Remembers a value of a graph.

    An attribute of the graph, not an entry of a dictionary by graph: most values refer
    to the graph themselves, and such an entry would never go away.
    """
    setattr(graph, _PREFIX + what, value)


def table(graph, what):
    """A dictionary that a graph remembers, empty at first."""
    if recall(graph, what) is None:
        remember(graph, what, {})
    return recall(graph, what)


def recall(graph, what, default=None):
    """What `remember` was given last for a graph, or the default."""
    return getattr(graph, _PREFIX + what, default)
