"""Which process of a cluster runs the trials, and so needs what they are decided by."""
from ec_estimator.core.memory import recall, remember

_RUNS = "runs_trials"


def leave_trials(graph):
    """Notes that another process runs the trials of a training graph.

    It has to be known before compressors look at the graph. They make the same
    variables then, because TensorFlow may place a user's by how many there are.
    """
    remember(graph, _RUNS, False)


def runs_trials(graph):
    """Whether this process runs a training graph's trials."""
    return recall(graph, _RUNS, True)
