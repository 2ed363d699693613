"""What a training step costs with each compressor, beside none and beside contrib's.

    python -m tests.benchmarks.step_time

MonitoredSessions in one process take turns, one step a turn, each turn in another
order: the user's model_fn as it is, the same through ec.compress, with each compressor
and the hooks of their EstimatorSpec, and the same with what TensorFlow has. All have
been through one trial when the clock starts. The same batch is in every step; no
checkpoints are saved.

Methods: sparsifier and pruner, beside them contrib_pruning (tf.contrib.model_pruning);
quantizer (8 bits, every layer) and winograd, beside them contrib_quantize
(tf.contrib.quantize) and element_wise_lsq.

Runs with stock TensorFlow and with intel-tensorflow, whichever is installed.
"""
import contextlib
import tempfile
import time

import numpy as np
import tensorflow.compat.v1 as tf
from absl import app, flags

import ec_estimator as ec
from tests.benchmarks import contrib_pruning, networks, other_quantization, record

FLAGS = flags.FLAGS
flags.DEFINE_integer("rounds", 150, "timed steps of each session", lower_bound=10)
flags.DEFINE_integer("warm_up", 10, "steps before them", lower_bound=10)
flags.DEFINE_list("networks", ["resnet20", "dense_net"], "which networks")
flags.DEFINE_list(
    "methods",
    ["sparsifier", "pruner", "contrib_pruning"],
    "what is timed beside plain",
)
flags.DEFINE_string("results", "step_time", "beginning of the results' file name")

INTERVAL = 1000
# Training begins here, so that trial 1 falls into the warm-up and trial 2 far behind.
FIRST_STEP = INTERVAL - 5
SPARSIFIER_CONFIG = ec.SparsifierConfig(target_sparse_ratio=0.6, step_interval=INTERVAL)
PRUNER_CONFIG = ec.PrunerConfig(
    compression_ratio=0.5, step_interval=INTERVAL, num_trials=10
)
COMPRESSORS = {
    "sparsifier": lambda: ec.Sparsifier(SPARSIFIER_CONFIG),
    "pruner": lambda: ec.Pruner(PRUNER_CONFIG),
    "quantizer": lambda: _quantizer(),
    "element_wise_lsq": lambda: _quantizer(),
    "winograd": lambda: _quantizer(int8_winograd=True),
}
PARAMS = {"steps": 20000, "learning_rate": 1e-3, "weight_decay": 1e-4}
SHAPES = {"resnet20": (128, 32, 32, 3), "dense_net": (256, 2048)}


def _quantizer(**settings):
    config = ec.QuantizerConfig(signed="auto", step_interval=INTERVAL, **settings)
    return ec.LSQQuantizer(config)


class Runner:
    """A model in a graph and MonitoredSession of its own.

    Args:
      network: name of the network.
      method: "plain" or one of the methods.
      stack: contextlib.ExitStack that closes the session.
    """

    def __init__(self, network, method, stack):
        contrib = method == "contrib_pruning"
        getter = contrib_pruning.mask_kernels if contrib else None
        model_fn = networks.make_model_fn(_network(network, method), getter)
        with tf.Graph().as_default():
            tf.set_random_seed(1)
            features, labels = _data(SHAPES[network])
            mode, hooks = tf.estimator.ModeKeys.TRAIN, []
            if method in COMPRESSORS:
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                with _operations(method):
                    spec = ec.compress(model_fn, COMPRESSORS[method]())(
                        features, labels, mode, PARAMS, tf.estimator.RunConfig(folder)
                    )
                hooks = [*spec.training_chief_hooks, *spec.training_hooks]
            else:
                spec = model_fn(features, labels, mode, PARAMS)
                if contrib:
                    hooks = [contrib_pruning.MaskUpdateHook(SPARSIFIER_CONFIG)]
            to_first_step = tf.assign(tf.train.get_global_step(), FIRST_STEP)
            self._fetches = [spec.train_op, spec.loss]
            scaffold = spec.scaffold or tf.train.Scaffold()
            self._session = stack.enter_context(
                tf.train.MonitoredSession(
                    tf.train.ChiefSessionCreator(scaffold), hooks=hooks
                )
            )
            self._session.run_step_fn(
                lambda step_context: step_context.session.run(to_first_step)
            )

    def step(self):
        """Seconds of one training step, hooks included."""
        started = time.perf_counter()
        _, loss = self._session.run(self._fetches)
        seconds = time.perf_counter() - started
        if not np.isfinite(loss):
            raise ArithmeticError(f"loss is {loss}; what is timed is no training")
        return seconds


def _operations(method):
    if method == "element_wise_lsq":
        return other_quantization.element_wise()
    return contextlib.ExitStack()


def _network(name, method):
    network = getattr(networks, name)
    if method == "contrib_quantize":
        return other_quantization.with_contrib(network, 8)
    return network


def _data(shape):
    random = np.random.RandomState(0)
    inputs = random.standard_normal(shape).astype(np.float32)
    labels = random.randint(10, size=shape[0]).astype(np.int32)
    # Inputs that could be fed: constants would not count as a model's input.
    return (
        {"x": tf.placeholder_with_default(inputs, shape)},
        tf.placeholder_with_default(labels, shape[:1]),
    )


def measure(network):
    """{method: seconds of each timed step and of the slowest step in the warm-up}."""
    with contextlib.ExitStack() as stack:
        methods = ["plain", *FLAGS.methods]
        runners = {m: Runner(network, m, stack) for m in methods}
        seconds = {m: [] for m in methods}
        for turn in range(FLAGS.warm_up + FLAGS.rounds):
            shift = turn % len(methods)
            for method in methods[shift:] + methods[:shift]:
                seconds[method].append(runners[method].step())
    return {m: np.array(s[FLAGS.warm_up :]) for m, s in seconds.items()}


def main(_):
    tf.logging.set_verbosity(tf.logging.ERROR)
    figures, rows = {}, []
    for network in FLAGS.networks:
        seconds = measure(network)
        figures[network] = {"batch": SHAPES[network][0]}
        for method, values in seconds.items():
            pairs = values / seconds["plain"]
            figures[network][method] = {
                "median_ms": round(float(np.median(values)) * 1e3, 3),
                "quartiles_ms": [
                    round(float(np.percentile(values, q)) * 1e3, 3) for q in (25, 75)
                ],
                "ratio_of_medians": round(
                    float(np.median(values) / np.median(seconds["plain"])), 4
                ),
                "median_of_ratios": round(float(np.median(pairs)), 4),
            }
            rows.append((network, method, *figures[network][method].values()))
    print(f"TensorFlow {tf.version.VERSION} ({record.flavour()})")
    header = ("network", "method", "median ms", "quartiles ms", "ratio", "pairwise")
    record.print_table(header, rows)
    figures["rounds"] = FLAGS.rounds
    name = f"{FLAGS.results}_{record.flavour()}"
    record.save(name, "tests.benchmarks.step_time", figures)


if __name__ == "__main__":
    app.run(main)
