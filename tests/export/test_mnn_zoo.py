"""Each kind of network, compressed in each way, answers in MNN as in TensorFlow."""
import numpy as np
import pytest

from tests.export.mnn_zoo import FORMS, NETWORKS, answered, run_of

FLOATS = ("dense", "sparse", "pruned")
# 97 % agree, and it is not known why; in all others 99 % do.
DIFFERS = {("transformer", "int8"), ("transformer", "pruned_int8")}
FAST = {("vgg", "sparse"), ("embeddings", "int8"), ("u_net", "int8")}


def cases():
    """The slow ones' twins are those of FAST: a float and two integer ones."""
    for network in NETWORKS:
        for form in FORMS:
            if form == "winograd" and network in ("transformer", "embeddings"):
                continue
            marks = [] if (network, form) in FAST else [pytest.mark.slow]
            if (network, form) in DIFFERS:
                marks.append(pytest.mark.xfail(reason="top-1 agreement is 0.97"))
            yield pytest.param(network, form, marks=marks, id=f"{network} {form}")


@pytest.mark.parametrize("network, form", cases())
def test_it_answers_as_tensorflow_does(network, form, tmp_path):
    run = run_of(network, form, tmp_path, 128)
    expected = run.reference()["logits"]
    logits = answered(run, tmp_path / "mnn")["logits"]
    off = np.abs(logits - expected).max(1) / np.abs(expected).max()
    agree = np.mean(logits.argmax(1) == expected.argmax(1))
    if form in FLOATS:
        assert off.max() < 1e-5
        assert agree == 1
    else:
        # A sum that lies between two integers may be rounded to the other one.
        assert agree >= 0.99, off
        if form == "int8":
            assert np.mean(off < 1e-5) >= 0.9
