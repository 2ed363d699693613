"""Trained models answer the same in every engine, to 2,000 examples."""
import json
import os
from pathlib import Path

import numpy as np
import pytest

import ec_estimator as ec
from tests.export import trained_models
from tests.export.tensorrt_script import build
from tests.export.trained_models import FORMS, HAS_WINOGRAD, NETWORKS

FLOAT = ("dense", "sparse", "pruned")
# Which formats have something of their own to get wrong in which forms. Blade's engine
# is not here; TensorRT's file is the ONNX file of its target.
FORMATS = {
    "frozen_graph": FORMS,
    "onnx_onnxruntime": (*FLOAT, "int8", "pruned_int8"),
    "onnx_openvino": (*FLOAT, "int8", "pruned_int8"),
    "tensorrt": (*FLOAT, "int8_signed", "pruned_int8_signed"),
    "mnn": (*FLOAT, "int8_mnn", "pruned_int8_mnn", "winograd"),
    "tflite": FLOAT,
}
# Of each kind one in `make test`: float and integers, small and whole.
QUICK = {
    ("embeddings", "pruned_int8", "onnx_onnxruntime"),
    ("embeddings", "sparse", "mnn"),
}
CASES = [
    pytest.param(
        *case,
        marks=[
            *[pytest.mark.slow] * (case not in QUICK),
            pytest.mark.xdist_group(f"trained {case[0]}"),
        ],
    )
    for case in (
        (name, form, format_name)
        for name in NETWORKS
        for form in FORMS
        for format_name, forms in FORMATS.items()
        if form in forms and (form != "winograd" or name in HAS_WINOGRAD)
    )
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return trained_models.Trained(str(tmp_path_factory.mktemp("trained")))


@pytest.mark.parametrize("name,form,format_name", CASES)
def test_a_trained_model(name, form, format_name, trained, tmp_path):
    estimator = trained.estimator(name, form)
    exporter = ec.HandoffExporter(
        ec.FORMATS[format_name](),
        trained_models.receiver,
        trained_models.eval_input_fn,
        samples=trained_models.SAMPLES,
    )
    path = exporter.export(
        estimator, str(tmp_path), estimator.latest_checkpoint(), None, True
    )
    with open(os.path.join(path, "manifest.json")) as file:
        parity = json.load(file)["parity"]
    assert parity["samples"] == trained_models.SAMPLES
    if format_name == "tensorrt":
        built = build(Path(path), "--compute_capability", "8.9")
        assert built.returncode == 0 and built.stderr == "", built.stderr
        assert list(Path(path).glob("*.engine"))
    float_form = form in FLOAT
    limit = 0.999 if float_form else 0.99
    if name == "u_net":
        # Of each pixel.
        assert parity["outputs"]["classes"]["equal"] >= limit
        return
    assert parity["outputs"]["logits"]["top_1"] >= limit
    reached = parity["accuracy"]
    expected = reached["tensorflow"]["logits"]
    # It has learnt: else agreement would be that of noise.
    assert expected > 0.7
    limit = 0 if float_form else 0.001
    assert np.abs(reached["engine"]["logits"] - expected) <= limit + 1e-9
