"""How long a batch takes in the whole network and in the small one."""
import contextlib
import os
import time

import numpy as np
import tensorflow.compat.v1 as tf

from ec_estimator.core.input_fn import call_input_fn
from ec_estimator.core.model_fn import ModelFn
from ec_estimator.report.data import Latency, Measurement
from ec_estimator.shrink.finetune import finetune

PREDICT = tf.estimator.ModeKeys.PREDICT
# The first runs optimize the graph and allocate.
_WARM_UP = 5


def measure_latency(model_fn, folder, input_fn, batch_sizes, runs, params, command):
    """Times both networks in PREDICT mode, in turns, with TensorFlow's own threads.

    The whole network has its initial values, for latency does not depend on them. Both
    are fed from memory, and all their predictions are fetched.

    Args:
      model_fn: as it was given to `compress`.
      folder: the pruning artifact's.
      input_fn: of which the first batch is used, repeated or cut to size.
      batch_sizes: of the batches.
      runs: timed batches of each network and size.
      params: of model_fn and input_fn.
      command: the command line that measures this.

    Returns:
      Measurement.

    Raises:
      PlanError, RunFolderError: as `finetune`.
    """
    config = tf.estimator.RunConfig()
    example, has_fixed_size = _first_batch(input_fn, params, config)
    networks = [ModelFn(model_fn), ModelFn(finetune(model_fn, folder))]
    latencies = []
    for size in batch_sizes:

        def features(size=size):
            data = tf.data.Dataset.from_tensor_slices(example).repeat()
            data = data.batch(size, drop_remainder=has_fixed_size)
            return tf.data.make_one_shot_iterator(data).get_next()

        with contextlib.ExitStack() as sessions:
            steps = [
                _step(sessions, network, features, params, config)
                for network in networks
            ]
            seconds = time_in_turns(steps, runs)
        before, after = 1000 * np.median(seconds, axis=0)
        latencies.append(Latency(size, float(before), float(after)))
    return Measurement(
        command, runs, tf.version.VERSION, os.cpu_count(), tuple(latencies)
    )


def time_in_turns(steps, runs, clock=time.perf_counter):
    """Calls each of `steps` in turn, `runs` times: what slows the machine down for a
    while slows all of them.

    Returns:
      [runs, steps] seconds.
    """
    for step in steps:
        for _ in range(_WARM_UP):
            step()
    seconds = np.empty([runs, len(steps)])
    for row in seconds:
        for index, step in enumerate(steps):
            started = clock()
            step()
            row[index] = clock() - started
    return seconds


def _first_batch(input_fn, params, config):
    """(features as arrays, whether their graph gives the batch a fixed size)."""
    with tf.Graph().as_default():
        tf.train.create_global_step()
        data = call_input_fn(input_fn, tf.estimator.ModeKeys.EVAL, params, config)
        sizes = [
            tensor.shape.as_list()[0]
            for tensor in tf.nest.flatten(data.features, expand_composites=True)
            if tensor.shape.rank
        ]
        with tf.train.MonitoredSession(hooks=data.hooks) as session:
            return session.run(data.features), None not in sizes


def _step(sessions, network, features, params, config):
    """A function that runs a network on a batch that it is fed.

    Args:
      sessions: ExitStack that closes what the function runs in.
      features: callable, puts a batch into the default graph.
    """
    with tf.Graph().as_default() as graph:
        tf.train.create_global_step()
        batch = features()
        spec = network(batch, None, PREDICT, params, config)
        outputs = tf.nest.flatten(spec.predictions)
        initializers = [
            tf.global_variables_initializer(),
            tf.local_variables_initializer(),
            tf.tables_initializer(),
        ]
    session = tf.Session(graph=graph)
    sessions.callback(session.close)
    session.run(initializers)
    feeds = tf.nest.flatten(batch, expand_composites=True)
    values = session.run(feeds)
    run = session.make_callable(outputs, feed_list=feeds)
    return lambda: run(*values)
