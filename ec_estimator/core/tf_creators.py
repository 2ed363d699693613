"""The private name of TensorFlow by which variables are made past a strategy."""
import contextlib


@contextlib.contextmanager
def no_creators(graph):
    """Context in which a variable of `graph` is just that: neither user code's variable
    creators nor a distribution strategy, which would make one on each replica's device
    and count the calls, get to see it."""
    stack = graph._variable_creator_stack
    graph._variable_creator_stack = []
    try:
        yield
    finally:
        graph._variable_creator_stack = stack
