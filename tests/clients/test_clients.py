"""Models of packages that know nothing of this one, with each compressor: they train,
evaluate, predict, export, and what is pruned is finetuned."""
import numpy as np
import pytest
from tensorflow.contrib import predictor

import ec_estimator as ec
from ec_estimator.core.folder import RunFolder
from ec_estimator.shrink.artifact import read_artifact
from tests.clients import bert_classifier, ctr, seq2seq, u_net

TRIALS = {"step_interval": 2, "num_trials": 2}
STEPS = 6


@pytest.fixture(
    scope="module",
    params=[ctr, seq2seq, bert_classifier, u_net],
    ids=["ctr", "seq2seq", "bert", "u_net"],
)
def client(request, tmp_path_factory):
    return request.param.client(str(tmp_path_factory.mktemp("client")))


def sparsifier():
    return ec.Sparsifier(ec.SparsifierConfig(target_sparse_ratio=0.5, **TRIALS))


def pruner():
    return ec.Pruner(ec.PrunerConfig(compression_ratio=0.5, **TRIALS))


def quantizer():
    return ec.LSQQuantizer(ec.QuantizerConfig(**TRIALS))


def trained(client, model_fn, folder):
    """An Estimator that was trained and evaluated."""
    estimator = client.estimator(model_fn, str(folder))
    estimator.train(client.train_input_fn, max_steps=STEPS)
    metrics = estimator.evaluate(client.eval_input_fn, steps=2)
    assert all(np.isfinite(value) for value in metrics.values()), metrics
    return estimator


def answers(client, estimator):
    rows = estimator.predict(client.predict_input_fn)
    return np.stack([row[client.answer] for row in rows])


def close(actual, expected):
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def exported(client, estimator, folder):
    """The SavedModel's ops; it answers as the Estimator does."""
    path = estimator.export_saved_model(str(folder), client.receiver)
    served = predictor.from_saved_model(path.decode())
    close(served(client.inputs)[client.answer], answers(client, estimator))
    variables = served.graph.get_collection("variables")
    assert not [v.name for v in variables if v.name.startswith("ec_estimator")]
    return served.graph.get_operations()


def test_sparse(client, tmp_path):
    estimator = trained(client, ec.compress(client.model_fn, sparsifier()), tmp_path)
    kernels = RunFolder(str(tmp_path / "compression")).read_json("plan.json")["kernels"]
    assert len(kernels) == client.sparse
    for name in kernels:
        value = estimator.get_variable_value(name)
        assert np.mean(value == 0) == pytest.approx(0.5, abs=1 / value.size), name
    exported(client, estimator, tmp_path / "export")


def test_quantized(client, tmp_path):
    estimator = trained(client, ec.compress(client.model_fn, quantizer()), tmp_path)
    ops = exported(client, estimator, tmp_path / "export")
    kinds = [op.type for op in ops]
    assert kinds.count("FakeQuantWithMinMaxVarsPerChannel") >= client.sparse
    assert kinds.count("FakeQuantWithMinMaxVars") > 0


def test_sparse_and_quantized(client, tmp_path):
    both = ec.compress(client.model_fn, [sparsifier(), quantizer()])
    exported(client, trained(client, both, tmp_path), tmp_path / "export")


@pytest.fixture(scope="module")
def pruned(client, tmp_path_factory):
    model_fn = ec.compress(client.model_fn, pruner())
    return trained(client, model_fn, tmp_path_factory.mktemp("pruned"))


def test_pruned_and_finetuned(client, pruned, tmp_path):
    exported(client, pruned, tmp_path / "masked")
    small_fn = ec.finetune(client.model_fn, pruned.model_dir)
    # Before its first step an Estimator predicts with initial values: the pruned ones.
    start = client.estimator(small_fn, str(tmp_path / "start"))
    close(answers(client, start), answers(client, pruned))
    small = trained(client, small_fn, tmp_path / "small")
    exported(client, small, tmp_path / "export")
    cut = [
        name
        for name in read_artifact(pruned.model_dir).variables
        if small.get_variable_value(name).size < pruned.get_variable_value(name).size
    ]
    assert len(cut) >= client.cut, cut


def test_pruned_and_finetuned_quantized(client, pruned, tmp_path):
    small_fn = ec.finetune(client.model_fn, pruned.model_dir)
    small = trained(client, ec.compress(small_fn, quantizer()), tmp_path)
    exported(client, small, tmp_path / "export")
