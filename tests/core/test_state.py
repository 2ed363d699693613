"""State is made wherever it is asked for, and found in checkpoints."""
import os
import re
import shutil

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from ec_estimator.core import state
from ec_estimator.core.errors import RunFolderError
from ec_estimator.core.state import (
    create_variable,
    is_state,
    open_checkpoint,
    trials_done,
)


def mask():
    return create_variable("sparsity/w/mask", [2, 3], tf.float32, 1)


def in_name_scope():
    with tf.variable_scope("tower"), tf.name_scope("inner"):
        return mask()


def in_conditional():
    made = []

    def branch():
        made.append(mask())
        return tf.constant(0)

    tf.cond(tf.placeholder_with_default(True, []), branch, lambda: tf.constant(1))
    return made[0]


def in_loop():
    made = []

    def body(i):
        made.append(mask())
        return i + 1

    tf.while_loop(lambda i: i < 3, body, [0])
    return made[0]


def under_control_dependencies():
    with tf.control_dependencies([tf.placeholder(tf.float32, [], "never_fed")]):
        return mask()


PLACES = [mask, in_name_scope, in_conditional, in_loop, under_control_dependencies]


@pytest.mark.parametrize("place", PLACES)
def test_a_variable_is_the_same_wherever_it_is_made(place):
    with tf.Graph().as_default(), tf.Session() as session:
        variable = place()
        assert variable.op.name == "ec_estimator/sparsity/w/mask"
        assert variable in tf.global_variables()
        assert variable not in tf.trainable_variables()
        session.run(tf.global_variables_initializer())
        np.testing.assert_array_equal(session.run(variable), np.ones((2, 3)))


@pytest.mark.parametrize(
    "dtype,value", [(tf.int64, 0), (tf.float16, 1), (tf.float64, 2)]
)
def test_a_variable_has_the_type_and_value_asked_for(dtype, value):
    with tf.Graph().as_default(), tf.Session() as session:
        variable = create_variable("x", [], dtype, value)
        session.run(variable.initializer)
        assert variable.dtype.base_dtype == dtype
        assert variable.shape.as_list() == []
        assert session.run(variable) == value


def test_a_mask_lives_where_its_kernel_does():
    with tf.Graph().as_default() as graph:
        with tf.device("/job:ps/task:1"):
            kernel = tf.get_variable("w", [2, 3])
        with tf.device("/job:worker"):
            variable = create_variable("m", [2, 3], tf.float32, 1, beside=kernel)
    assert variable.device == kernel.device == "/job:ps/task:1"
    assert graph.get_operation_by_name("ec_estimator/m").colocation_groups() == [
        b"loc:@w"
    ]


@pytest.mark.parametrize(
    "name,ours",
    [
        ("ec_estimator/sparsity/trial", True),
        ("ec_estimator/step", True),
        ("ec_estimator", False),
        ("ec_estimator_of_mine/kernel", False),
        ("tower/ec_estimator/x", False),
        ("dense/kernel", False),
    ],
)
def test_state_is_told_by_its_scope(name, ours):
    assert is_state(name) is ours


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("saved") / "model.ckpt")
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable("w", [100])
        create_variable("sparsity/trial", [], tf.int64, 3)
        session.run(tf.global_variables_initializer())
        return tf.train.Saver().save(session, path, global_step=7)


@pytest.fixture
def copy(saved, tmp_path):
    for name in os.listdir(os.path.dirname(saved)):
        shutil.copy(os.path.join(os.path.dirname(saved), name), str(tmp_path))
    return str(tmp_path / "model.ckpt-7")


def test_trials_are_read_from_the_checkpoint(saved):
    assert trials_done(open_checkpoint(saved), "sparsity") == 3


def test_a_checkpoint_without_the_compressor_has_no_trials(saved):
    assert trials_done(open_checkpoint(saved), "pruning") is None


def test_a_folder_stands_for_its_newest_checkpoint(copy):
    reader = open_checkpoint(os.path.dirname(copy))
    assert set(reader.get_variable_to_shape_map()) == {
        "w",
        "ec_estimator/sparsity/trial",
    }


def cannot_be_read(path):
    pattern = (
        f"^checkpoint {re.escape(repr(path))} cannot be read \\(.+\\); restore it.*$"
    )
    return pytest.raises(RunFolderError, match=pattern)


def test_a_checkpoint_that_is_not_there_is_named(tmp_path):
    path = str(tmp_path / "model.ckpt-1")
    with cannot_be_read(path):
        open_checkpoint(path)


def test_a_folder_without_checkpoints_is_named(tmp_path):
    with cannot_be_read(str(tmp_path)):
        open_checkpoint(str(tmp_path))


def truncate(path, share):
    with open(path, "rb+") as file:
        file.truncate(int(share * os.path.getsize(path)))


@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_a_truncated_index_is_named(copy, share):
    truncate(copy + ".index", share)
    with cannot_be_read(copy):
        open_checkpoint(copy)


def test_an_index_of_garbage_is_named(copy):
    with open(copy + ".index", "wb") as file:
        file.write(b"garbage " * 64)
    with cannot_be_read(copy):
        open_checkpoint(copy)


def unreadable(path, name):
    pattern = (
        f"^checkpoint {re.escape(repr(path))} cannot be read \\('{name}': .+\\); "
        "restore it.*$"
    )
    return pytest.raises(RunFolderError, match=pattern)


@pytest.mark.parametrize("share", [0, 0.01, 0.9])
def test_truncated_data_is_named_with_the_first_variable_it_lacks(copy, share):
    truncate(copy + ".data-00000-of-00001", share)
    name = "ec_estimator/sparsity/trial" if share < 0.02 else "w"
    with unreadable(copy, name):
        open_checkpoint(copy).check()


def test_missing_data_is_named(copy):
    os.unlink(copy + ".data-00000-of-00001")
    with unreadable(copy, "ec_estimator/sparsity/trial"):
        open_checkpoint(copy).check()


def test_data_of_garbage_is_named(copy):
    path = copy + ".data-00000-of-00001"
    with open(path, "rb+") as file:
        file.write(b"\xff" * os.path.getsize(path))
    with unreadable(copy, "w"):
        open_checkpoint(copy).check(["w"])


def test_a_variable_that_cannot_be_read_is_named_each_time(copy):
    # A reader of TensorFlow's ends the process when it is used after a failure.
    truncate(copy + ".data-00000-of-00001", 0.9)
    reader = open_checkpoint(copy)
    for _ in range(2):
        with unreadable(copy, "w"):
            reader.get_tensor("w")
    assert reader.get_tensor("ec_estimator/sparsity/trial") == 3


def test_a_variable_that_is_not_there_is_named(saved):
    with unreadable(saved, "v"):
        open_checkpoint(saved).check(["w", "v"])


def test_what_is_not_needed_may_be_damaged(copy):
    truncate(copy + ".data-00000-of-00001", 0.9)
    open_checkpoint(copy).check(["ec_estimator/sparsity/trial"])


def test_a_whole_checkpoint_is_read(saved):
    reader = open_checkpoint(saved)
    reader.check()
    assert reader.get_tensor("w").shape == (100,)


def test_a_table_that_may_not_fit_into_memory_is_left_to_tensorflow(copy, monkeypatch):
    truncate(copy + ".data-00000-of-00001", 0.9)
    # "w" has 400 bytes.
    monkeypatch.setattr(state, "_LARGEST", 400)
    with unreadable(copy, "w"):
        open_checkpoint(copy).check()
    monkeypatch.setattr(state, "_LARGEST", 399)
    open_checkpoint(copy).check()


def test_an_entry_with_a_part_of_its_shape_is_no_damage(tmp_path):
    path = str(tmp_path / "model.ckpt")
    with tf.Graph().as_default(), tf.Session() as session:
        session.run(
            tf.raw_ops.SaveV2(
                prefix=path,
                tensor_names=["w/t_0/Adagrad"],
                shape_and_slices=["100 0,50"],
                tensors=[tf.zeros([50])],
            )
        )
    reader = open_checkpoint(path)
    reader.check()
    with unreadable(path, "w/t_0/Adagrad"):
        reader.get_tensor("w/t_0/Adagrad")
