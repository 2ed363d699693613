"""A model that would be quantized otherwise in one mode than in another is refused,
before anything is trained, evaluated or exported."""
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests.quantization import mode_models
from tests.quantization.mode_models import MODES, dataset, normal
from tests.quantization.mode_runs import export, make
from tests.quantization.quantized_ops import EXPORT

VECTORS = dataset(x=normal(8))


def test_a_layer_that_training_lacks_before_it_trains(tmp_path):
    model_fn = mode_models.without_layer_in(MODES.TRAIN)
    estimator = make(model_fn, tmp_path, {"extra": True})
    with pytest.raises(ec.PlanError, match="Extra"):
        estimator.train(VECTORS, max_steps=3)
    assert tf.train.latest_checkpoint(str(tmp_path)) is None


def test_a_layer_that_evaluation_lacks(tmp_path):
    model_fn = mode_models.without_layer_in(MODES.EVAL)
    estimator = make(model_fn, tmp_path, {"extra": True})
    estimator.train(VECTORS, max_steps=3)
    with pytest.raises(ec.PlanError, match="Extra"):
        estimator.evaluate(VECTORS)


def test_a_layer_that_an_export_lacks(tmp_path):
    model_fn = mode_models.without_layer_in(None)
    make(model_fn, tmp_path, {"extra": True}).train(VECTORS, max_steps=3)
    estimator = make(model_fn, tmp_path, {"extra": False})
    with pytest.raises(ec.PlanError, match="Extra"):
        export(estimator, {"x": (tf.float32, [None, 8])})
    assert not tf.gfile.Glob(f"{tmp_path}/{EXPORT}/*/saved_model.pb")


def test_a_tensor_that_is_negative_in_training_alone(tmp_path):
    model_fn = mode_models.without_layer_in(None, {MODES.TRAIN: tf.nn.tanh})
    estimator = make(model_fn, tmp_path, {"extra": False})
    with pytest.raises(ec.PlanError, match="sign|negative"):
        estimator.train(VECTORS, max_steps=3)
    assert tf.train.latest_checkpoint(str(tmp_path)) is None
