"""A model is quantized the same in TRAIN, EVAL, PREDICT and its export, however much
these differ in what they build besides, and in what its ops are called."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests.quantization import mode_models
from tests.quantization.mode_models import MODES, dataset, normal
from tests.quantization.mode_runs import (
    assert_quantized_everywhere,
    assert_serves_the_same,
    export,
    left_alone,
    make,
    predicted,
    trained,
)
from tests.quantization.quantized_ops import EXPORT, FLOAT, assert_same, everywhere

VECTORS = dataset(x=normal(8))
SEQUENCES = dataset(x=normal(4, 8))
SINGLES = {"x": (tf.float32, [None, 8])}
QUARTETS = {"x": (tf.float32, [None, 4, 8])}
ATTENTION = {f"{name}/kernel" for name in ("q", "k", "v", "Out")}


class TestKernels:
    def test_of_three_copies_in_training_and_one_that_predicts(self, tmp_path):
        names = ("anchor", "positive", "negative")
        triples = dataset(**{n: normal(8, seed=i) for i, n in enumerate(names)})
        found = assert_quantized_everywhere(
            trained(mode_models.siamese, tmp_path, triples),
            triples,
            {"anchor": (tf.float32, [None, 8])},
            ["net/Hidden/kernel", "net/Out/kernel"],
        )
        copies = {mode: set(found[mode].values()) for mode in found}
        assert copies == {
            **{MODES.TRAIN: {3}, MODES.EVAL: {3}},
            **{MODES.PREDICT: {1}, EXPORT: {1}},
        }

    def test_of_two_towers_with_gradients_of_their_own(self, tmp_path):
        found = assert_quantized_everywhere(
            trained(mode_models.towers, tmp_path, VECTORS),
            VECTORS,
            SINGLES,
            ["net/Hidden/kernel", "net/Out/kernel"],
        )
        assert set(found[MODES.TRAIN].values()) == {2}

    def test_of_a_discriminator_of_real_and_generated_data(self, tmp_path):
        kernels = {"discriminator/Hidden/kernel", "discriminator/Out/kernel"}
        found = assert_quantized_everywhere(
            trained(mode_models.adversarial, tmp_path, VECTORS),
            VECTORS,
            SINGLES,
            kernels,
        )
        readers = {layer[0]: count for layer, count in found[MODES.TRAIN].items()}
        assert readers == {**dict.fromkeys(kernels, 2), "generator/Out/kernel": 1}

    def test_of_a_head_that_reads_two_levels(self, tmp_path):
        found = assert_quantized_everywhere(
            trained(mode_models.two_levels, tmp_path, VECTORS),
            VECTORS,
            SINGLES,
            [f"{name}/kernel" for name in ("low", "high", "head/Out")],
        )
        for layers in found.values():
            heads = [n for layer, n in layers.items() if layer[0] == "head/Out/kernel"]
            assert sum(heads) == 2

    # With static shapes it is the same products without sizes that are gathered.
    @pytest.mark.parametrize(
        "static", [pytest.param(True, marks=pytest.mark.slow), False]
    )
    def test_that_an_einsum_reads(self, static, tmp_path):
        sequences = dataset(static=static, x=normal(4, 8))
        assert_quantized_everywhere(
            trained(mode_models.heads_by_einsum, tmp_path, sequences),
            SEQUENCES,
            QUARTETS,
            ["heads/w", "Out/kernel"],
        )

    def test_of_a_decoder_that_is_taught_and_then_searches_in_a_loop(self, tmp_path):
        estimator = trained(mode_models.translation, tmp_path, SEQUENCES)
        path = export(estimator, QUARTETS)
        same = assert_same(everywhere(estimator, SEQUENCES, path))
        assert {layer[0] for layer in same if FLOAT not in layer and layer[0]} == {
            *("encoder/kernel", "decoder/query/kernel", "decoder/Out/kernel")
        }
        # The two products are quantized in every mode, or in none and said so.
        if not any(not layer[0] for layer in same):
            products = {f"while/decoder/{name}" for name in ("MatMul", "MatMul_1")}
            assert products <= set(left_alone(estimator))
        assert_serves_the_same(estimator, SEQUENCES, path, QUARTETS)

    def test_that_a_tied_decoder_reads_in_training(self, tmp_path):
        estimator = trained(mode_models.tied_autoencoder, tmp_path, VECTORS)
        path = export(estimator, SINGLES)
        found = everywhere(estimator, VECTORS, path)
        encoder = ("w", "w", "w/input")
        for mode in (MODES.EVAL, MODES.PREDICT, EXPORT):
            assert set(found[mode]) == {encoder}, mode
        [decoder] = set(found[MODES.TRAIN]) - {encoder}
        # No copy of the encoder: what it reads is fitted to other values.
        assert decoder[2] != "w/input"
        assert found[MODES.TRAIN] == {encoder: 1, decoder: 1}
        # Every reader of the kernel is quantized, or the report says why not.
        assert decoder[:2] == ("w", "w") or "MatMul_1" in left_alone(estimator)
        assert_serves_the_same(estimator, VECTORS, path, SINGLES)

    def test_are_left_alone_where_they_only_train(self, tmp_path):
        estimator = trained(mode_models.auxiliary, tmp_path, VECTORS)
        found = assert_quantized_everywhere(
            estimator,
            VECTORS,
            SINGLES,
            ["Hidden/kernel", "Out/kernel"],
        )
        [head] = [layer for layer in found[MODES.TRAIN] if layer[0] == "Aux/kernel"]
        assert head[1] == FLOAT
        assert "Aux/MatMul" in left_alone(estimator)


class TestProducts:
    # A product more in EVAL is one that the mode that plans has not, as in TRAIN.
    @pytest.mark.parametrize(
        "mode",
        [
            MODES.TRAIN,
            pytest.param(MODES.EVAL, marks=pytest.mark.slow),
            MODES.PREDICT,
        ],
    )
    def test_are_the_same_with_another_before_them(self, mode, tmp_path):
        estimator = trained(mode_models.attention(mode), tmp_path, SEQUENCES)
        found = assert_quantized_everywhere(
            estimator, SEQUENCES, QUARTETS, ATTENTION, products=2
        )
        assert found[mode][("", FLOAT, FLOAT)] == 1

    def test_that_only_predict_serves_are_refused_or_nowhere_quantized(self, tmp_path):
        estimator = make(mode_models.attention(MODES.PREDICT, served=True), tmp_path)
        try:
            estimator.train(SEQUENCES, max_steps=3)
        except ec.PlanError:
            assert tf.train.latest_checkpoint(str(tmp_path)) is None
            return
        assert_quantized_everywhere(
            estimator, SEQUENCES, QUARTETS, ATTENTION, products=2
        )
        assert any(op.startswith("MatMul") for op in left_alone(estimator))

    def test_are_the_same_after_an_input_that_has_their_name(self, tmp_path):
        def named():
            data = tf.data.make_one_shot_iterator(SEQUENCES())
            features, labels = data.get_next()
            return {"x": tf.identity(features["x"], "MatMul")}, labels

        estimator = trained(mode_models.attention(), tmp_path, SEQUENCES)
        assert_quantized_everywhere(estimator, named, QUARTETS, ATTENTION, products=2)
        np.testing.assert_allclose(
            predicted(estimator, named), predicted(estimator, SEQUENCES), atol=1e-5
        )

    def test_are_the_same_with_a_batch_that_only_training_knows(self, tmp_path):
        """Dense layers then read no shapes, and gather no sizes."""
        known = dataset(x=normal(4, 8), static=True)
        estimator = trained(mode_models.attention(), tmp_path, known)
        assert_quantized_everywhere(
            estimator, SEQUENCES, QUARTETS, ATTENTION, products=2
        )

    def test_are_the_same_with_dropout_and_residuals(self, tmp_path):
        assert_quantized_everywhere(
            trained(mode_models.attention_with_dropout, tmp_path, SEQUENCES),
            SEQUENCES,
            QUARTETS,
            ATTENTION | {"In/kernel"},
            products=2,
        )


BYTES = np.random.RandomState(1).randint(0, 256, (mode_models.ROWS, 8)).astype("uint8")
OF_PIXELS = {
    "bytes": ("raw", BYTES),
    "floats_to_255": ("raw", BYTES.astype(np.float32)),
    "floats_to_1": ("x", BYTES.astype(np.float32) / 255),
}


# Each predicts with all three kinds: the slow ones train with what the first exports.
@pytest.mark.parametrize(
    "kind, exported",
    [
        ("bytes", "floats_to_255"),
        pytest.param("floats_to_255", "floats_to_1", marks=pytest.mark.slow),
        pytest.param("floats_to_1", "bytes", marks=pytest.mark.slow),
    ],
)
def test_features_of_another_kind_than_in_training_predict_the_same(
    kind, exported, tmp_path
):
    inputs = {k: dataset(**{name: v}) for k, (name, v) in OF_PIXELS.items()}
    estimator = trained(mode_models.pixels, tmp_path, inputs[kind])
    name, values = OF_PIXELS[exported]
    assert_quantized_everywhere(
        estimator,
        inputs[exported],
        {name: (values.dtype, [None, 8])},
        ["Hidden/kernel", "Out/kernel"],
    )
    expected = predicted(estimator, inputs[kind])
    for other in inputs.values():
        answer = predicted(estimator, other)
        np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-5)


def test_a_receiver_with_the_name_of_a_layer_serves_the_same(tmp_path):
    assert_quantized_everywhere(
        trained(mode_models.plain, tmp_path, VECTORS),
        VECTORS,
        SINGLES,
        ["Hidden/kernel", "Out/kernel"],
        names={"x": "Hidden/MatMul"},
    )
