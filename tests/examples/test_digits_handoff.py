"""The demo of the whole way, as a user runs it, but shorter."""
import os
import re
import subprocess
import sys

import pytest

from examples import digits


def test_the_first_line_comes_before_tensorflow(tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('TensorFlow is next')")
    result = subprocess.run(
        [sys.executable, "-m", "examples.digits_handoff"],
        cwd=digits.ROOT,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{digits.ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    assert result.stdout.startswith("Dense, pruned, quantized, served: starting")
    assert "TensorFlow is next" in result.stderr


# tests/export/ has each of its steps.
@pytest.mark.slow
def test_the_compressed_model_is_served_smaller_and_as_good(tmp_path):
    folder = tmp_path / "demo"
    result = subprocess.run(
        [sys.executable, "-m", "examples.digits_handoff", "--steps=100"]
        + [f"--output_dir={folder}"],
        cwd=digits.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    assert result.returncode == 0, result.stderr
    *table, _, last = result.stdout.splitlines()[-8:]
    rows = {
        re.split("  +", line)[0]: re.findall(r"  +(\d[\d.,]*)", line) for line in table
    }
    dense, small = map(float, rows["accuracy"])
    assert dense > 0.9 and small > dense - 0.03
    dense, small = (int(n.replace(",", "")) for n in rows["file, bytes"][:2])
    assert small < 0.25 * dense
    assert len(rows["latency of 1, ms"]) == 3
    for run in ("dense", "quantized"):
        [manifest] = folder.glob(f"{run}/export/onnx_onnxruntime/100/manifest.json")
        assert '"checked": true' in manifest.read_text()
    page = folder / "report.html"
    assert last.endswith(str(page))
    # Every number of the table is on the page, and what each compressor did.
    text = page.read_text(encoding="utf-8")
    for number in (cell for row in rows.values() for cell in row[:2]):
        assert number in text
    assert "pruning: trial 7 of 7" in text and "quantization: trial 3 of 3" in text
