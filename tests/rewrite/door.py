"""The door as one thread walks through it."""
import contextlib

from ec_estimator.rewrite import reads


@contextlib.contextmanager
def gated_reads(graph, gate):
    with reads.gated_reads(graph, gate), reads.gated_variables(graph):
        yield
