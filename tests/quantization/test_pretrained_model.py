"""Quantization in Session mode starts from the weights of a dense checkpoint."""
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models
from tests.quantization.sessions import KERNELS, config, dense_checkpoint, model


def train_from(path):
    with tf.Graph().as_default(), tf.Session(config=models.ONE_THREAD) as session:
        model()
        ec.quantize_graph("train", None, config(pretrained_model=path))
        session.run(tf.global_variables_initializer())
        return session.run({v.op.name: v for v in tf.trainable_variables("w")})


def test_training_starts_from_the_pretrained_model(tmp_path):
    path, weights = dense_checkpoint(str(tmp_path))
    for given in (path, str(tmp_path)):
        for name, value in train_from(given).items():
            np.testing.assert_allclose(value, weights[name], rtol=1e-6)


def test_a_path_without_a_checkpoint_is_refused_before_training(tmp_path):
    with pytest.raises(ec.RunFolderError, match="cannot be read"):
        train_from(str(tmp_path / "nowhere"))
    with pytest.raises(ec.RunFolderError, match="there is no checkpoint in"):
        train_from(str(tmp_path))


def test_truncated_data_is_refused_before_training(tmp_path):
    path, _ = dense_checkpoint(str(tmp_path))
    (data,) = tmp_path.glob("*.data-*")
    data.write_bytes(data.read_bytes()[:10])
    with pytest.raises(ec.RunFolderError, match="cannot be read \\('w1': "):
        train_from(path)


def test_a_checkpoint_of_another_model_is_refused_before_training(tmp_path):
    path, _ = dense_checkpoint(str(tmp_path), KERNELS, {"other": [3]})
    with pytest.raises(
        ec.RunFolderError, match="none of the model's 3 .*w1 is missing"
    ):
        train_from(path)


def test_what_a_pretrained_model_lacks_is_listed(tmp_path, caplog):
    path, weights = dense_checkpoint(str(tmp_path), ["w1"], {"w3": [4, 20]})
    with caplog.at_level("WARNING"):
        values = train_from(path)
    assert "2 variables keep their own start: w1 is missing; " in caplog.text
    assert "w3 has shape [4, 20], in the model [5, 20]" in caplog.text
    np.testing.assert_allclose(values["w2"], weights["w2"], rtol=1e-6)
    assert np.any(values["w1"] != 0)
