"""What a pruning run leaves for the small network, and what is refused of it."""
import json

import pytest
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.shrink.artifact import read_artifact
from tests import models
from tests.pruning.runs import pruner, run
from tests.shrink.networks import vgg


def test_the_artifact_says_which_versions_wrote_it(tmp_path):
    run(tmp_path, vgg, pruner())
    manifest = read_artifact(str(tmp_path)).manifest
    assert manifest["tensorflow"] == tf.version.VERSION
    assert manifest["ec_estimator"] == ec.__version__


class TestArtifact:
    def test_folder_without_one_is_an_error(self, tmp_path):
        with pytest.raises(ec.RunFolderError, match="there is no pruned model in"):
            ec.GapFinetune(str(tmp_path))

    def test_damaged_manifest_is_an_error(self, tmp_path):
        run(tmp_path, vgg, pruner())
        path = tmp_path / "compression" / "pruned" / "manifest.json"
        whole = path.read_text()
        path.write_text(whole[:200])
        with pytest.raises(ec.RunFolderError, match="is damaged"):
            ec.GapFinetune(str(tmp_path))
        path.write_text(whole.replace('"shape"', '"form"'))
        with pytest.raises(ec.RunFolderError, match="is damaged .*shape"):
            ec.GapFinetune(str(tmp_path))

    def test_truncated_checkpoint_is_an_error(self, tmp_path):
        run(tmp_path, vgg, pruner())
        folder = tmp_path / "compression" / "pruned"
        (data,) = folder.glob("model.ckpt-*.data-*")
        data.write_bytes(data.read_bytes()[:-10])
        with pytest.raises(ec.RunFolderError, match="cannot be read \\('"):
            ec.GapFinetune(str(tmp_path))

    def test_manifest_that_does_not_fit_its_checkpoint_is_an_error(self, tmp_path):
        run(tmp_path, vgg, pruner())
        path = tmp_path / "compression" / "pruned" / "manifest.json"
        content = json.loads(path.read_text())
        content["variables"]["dense/bias"] = {"shape": [7], "kept": [None]}
        path.write_text(json.dumps(content))
        with pytest.raises(ec.RunFolderError, match="its checkpoint says"):
            ec.GapFinetune(str(tmp_path))

    def test_another_models_shape_is_an_error(self, tmp_path):
        run(tmp_path, vgg, pruner())
        helper = ec.GapFinetune(str(tmp_path))
        with tf.Graph().as_default():
            with tf.variable_scope("", custom_getter=helper.get_variable):
                with pytest.raises(
                    ec.PlanError, match="had shape .* when it was pruned"
                ):
                    tf.get_variable("conv2d/kernel", [5, 5, 3, 8])


@pytest.mark.parametrize("extra", [False, True])
def test_a_getter_around_code_that_decides_by_counts_warns(extra, tmp_path, caplog):
    def network(x, training):
        h = tf.layers.conv2d(x, 8, 3, padding="same", activation=tf.nn.relu)
        y = tf.layers.conv2d(h, 8, 3, padding="same", name="second")
        if extra and int(y.shape[-1]) != 8:
            y = tf.nn.elu(y)
        return tf.layers.dense(tf.reduce_mean(y, [1, 2]), models.CLASSES)

    run(tmp_path, network, pruner(compression_ratio=0.6))
    helper = ec.GapFinetune(str(tmp_path))
    with tf.Graph().as_default(), caplog.at_level("WARNING"):
        with tf.variable_scope("", custom_getter=helper.get_variable):
            logits = network(tf.zeros([2, 8, 8, 3]), True)
        tf.gradients(tf.reduce_sum(logits), tf.trainable_variables())
    said = "The layers of dense/kernel are not connected as they were" in caplog.text
    assert said == extra
