"""A canned Estimator with a partitioner: its checkpoints hold slots in parts."""
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from tests import models
from tests.training.test_zoo import checkpoint

TABLE = "dnn/input_from_feature_columns/input_layer/word_embedding/embedding_weights"
HIDDEN = "dnn/hiddenlayer_1/kernel"


def canned(folder, wrap):
    """A DNNClassifier whose embedding table is in two parts."""
    _, deep = models._columns()
    given = tf.estimator.DNNClassifier(
        [32, 16],
        deep,
        n_classes=models.CLASSES,
        optimizer=lambda: tf.train.AdagradOptimizer(0.05),
        input_layer_partitioner=tf.min_max_variable_partitioner(2, min_slice_size=64),
    )
    return tf.estimator.Estimator(
        wrap(given.model_fn), config=models.run_config(str(folder))
    )


def sparse(model_fn):
    config = ec.SparsifierConfig(target_sparse_ratio=0.5, step_interval=2, num_trials=2)
    return ec.compress(model_fn, ec.Sparsifier(config))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Trained to step 3, then on from its own checkpoint to step 4."""
    folder = tmp_path_factory.mktemp("canned")
    for stop in (3, 4):
        estimator = canned(folder, sparse)
        estimator.train(models._column_input, max_steps=stop)
    return estimator


def receiver():
    _, deep = models._columns()
    return tf.estimator.export.build_parsing_serving_input_receiver_fn(
        tf.feature_column.make_parse_example_spec(deep)
    )()


def half_of_it_is_zero(kernel):
    return np.count_nonzero(kernel == 0) == kernel.size // 2


def test_its_checkpoint_holds_a_slot_that_is_no_whole(trained):
    reader = tf.train.load_checkpoint(trained.latest_checkpoint())
    slot = TABLE + "/t_0/Adagrad"
    assert reader.get_variable_to_shape_map()[slot] == [50, 8]
    with pytest.raises(tf.errors.InvalidArgumentError, match="sufficient slices"):
        reader.get_tensor(slot)


def test_it_is_exported_as_a_saved_model(trained, tmp_path):
    path = trained.export_saved_model(str(tmp_path), receiver).decode()
    exported = tf.train.load_checkpoint(f"{path}/variables/variables")
    assert half_of_it_is_zero(exported.get_tensor(HIDDEN))
    assert exported.get_tensor(TABLE).shape == (50, 8)


def test_its_clean_checkpoint_is_loaded_by_the_unwrapped_estimator(trained, tmp_path):
    out = str(tmp_path / "clean")
    ec.write_clean_checkpoint(
        trained.latest_checkpoint(), os.path.join(trained.model_dir, "compression"), out
    )
    assert half_of_it_is_zero(checkpoint(out)[HIDDEN])
    plain = canned(out, models.unwrapped)
    assert plain.evaluate(models._column_input, 2) == trained.evaluate(
        models._column_input, 2
    )


def test_its_clean_checkpoint_exporter_leaves_the_slots_away(trained, tmp_path):
    exporter = ec.CleanCheckpointExporter()
    exporter.export(
        trained, str(tmp_path / "clean"), trained.latest_checkpoint(), {}, True
    )
    names = set(checkpoint(str(tmp_path / "clean")))
    assert {TABLE, HIDDEN, "global_step"} <= names
    assert not [name for name in names if "Adagrad" in name]


def test_a_new_run_starts_from_it(trained, tmp_path):
    settings = ec.warm_start(trained.model_dir)
    assert f"^{TABLE}(:|/part_|$)" in settings.vars_to_warm_start
    assert not [name for name in settings.vars_to_warm_start if "Adagrad" in name]


def test_without_compression_its_clean_checkpoint_has_the_variables_alone(tmp_path):
    plain = canned(tmp_path / "run", models.unwrapped)
    plain.train(models._column_input, max_steps=1)
    exporter = ec.CleanCheckpointExporter()
    exporter.export(plain, str(tmp_path / "clean"), plain.latest_checkpoint(), {}, True)
    names = set(checkpoint(str(tmp_path / "clean")))
    assert {TABLE, HIDDEN, "global_step"} <= names
    assert not [name for name in names if "Adagrad" in name]
