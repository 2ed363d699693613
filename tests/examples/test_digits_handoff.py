"""The demo of the whole way, as a user runs it, but shorter."""
import re
import subprocess
import sys

import pytest

from examples import digits


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
    rows = {
        line.split("  ")[0]: re.findall(r"\d[\d.,]*", line)
        for line in result.stdout.splitlines()[-6:]
    }
    dense, small = map(float, rows["accuracy"])
    assert dense > 0.9 and small > dense - 0.03
    dense, small = (int(n.replace(",", "")) for n in rows["bytes"][:2])
    assert small < 0.25 * dense
    assert len(rows["latency of 1"]) == 4
    for run in ("dense", "quantized"):
        [manifest] = folder.glob(f"{run}/export/onnx_onnxruntime/100/manifest.json")
        assert '"checked": true' in manifest.read_text()
