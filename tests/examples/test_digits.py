"""The demo, as a user runs it, but shorter."""
import re
import subprocess
import sys

import pytest

from examples import digits, digits_model


def row(text, name):
    """The two numbers in a row of the table."""
    pattern = rf"^\s*{re.escape(name)}\s+([\d.,]+)\s+([\d.,]+)$"
    found = re.search(pattern, text, re.MULTILINE)
    assert found, f"no row {name!r} in:\n{text}"
    return [float(number.replace(",", "")) for number in found.groups()]


def test_the_demo_shows_its_trials_and_compares_dense_with_sparse(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "examples.digits", "--steps=100"]
        + [f"--output_dir={tmp_path}"],
        cwd=digits.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    assert result.returncode == 0, result.stderr
    text = result.stdout

    dense = text[: text.index("2. Sparse training")]
    assert dense.count("\nloss = ") == 10 and ", step = 91 (" in dense
    for trial in range(1, 8):
        assert f"sparsity: trial {trial}/7" in text
    assert "deprecated" not in text and "CheckpointSaverHook" not in text

    dense, sparse = row(text, "test accuracy")
    assert dense > 0.9 and sparse > 0.9
    # 3*3*32 + 3*3*32*64 + 3*3*64*128 + 2048*10, by hand.
    assert row(text, "weights in kernels") == [112928, 112928]
    dense, sparse = row(text, "of these not zero")
    assert dense == 112928 and 0.199 < sparse / 112928 < 0.201
    dense, sparse = row(text, "weights file, bytes")
    assert dense == sparse > 4 * 112928
    dense, sparse = row(text, "compressed by gzip")
    assert sparse < 0.3 * dense
    # The target to within a block of 4 weights, never above.
    assert row(text, "conv2d/kernel [3, 3, 1, 32]") == [0.0, round(228 / 288, 3)]
    assert row(text, "dense/kernel [2048, 10]") == [0.0, 0.8]


def test_another_run_replaces_the_first_and_nothing_else(tmp_path):
    (tmp_path / "notes.txt").write_text("not of the demo")
    for _ in range(2):
        for path in digits.prepare(str(tmp_path)):
            tmp_path.joinpath(path).mkdir()  # Fails if it is still there.
    digits.prepare(str(tmp_path))
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [digits.MARKER, "notes.txt"]


def test_a_folder_of_someone_else_is_not_deleted(tmp_path):
    (tmp_path / "dense").mkdir()
    (tmp_path / "dense" / "weights").write_text("precious")
    with pytest.raises(SystemExit, match="dense' is not of this demo; name another"):
        digits.prepare(str(tmp_path))
    assert (tmp_path / "dense" / "weights").read_text() == "precious"


def test_an_output_dir_that_is_a_file_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(SystemExit, match=r"--output_dir: .*file' is a file"):
        digits.prepare(str(path))


def test_the_model_and_what_serves_it_do_without_ec_estimator():
    code = (
        "import sys; from examples import digits_model, digits_serve; "
        "sys.exit('ec_estimator' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=digits.ROOT, check=True)


def test_training_and_test_digits_are_balanced_and_apart():
    (train, train_labels), (test, test_labels) = digits_model.load_data()
    assert train.shape == (1297, 8, 8) and test.shape == (500, 8, 8)
    assert set(train_labels) == set(test_labels) == set(range(10))
    seen = {image.tobytes() for image in train}
    assert not any(image.tobytes() in seen for image in test)
