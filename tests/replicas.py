"""Distribution strategies on this machine: logical CPU devices stand in for GPUs."""
import tensorflow.compat.v1 as tf

REPLICAS = 2


def mirrored():
    return tf.distribute.MirroredStrategy([f"/cpu:{n}" for n in range(REPLICAS)])


def run_config(model_dir, train=None, evaluate=None):
    """RunConfig with as many logical devices.

    Args:
      train, evaluate: strategies or None.
    """
    return tf.estimator.RunConfig(
        str(model_dir),
        tf_random_seed=4,
        train_distribute=train,
        eval_distribute=evaluate,
        session_config=session_config(),
    )


def session_config():
    """tf.ConfigProto with as many logical devices as replicas."""
    return tf.ConfigProto(
        device_count={"CPU": REPLICAS},
        allow_soft_placement=True,
        intra_op_parallelism_threads=1,
        inter_op_parallelism_threads=2,
    )


def for_each(input_fn):
    """An input_fn that gives each replica the same batch."""
    return lambda: input_fn().flat_map(
        lambda *batch: tf.data.Dataset.from_tensors(batch).repeat(REPLICAS)
    )


class Copies(tf.train.SessionRunHook):
    """Before each step: {name of a variable: [array of each replica's copy]}, and
    whatever else is asked for.

    Args:
      also: callable(graph) -> {name: [tensor of each replica]}.
    """

    def __init__(self, also=lambda graph: {}):
        self._also = also

    def begin(self):
        self.seen = []
        copies = {
            v.name: list(v.values)
            for v in tf.global_variables()
            if len(getattr(v, "values", ())) == REPLICAS
            # Each replica's moving averages are its own until they are saved.
            and v.synchronization != tf.VariableSynchronization.ON_READ
        }
        self._fetches = {**copies, **self._also(tf.get_default_graph())}

    def before_run(self, run_context):
        self.seen.append(run_context.session.run(self._fetches))
