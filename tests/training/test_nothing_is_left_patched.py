"""No attribute of TensorFlow differs after what this package did, well or badly."""
import itertools
import sys
import types

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models

TENSORFLOW = ("tensorflow", "tensorflow_core", "tensorflow_estimator")
SHAPE = (6,)
WIDTH = 12
# What Python itself fills in when it is first needed: where a warning was given, and
# what copy.copy has to copy.
FILLED_BY_PYTHON = ("__warningregistry__", "__slotnames__")


def is_tensorflows(name):
    return isinstance(name, str) and name.split(".")[0] in TENSORFLOW


def snapshot():
    """{(module or class, attribute): value} of all that TensorFlow has loaded.

    The values themselves, not their ids: what is gone could have an id again.
    """
    found = {}
    for name, module in list(sys.modules.items()):
        if not is_tensorflows(name) or not isinstance(module, types.ModuleType):
            continue
        # Fills itself with what is in another module here.
        if is_lazy(module):
            continue
        # Not vars(): a module that loads on demand would load.
        for attribute, value in list(module.__dict__.items()):
            found[name, attribute] = value
            if isinstance(value, type) and is_tensorflows(value.__module__):
                owner = f"{value.__module__}.{value.__qualname__}"
                for inner, part in list(vars(value).items()):
                    found[owner, inner] = part
    return found


def is_lazy(value):
    """A stand-in of TensorFlow's for a module, which loads it when it is used."""
    return type(value).__name__ == "LazyLoader"


def changes(before, after):
    """Attributes that are gone, new or others, of modules and classes in both.

    A module that was imported since is no change: as a new attribute of its package,
    or in place of what loads it.
    """
    owners = {owner for owner, _ in before}
    missing = object()
    found = []
    for key in {**before, **after}:
        old, new = before.get(key, missing), after.get(key, missing)
        imported = isinstance(new, types.ModuleType) and (
            old is missing or is_lazy(old)
        )
        filled = key[1] in FILLED_BY_PYTHON or imported
        if old is not new and key[0] in owners and not filled:
            found.append(key)
    return sorted(found)


def ours(found):
    """What belongs to this package among TensorFlow's attributes."""
    return sorted(
        key
        for key, value in found.items()
        if str(getattr(value, "__module__", "")).split(".")[0] == "ec_estimator"
    )


def network(x, training):
    return tf.layers.dense(tf.layers.dense(x, WIDTH, tf.nn.relu), models.CLASSES)


def train(folder, model_fn, input_fn):
    estimator = tf.estimator.Estimator(model_fn, config=models.run_config(str(folder)))
    estimator.train(input_fn, max_steps=2)


def failing_network(calls):
    """Raises in its training graph, when its layers are built."""

    def failing(x, training):
        logits = network(x, training)
        if training and next(calls) == 0:
            raise ZeroDivisionError("user code")
        return logits

    return failing


def fails_at(call):
    """Counts down to 0 at the call of that number, the first being 0."""
    return itertools.count(call, -1)


COMPRESSORS = {
    "sparsifier": lambda: ec.Sparsifier(
        ec.SparsifierConfig(step_interval=1, num_trials=1)
    ),
    "pruner": lambda: ec.Pruner(
        ec.PrunerConfig(compression_ratio=0.5, step_interval=1, num_trials=1)
    ),
    "quantizer": lambda: ec.LSQQuantizer(
        ec.QuantizerConfig(step_interval=1, num_trials=1)
    ),
}
EVERY = pytest.mark.parametrize("compressor", COMPRESSORS)


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """TensorFlow fills a few of its modules when a model is first trained: the
    context of eager execution, modules that load on demand, a flag of mixed precision.
    """
    model_fn, input_fn = models.classifier(network, SHAPE)
    train(tmp_path_factory.mktemp("warm"), model_fn, input_fn)


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    """The folder of a finished pruning run."""
    folder = tmp_path_factory.mktemp("pruned")
    model_fn, input_fn = models.classifier(network, SHAPE)
    train(folder, ec.compress(model_fn, COMPRESSORS["pruner"]()), input_fn)
    return str(folder)


@pytest.fixture
def unchanged(warm):
    """Fails the test that uses it if TensorFlow differs at its end."""
    before = snapshot()
    yield
    after = snapshot()
    assert changes(before, after) == []
    # Found even if it was there before the test.
    assert ours(after) == []


def test_a_training_that_is_not_compressed_changes_nothing(unchanged, tmp_path):
    """What an ordinary training changes anyway it has changed the first time."""
    model_fn, input_fn = models.classifier(network, SHAPE)
    train(tmp_path / "again", model_fn, input_fn)


@EVERY
def test_after_compress(compressor, unchanged, tmp_path):
    model_fn, input_fn = models.classifier(network, SHAPE)
    train(tmp_path / "run", ec.compress(model_fn, COMPRESSORS[compressor]()), input_fn)


@EVERY
def test_after_compress_of_a_model_fn_that_fails(compressor, unchanged, tmp_path):
    failing = failing_network(fails_at(0))
    model_fn, input_fn = models.classifier(failing, SHAPE)
    compressed = ec.compress(model_fn, COMPRESSORS[compressor]())
    with pytest.raises(ZeroDivisionError, match="user code"):
        train(tmp_path / "run", compressed, input_fn)


@EVERY
def test_after_compress_of_an_optimizer_that_fails(compressor, unchanged, tmp_path):
    """After gradients were taken, with all that was put around them."""

    class Failing(tf.train.GradientDescentOptimizer):
        def apply_gradients(self, grads_and_vars, *args, **kwargs):
            raise ZeroDivisionError("user code")

    model_fn, input_fn = models.classifier(network, SHAPE, lambda: Failing(0.1))
    compressed = ec.compress(model_fn, COMPRESSORS[compressor]())
    with pytest.raises(ZeroDivisionError, match="user code"):
        train(tmp_path / "run", compressed, input_fn)


def test_after_finetune(pruned, unchanged, tmp_path):
    model_fn, input_fn = models.classifier(network, SHAPE)
    train(tmp_path / "small", ec.finetune(model_fn, pruned), input_fn)


# It is called for the whole network, and again for the small one.
@pytest.mark.parametrize("call", [0, 1])
def test_after_finetune_of_a_model_fn_that_fails(call, pruned, unchanged, tmp_path):
    failing = failing_network(fails_at(call))
    model_fn, input_fn = models.classifier(failing, SHAPE)
    with pytest.raises(ZeroDivisionError, match="user code"):
        train(tmp_path / "small", ec.finetune(model_fn, pruned), input_fn)


def build_behind_the_getter(folder, build, shape=SHAPE):
    """What a user does who only predicts: no gradients are ever taken."""
    helper = ec.GapFinetune(folder)
    with tf.Graph().as_default(), tf.Session(config=models.ONE_THREAD) as session:
        x = tf.constant(np.ones((models.BATCH, *shape), np.float32))
        with tf.variable_scope("", custom_getter=helper.get_variable):
            logits = build(x, True)
        assert tf.trainable_variables()[0].shape[-1] < WIDTH
        session.run(tf.global_variables_initializer())
        session.run(logits)


def test_after_the_getter(pruned, unchanged):
    build_behind_the_getter(pruned, network)


def test_after_the_getter_around_code_that_fails(pruned, unchanged):
    with pytest.raises(ZeroDivisionError, match="user code"):
        build_behind_the_getter(pruned, failing_network(fails_at(0)))


def test_after_the_getter_asked_for_a_shape_that_never_was(pruned, unchanged):
    with pytest.raises(ec.PlanError, match="build the model that .* was pruned from"):
        build_behind_the_getter(pruned, network, shape=(7,))


@pytest.mark.parametrize(
    "patch",
    [
        (tf.train.Optimizer, "minimize"),
        (tf.Graph, "get_operations"),
        (sys.modules["tensorflow.python.ops.gradients_util"], "_GradientsHelper"),
    ],
)
def test_an_attribute_that_is_replaced_is_found(patch, monkeypatch):
    owner, name = patch
    before = snapshot()
    monkeypatch.setattr(owner, name, lambda *args: None)
    assert {attribute for _, attribute in changes(before, snapshot())} == {name}
