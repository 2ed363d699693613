"""Under a distribution strategy every copy of every variable starts from the weights
that the training was told to start from, and is compressed from there."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.contrib import framework, slim

import ec_estimator as ec
from ec_estimator.core.replicas import members
from ec_estimator.shrink.artifact import read_artifact
from tests.quantization.mode_models import dataset, normal
from tests.replicas import REPLICAS, mirrored, run_config
from tests.training.test_zoo import checkpoint

MODES = tf.estimator.ModeKeys
STEPS = 3
KERNELS = ("Hidden/kernel", "Out/kernel")
MOVING = ("Norm/moving_mean", "Norm/moving_variance")
# What the model is made of; the rest are slots, the step and our own state.
MODEL = (
    *("Hidden/kernel", "Hidden/bias", "Norm/gamma", "Norm/beta", *MOVING),
    *("Out/kernel", "Out/bias"),
)
TRAINABLE = [name for name in MODEL if name not in MOVING]


def input_fn():
    return dataset(x=normal(8))().repeat()


def central():
    """Two replicas on one copy of each variable, as on a machine of two GPUs."""
    devices = [f"/cpu:{n}" for n in range(REPLICAS)]
    return tf.distribute.experimental.CentralStorageStrategy(devices, "/cpu:0")


STRATEGIES = {
    "mirrored": mirrored,
    "central": central,
    "parameter_server": tf.distribute.experimental.ParameterServerStrategy,
    "one_device": lambda: tf.distribute.OneDeviceStrategy("/cpu:0"),
}


def model_fn(features, labels, mode, params):
    """Two dense layers around a batch norm; weights are from -scale to scale at first.

    params: scale, rate (of training) and begin (what user code does when the layers are
    built: None or a callable that returns a Scaffold or None).
    """
    initializer = tf.random_uniform_initializer(-params["scale"], params["scale"])
    made = {"kernel_initializer": initializer, "bias_initializer": initializer}
    x = tf.layers.dense(features["x"], 12, name="Hidden", **made)
    training = mode == MODES.TRAIN
    x = tf.layers.batch_normalization(x, training=training, momentum=0.5, name="Norm")
    y = tf.layers.dense(tf.nn.relu(x), 3, name="Out", **made)
    scaffold = params["begin"] and params["begin"]()
    if mode == MODES.PREDICT:
        return tf.estimator.EstimatorSpec(mode, {"y": y}, scaffold=scaffold)
    loss = tf.losses.sparse_softmax_cross_entropy(labels, y)
    optimizer = tf.train.MomentumOptimizer(params["rate"], 0.9)
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        train_op = optimizer.minimize(loss, tf.train.get_global_step())
    return tf.estimator.EstimatorSpec(
        mode, loss=loss, train_op=train_op, scaffold=scaffold
    )


class Start(tf.train.SessionRunHook):
    """`values`: {name of a variable: [array of each copy]} before step 1."""

    def begin(self):
        self._fetches = {
            members(v)[0].op.name: [copy.value() for copy in members(v)]
            for v in tf.global_variables()
        }

    def after_create_session(self, session, coord):
        self.values = session.run(self._fetches)


def estimator(folder, wrap, strategy=None, warm_start_from=None, **params):
    return tf.estimator.Estimator(
        wrap(model_fn),
        config=run_config(folder, strategy),
        params={"scale": 0.1, "rate": 0.0, "begin": None, **params},
        warm_start_from=warm_start_from,
    )


def train(*args, steps=STEPS, **kwargs):
    """(the Estimator, what each copy of each variable starts from)."""
    run, start = estimator(*args, **kwargs), Start()
    run.train(input_fn, [start], max_steps=steps)
    return run, start.values


def assert_starts_from(values, expected, names=MODEL, strategy="mirrored"):
    """
    Args:
      values: of Start.
      expected: {name: array}.
    """
    for name in names:
        copies = values[name]
        assert len(copies) == (REPLICAS if strategy == "mirrored" else 1), name
        for copy in copies:
            np.testing.assert_array_equal(copy, expected[name], name)


def sparsifier():
    return ec.Sparsifier(ec.SparsifierConfig(0.5, step_interval=1, num_trials=1))


def pruner():
    return ec.Pruner(ec.PrunerConfig(0.4, step_interval=1, num_trials=1))


def quantizer(**settings):
    config = ec.QuantizerConfig(step_interval=1, num_trials=1, **settings)
    return ec.LSQQuantizer(config)


def compressing(compressor):
    return lambda model_fn: ec.compress(model_fn, compressor())


def assert_compressed(run, compressor, source):
    """At rate 0 what is left of the kernels are the source's, and the steps theirs."""
    values = checkpoint(run.model_dir)
    assert values[f"ec_estimator/{compressor().name}/trial"] == 1
    for name in KERNELS:
        kernel, expected = values[name], source[name]
        stays = kernel != 0
        np.testing.assert_array_equal(kernel[stays], expected[stays], name)
        if compressor is quantizer:
            assert stays.all()
            ranges = 127 * values[f"ec_estimator/quantization/{name}/step"]
            share = ranges / np.abs(expected).max(axis=0)
            assert np.all((share > 0.5) & (share < 1.5)), share
    gone = {name: values[name] == 0 for name in KERNELS}
    if compressor is sparsifier:
        for name in KERNELS:
            assert gone[name].mean() == 0.5
            sizes = np.abs(source[name])
            assert sizes[gone[name]].mean() < sizes[~gone[name]].mean()
    if compressor is pruner:
        rows = gone["Out/kernel"].all(axis=1)
        assert 0 < rows.sum() < 12 and (gone["Out/kernel"].any(axis=1) == rows).all()


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """The plain model's Estimator, and {name: value}; larger weights than a new one's,
    moving averages that have moved, and slots that are not zero."""
    folder = tmp_path_factory.mktemp("dense")
    run, _ = train(folder, lambda f: f, steps=2, scale=5.0, rate=0.05)
    return run, checkpoint(run.model_dir)


def regex(folder):
    return tf.estimator.WarmStartSettings(folder, vars_to_warm_start="(Hidden|Out)/.*")


def renamed(folder):
    return tf.estimator.WarmStartSettings(
        folder,
        vars_to_warm_start=["Hidden/bias", "Norm/moving", "Out/"],
        var_name_to_prev_var_name={"Hidden/bias": "Norm/gamma"},
    )


# {way: (warm_start_from of a folder, what it loads)}
WARM_STARTS = {
    "folder": (lambda folder: folder, TRAINABLE),
    "regex": (regex, [n for n in TRAINABLE if "Norm" not in n]),
    "ec.warm_start": (ec.warm_start, MODEL),
}


@pytest.mark.parametrize(
    "compressor, way, strategy",
    [
        (sparsifier, "folder", "mirrored"),
        (pruner, "regex", "mirrored"),
        (quantizer, "ec.warm_start", "mirrored"),
        (sparsifier, "ec.warm_start", "central"),
        pytest.param(sparsifier, "regex", "mirrored", marks=pytest.mark.slow),
        pytest.param(sparsifier, "ec.warm_start", "mirrored", marks=pytest.mark.slow),
        pytest.param(pruner, "folder", "mirrored", marks=pytest.mark.slow),
        pytest.param(pruner, "ec.warm_start", "mirrored", marks=pytest.mark.slow),
        pytest.param(quantizer, "folder", "mirrored", marks=pytest.mark.slow),
        pytest.param(quantizer, "regex", "mirrored", marks=pytest.mark.slow),
        pytest.param(pruner, "folder", "central", marks=pytest.mark.slow),
        pytest.param(quantizer, "regex", "central", marks=pytest.mark.slow),
        pytest.param(pruner, "folder", "one_device", marks=pytest.mark.slow),
        pytest.param(quantizer, "regex", "parameter_server", marks=pytest.mark.slow),
    ],
)
def test_a_warm_start(compressor, way, strategy, dense, tmp_path):
    source, expected = dense
    settings, names = WARM_STARTS[way]
    run, start = train(
        tmp_path,
        compressing(compressor),
        STRATEGIES[strategy](),
        settings(source.model_dir),
    )
    assert_starts_from(start, expected, names, strategy)
    assert start["global_step"][0] == 0
    assert not start["Out/kernel/Momentum"][0].any()
    assert_compressed(run, compressor, expected)


def test_a_warm_start_from_other_names(dense, tmp_path):
    source, expected = dense
    start = renamed(source.model_dir)
    _, values = train(tmp_path, compressing(sparsifier), mirrored(), start, steps=1)
    assert_starts_from(values, expected, (*MOVING, "Out/kernel", "Out/bias"))
    other = {"Hidden/bias": expected["Norm/gamma"]}
    assert_starts_from(values, other, other)
    assert np.abs(values["Hidden/kernel"][0]).max() <= 0.1


@pytest.mark.parametrize(
    "strategy",
    ["central", pytest.param("parameter_server", marks=pytest.mark.slow)],
)
def test_the_pretrained_model(strategy, dense, tmp_path):
    source, expected = dense
    compressor = lambda: quantizer(pretrained_model=source.model_dir)  # noqa: E731
    wrap = compressing(compressor)
    _, start = train(tmp_path, wrap, STRATEGIES[strategy](), steps=1)
    assert_starts_from(start, expected, strategy=strategy)


def scopes(folder):
    """User code that starts from a checkpoint, as BERT's scripts do."""
    names = ("Hidden/", "Norm/", "Out/")
    return lambda: tf.train.init_from_checkpoint(folder, {n: n for n in names})


def each(folder):
    """The same, variable by variable."""

    def begin():
        found = {v.name.split(":")[0]: v for v in tf.global_variables()}
        tf.train.init_from_checkpoint(folder, {name: found[name] for name in MODEL})

    return begin


def scaffold(folder):
    """slim's way."""

    def begin():
        path = tf.train.latest_checkpoint(folder)
        wanted = slim.get_trainable_variables()
        restore = framework.assign_from_checkpoint_fn(path, wanted)
        return tf.train.Scaffold(init_fn=lambda _, session: restore(session))

    return begin


@pytest.mark.parametrize(
    "compressor, begin, strategy",
    [
        (sparsifier, scopes, "mirrored"),
        (pruner, each, "mirrored"),
        (pruner, scopes, "central"),
        (pruner, scaffold, "mirrored"),
        (quantizer, scaffold, "central"),
        pytest.param(quantizer, scopes, "mirrored", marks=pytest.mark.slow),
        pytest.param(sparsifier, each, "one_device", marks=pytest.mark.slow),
        pytest.param(sparsifier, each, "parameter_server", marks=pytest.mark.slow),
        pytest.param(sparsifier, scaffold, "mirrored", marks=pytest.mark.slow),
        pytest.param(quantizer, scaffold, "mirrored", marks=pytest.mark.slow),
    ],
)
def test_a_checkpoint_that_user_code_names(
    compressor, begin, strategy, dense, tmp_path
):
    source, expected = dense
    run, start = train(
        tmp_path,
        compressing(compressor),
        STRATEGIES[strategy](),
        begin=begin(source.model_dir),
    )
    names = TRAINABLE if begin is scaffold else MODEL
    assert_starts_from(start, expected, names, strategy)
    assert_compressed(run, compressor, expected)


@pytest.fixture(scope="module")
def pruned(dense, tmp_path_factory):
    """(folder of a pruning run of two replicas, {name: value} of the small network)."""
    folder = tmp_path_factory.mktemp("pruned")
    start = ec.warm_start(dense[0].model_dir)
    run, _ = train(folder, compressing(pruner), mirrored(), start)
    reader = tf.train.load_checkpoint(read_artifact(run.model_dir).checkpoint)
    values = {name: reader.get_tensor(name) for name in MODEL}
    assert values["Out/kernel"].shape[0] < 12
    return run.model_dir, values


def finetuning(folder):
    return lambda model_fn: ec.finetune(model_fn, folder)


@pytest.mark.parametrize("strategy", ["mirrored", "central"])
def test_the_small_network(strategy, pruned, tmp_path):
    folder, expected = pruned
    made = STRATEGIES[strategy]()
    _, start = train(tmp_path, finetuning(folder), made, steps=1)
    assert_starts_from(start, expected, strategy=strategy)


@pytest.mark.parametrize(
    "begin, strategy",
    [
        (scopes, "mirrored"),
        (each, "mirrored"),
        (each, None),
        (each, "central"),
        pytest.param(scopes, None, marks=pytest.mark.slow),
        pytest.param(scopes, "central", marks=pytest.mark.slow),
        pytest.param(each, "parameter_server", marks=pytest.mark.slow),
        pytest.param(each, "one_device", marks=pytest.mark.slow),
    ],
)
def test_the_small_network_of_code_with_init_from_checkpoint(
    begin, strategy, dense, pruned, tmp_path
):
    folder, expected = pruned
    made = STRATEGIES[strategy]() if strategy else None
    run, start = train(
        tmp_path,
        finetuning(folder),
        made,
        steps=1,
        begin=begin(dense[0].model_dir),
    )
    assert_starts_from(start, expected, strategy=strategy)
    # As a checkpoint's meta graph is read, whose shapes have to agree.
    with tf.Graph().as_default():
        tf.train.import_meta_graph(f"{run.latest_checkpoint()}.meta")


def test_the_small_network_goes_on_from_its_checkpoint(pruned, tmp_path):
    folder, _ = pruned
    for steps in (1, 2):
        run, start = train(
            tmp_path, finetuning(folder), mirrored(), steps=steps, rate=0.05
        )
        if steps == 1:
            first = checkpoint(run.model_dir)
    assert (first["Out/kernel"] != pruned[1]["Out/kernel"]).any()
    names = [*MODEL, *(f"{name}/Momentum" for name in TRAINABLE)]
    assert_starts_from(start, first, names)
    assert start["global_step"][0] == 1
    assert checkpoint(run.model_dir)["global_step"] == 2


def test_the_small_network_from_a_warm_start_of_its_own(pruned, tmp_path):
    folder, _ = pruned
    first, _ = train(tmp_path / "1", finetuning(folder), mirrored(), steps=1, rate=0.05)
    start = ec.warm_start(first.model_dir)
    _, values = train(tmp_path / "2", finetuning(folder), mirrored(), start, steps=1)
    assert_starts_from(values, checkpoint(first.model_dir))
    assert not values["Out/kernel/Momentum"][0].any()


@pytest.mark.parametrize("strategy", [None, "mirrored"])
def test_the_small_network_takes_no_warm_start_from_the_whole(
    strategy, pruned, tmp_path
):
    folder, _ = pruned
    made = STRATEGIES[strategy]() if strategy else None
    with pytest.raises(ValueError, match="Shape of variable .* doesn't match"):
        train(tmp_path, finetuning(folder), made, ec.warm_start(folder), steps=1)


def test_a_pruned_run_is_a_warm_start(pruned, tmp_path):
    """Of the whole network, its removed channels zero."""
    folder, _ = pruned
    start = ec.warm_start(folder)
    run, values = train(tmp_path, compressing(quantizer), mirrored(), start)
    expected = checkpoint(folder)
    assert_starts_from(values, expected)
    found = checkpoint(run.model_dir)
    for name in KERNELS:
        np.testing.assert_array_equal(found[name], expected[name])


# Its fast twin is that of the small network.
@pytest.mark.slow
def test_a_compressed_run_goes_on_from_its_checkpoint(dense, pruned, tmp_path):
    """And not, once more, from what it has started from."""
    source, expected = dense
    for steps in (2, 3):
        run, start = train(
            tmp_path,
            compressing(sparsifier),
            mirrored(),
            ec.warm_start(source.model_dir),
            steps=steps,
            rate=0.05,
        )
        if steps == 2:
            stopped = checkpoint(run.model_dir)
    assert (stopped["Out/kernel"] != expected["Out/kernel"]).any()
    assert_starts_from(start, stopped)
    assert start["global_step"][0] == 2
