"""The private names of TensorFlow by which a graph's ops and gradients are intercepted.

Interceptors of one graph are around each other, the last one opened outermost. They
may end in any order: the replicas of a distribution strategy build their parts of a
graph in threads of their own, of which one runs at a time.
"""
import contextlib
import functools
import threading

from tensorflow.python.ops import gradients_util

from ec_estimator.core.memory import table
from ec_estimator.core.names import name_in_graph

# tf.gradients, Optimizer.compute_gradients, contrib's and Keras' optimizers all go
# through this function, looked up as a module attribute at each call.
_GRADIENTS = "_GradientsHelper"
_lock = threading.Lock()
# {graph: {an object: interceptor}}, in the order they were opened in.
_interceptors = {}
_original = getattr(gradients_util, _GRADIENTS)
# The method of a graph that makes ops, and what a graph remembers of those around it.
_CREATE = "_create_op_internal"
_CREATORS = "creators"


@contextlib.contextmanager
def intercept_gradients(graph, intercept):
    """While open, gradients of `graph` are taken by `intercept`.

    Args:
      graph: the tf.Graph; other graphs, and other threads' graphs, are not affected.
      intercept: callable(take, ys, xs) -> gradients, where take(xs) -> gradients is
        TensorFlow's own way, or that of the interceptor around this one.
    """
    key = object()
    with _lock:
        _interceptors.setdefault(graph, {})[key] = intercept
        setattr(gradients_util, _GRADIENTS, _dispatch)
    try:
        yield
    finally:
        with _lock:
            del _interceptors[graph][key]
            if not _interceptors[graph]:
                del _interceptors[graph]
            if not _interceptors:
                setattr(gradients_util, _GRADIENTS, _original)


def _dispatch(ys, xs, *args, **kwargs):
    as_list = xs if isinstance(xs, (list, tuple)) else [xs]
    graph = next((x.graph for x in as_list if hasattr(x, "graph")), None)

    def take(xs):
        return _original(ys, xs, *args, **kwargs)

    for intercept in list(_interceptors.get(graph, {}).values()):
        take = functools.partial(_intercepted, intercept, take, ys)
    return take(list(as_list))


def _intercepted(intercept, take, ys, xs):
    return intercept(take, ys, xs)


@contextlib.contextmanager
def intercept_creation(graph, create):
    """While open, ops of `graph` that Python code makes are made by `create`.

    Args:
      create: callable(make, op type, inputs, name) -> op, where make(inputs) -> op is
        TensorFlow's own way and `name` the name that the op will have.
    """
    key, creators = object(), table(graph, _CREATORS)
    if not creators:
        # An attribute of the instance hides the class's method, for this graph alone.
        hidden = vars(graph).get(_CREATE)
        original = getattr(graph, _CREATE)
        setattr(graph, _CREATE, functools.partial(_create, graph, original))
    else:
        hidden, _ = next(iter(creators.values()))
    creators[key] = hidden, create
    try:
        yield
    finally:
        del creators[key]
        if not creators and hidden:
            setattr(graph, _CREATE, hidden)
        elif not creators:
            delattr(graph, _CREATE)


def _create(
    graph,
    original,
    op_type,
    inputs,
    dtypes=None,
    input_types=None,
    name=None,
    *args,
    **kwargs,
):
    full = name_in_graph(graph, name or op_type)

    def make(inputs):
        return original(op_type, inputs, dtypes, input_types, name, *args, **kwargs)

    for _, create in list(table(graph, _CREATORS).values()):
        make = functools.partial(_created, create, make, op_type, full)
    return make(list(inputs))


def _created(create, make, op_type, name, inputs):
    return create(make, op_type, inputs, name)
