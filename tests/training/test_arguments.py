"""What is given where something else belongs gets a sentence, before training."""
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests.training.runs import estimator, raw_model, sparsifier, specs


class Something:
    """Of a user's."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return estimator(tmp_path_factory.mktemp("plain"), wrap=lambda model_fn: model_fn)


def keras_model():
    with tf.Graph().as_default():
        return tf.keras.Sequential(
            [tf.keras.layers.Dense(3, input_shape=(4,))], "small"
        )


@pytest.mark.parametrize(
    "given, shown",
    [
        (Something, "Something'>"),
        (ec.Sparsifier, "Sparsifier'>"),
        (ec.SparsifierConfig(), r"SparsifierConfig\(.*\)"),
        (None, "None"),
    ],
)
@pytest.mark.parametrize(
    "take", [lambda given: ec.compress(raw_model()[0], given), ec.CompressionHook]
)
def test_what_is_no_compressor_is_an_error(take, given, shown):
    with pytest.raises(ec.CompressionError, match=f"{shown} is not a compressor"):
        take(given)


@pytest.mark.parametrize(
    "algorithm, config, message",
    [
        (ec.Pruner, ec.SparsifierConfig(), r"Pruner: .* PrunerConfig, .* got Sparsif"),
        (
            ec.Sparsifier,
            {"num_trials": 3},
            r"Sparsifier: .* SparsifierConfig, .* got {",
        ),
        (ec.LSQQuantizer, 8, r"LSQQuantizer: .* QuantizerConfig, .* got 8"),
    ],
)
def test_another_compressors_config_is_an_error(algorithm, config, message):
    with pytest.raises(ec.ConfigError, match=message):
        algorithm(config)


def test_quantize_graph_with_another_config_is_an_error():
    with pytest.raises(ec.ConfigError, match="must be a QuantizerConfig"):
        ec.quantize_graph("train", None, ec.PrunerConfig())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model_fn: ec.compress(model_fn, sparsifier()),
        lambda model_fn: ec.finetune(model_fn, "folder"),
    ],
)
def test_what_is_no_model_fn_is_an_error(wrap, plain):
    with pytest.raises(ec.CompressionError, match="got the Estimator itself; pass its"):
        wrap(plain)
    with pytest.raises(ec.CompressionError, match="'small'; make an Estimator of it"):
        wrap(keras_model())
    with pytest.raises(ec.CompressionError, match="must be a function .* got None"):
        wrap(None)


def test_what_is_no_estimator_is_an_error():
    with pytest.raises(ec.CompressionError, match="'small'; make an Estimator of it"):
        ec.train_and_evaluate(keras_model(), *specs(6), compressor=sparsifier())
    with pytest.raises(ec.CompressionError, match="train_and_evaluate: .* got <func"):
        ec.train_and_evaluate(raw_model()[0], *specs(6), compressor=sparsifier())
    with pytest.raises(ec.CompressionError, match="compressed: .* got <func"):
        ec.compressed(raw_model()[0], sparsifier())


def test_specs_that_are_swapped_or_something_else_are_an_error(plain):
    train_spec, eval_spec = specs(6)
    with pytest.raises(ec.CompressionError, match="train_spec .* the two are swapped"):
        ec.train_and_evaluate(plain, eval_spec, train_spec, compressor=sparsifier())
    with pytest.raises(ec.CompressionError, match="eval_spec must be .*, got None"):
        ec.train_and_evaluate(plain, train_spec, None, compressor=sparsifier())
