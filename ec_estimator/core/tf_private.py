"""Every private name of TensorFlow and Estimator that this package touches, and why."""
import contextlib
import copy

import tensorflow.compat.v1 as tf
from tensorflow.python.ops import control_flow_util
from tensorflow.python.training import training_util
from tensorflow.python.util import function_utils

# The collection of a graph whose global step is read for a loop of training.
GLOBAL_STEP_READ = training_util.GLOBAL_STEP_READ_KEY


def arguments_of(function):
    """Names of a function's arguments as an Estimator sees them: of partials, methods
    and callable objects those that are left to give."""
    return function_utils.fn_args(function)


def has_gradient_override(graph, op_type):
    """Whether user code has given such ops, where it is now, a gradient of its own."""
    return op_type in graph._gradient_override_map


def keep_gradient_override(graph, op_type, name):
    """Gives all later ops of a type in a graph another gradient, unless user code
    does; graph.gradient_override_map ends with a block."""
    graph._gradient_override_map.setdefault(op_type, name)


def order_of_creation(op):
    """Ops of a graph are numbered as they are made."""
    return op._id


def slice_info(variable):
    """Which part of a partitioned variable this is (full_name, full_shape,
    var_offset), or None for a whole one."""
    return getattr(variable, "_save_slice_info", None)


def true_shape(tensor):
    """A tensor's static shape as TensorFlow's C++ side knows it."""
    return tensor._c_api_shape()


def show_shape(tensor, shape, set_shape):
    """Has Python see another static shape than TensorFlow's C++ side.

    Args:
      set_shape: what a call of the tensor's `set_shape` runs instead.
    """
    tensor._shape_val = shape
    tensor.set_shape = set_shape


def show_true_shape(tensor):
    """Takes `show_shape` back."""
    tensor._shape_val = None
    del tensor.set_shape


def set_true_shape(tensor, shape):
    """Tensor.set_shape for C++ alone: what Python sees stays."""
    shown = tensor._shape_val
    tf.Tensor.set_shape(tensor, shape)
    tensor._shape_val = shown


def show_variable_shape(variable, shape):
    """Has a resource variable, which remembers its shape, show another one. A
    reference variable asks its tensor."""
    if "_shape" in vars(variable):
        variable._shape = tf.TensorShape(shape)


def initializer_of(variable):
    """What gives a variable its first value: (op, tensor)."""
    return variable._initializer_op, variable._initial_value


def set_initializer(variable, initializer):
    """Puts back what `initializer_of` gave."""
    variable._initializer_op, variable._initial_value = initializer


def copy_names_in_use(source, target, scope=""):
    """Has a scratch graph number the names of its ops as another graph would, inside of
    a name scope."""
    # Names are told apart without their case.
    inside = scope.lower()
    target._names_in_use = {
        name[len(scope) :]: number
        for name, number in source._names_in_use.items()
        if name.startswith(inside)
    }


def replace_input(op, index, tensor):
    """Makes an op that exists read another tensor. Only before a session ran it."""
    op._update_input(index, tensor)


def wait_for(op, other):
    """Has an op that exists run after another. Only before a session ran it."""
    op._add_control_input(other)


def join_groups(op, others):
    """Has every tf.group that holds `op` run others, too. Only before a session ran it.

    Such as an init_op that was made before the others existed. The op itself does not
    run them: Variable.load runs a single initializer.
    """
    # tf.train.init_from_checkpoint makes an initializer a Tensor.
    op = op.op if isinstance(op, tf.Tensor) else op
    for group in op._control_outputs:
        if group.type == "NoOp":
            group._add_control_inputs(others)


@contextlib.contextmanager
def context_of_inputs(op):
    """Ops made inside join the conditional or loop that `op` reads its inputs in.

    Without it, an op that reads a tensor of a branch runs outside of the branch and
    waits for a value that may never come.
    """
    with _context(op.graph, op._get_control_flow_context()):
        yield


@contextlib.contextmanager
def context_of_outputs(op):
    """The same for the readers of `op`: what leaves a loop is outside of it."""
    with _context(op.graph, control_flow_util.GetOutputContext(op)):
        yield


def branches_of(op):
    """The branches of tf.cond that an op is in, innermost first: [(condition, 0 or 1)].

    A loop ends the list: what is around it decides whether the loop runs.
    """
    found, context = [], op._get_control_flow_context()
    while context is not None and context.IsCondContext():
        found.append((context.pred, context.branch))
        context = context.outer_context
    return found


def is_outside(op):
    """Whether what an op puts out is outside of all conditionals and loops."""
    return control_flow_util.GetOutputContext(op) is None


def is_in_loop(op):
    """Whether what an op puts out belongs to a turn of a tf.while_loop."""
    context = control_flow_util.GetOutputContext(op)
    while context is not None and not context.IsWhileContext():
        context = context.outer_context
    return context is not None


@contextlib.contextmanager
def _context(graph, context):
    # Control dependencies of user code around us, such as on the update ops of batch
    # norm, would close a cycle; without them there is no context either.
    with graph.control_dependencies(None):
        graph._set_control_flow_context(context)
        try:
            yield
        finally:
            graph._set_control_flow_context(None)


def forward_op(op):
    """The forward op whose gradient this op belongs to, or None.

    Lost when a graph is imported; see rewrite.backward for what serves then.
    """
    return op._original_op


def model_fn_of(estimator):
    """The function an Estimator was built with; its public property hides params."""
    return estimator._model_fn


def with_model_fn(estimator, model_fn):
    """A copy of an Estimator, warm start and all, that calls another model_fn."""
    return set_model_fn(copy.copy(estimator), model_fn)


def set_model_fn(estimator, model_fn):
    """Has an Estimator call another model_fn from here on; returns it."""
    estimator._model_fn = model_fn
    return estimator


def without_event_files(exporter):
    """A copy of a BestExporter that does not read earlier evaluations' event files:
    they hold results from before the last trial, which nothing later can beat."""
    twin = copy.copy(exporter)
    twin._event_file_pattern = None
    return twin
