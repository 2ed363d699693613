"""Models that are handed over, and formats that go wrong in every way."""
import contextlib
import os
import resource

import numpy as np
import tensorflow.compat.v1 as tf

import ec_estimator as ec
from ec_estimator.export.format import EngineMissing, ExportError
from ec_estimator.export.frozen_format import FrozenGraphFormat
from ec_estimator.export.handoff import HandoffExporter
from ec_estimator.export.parity import QUANTIZED
from tests import models

input_fn = models.dataset((8, 8, 3))
STEPS = {"step_interval": 2, "num_trials": 2}
LAST = 4
COMPRESSORS = {
    "sparse": lambda: ec.Sparsifier(
        ec.SparsifierConfig(target_sparse_ratio=0.5, **STEPS)
    ),
    "pruned": lambda: ec.Pruner(ec.PrunerConfig(compression_ratio=0.5, **STEPS)),
    "quantized": lambda: ec.LSQQuantizer(ec.QuantizerConfig(**STEPS)),
    "outputs quantized": lambda: ec.LSQQuantizer(
        ec.QuantizerConfig(post_quant=True, signed="auto", **STEPS)
    ),
}


def receiver():
    x = tf.placeholder(tf.float32, [None, 8, 8, 3])
    return tf.estimator.export.ServingInputReceiver({"x": x}, {"x": x})


def model_fn():
    return models.classifier(models._raw_network, (8, 8, 3))[0]


def estimator(model_dir, kind=None, wrapped=None):
    """An Estimator; `kind` of COMPRESSORS or None."""
    made = wrapped or model_fn()
    if kind:
        made = ec.compress(made, COMPRESSORS[kind]())
    return tf.estimator.Estimator(made, config=models.run_config(str(model_dir)))


def finetuned(folder):
    """A network pruned, cut, and trained on quantized."""
    estimator(folder / "pruned", "pruned").train(input_fn, max_steps=LAST)
    small = ec.finetune(model_fn(), str(folder / "pruned"))
    return estimator(folder / "small", "quantized", small)


def export(exporter, trained, folder):
    """Calls an exporter after training."""
    return exporter.export(
        trained, str(folder), trained.latest_checkpoint(), None, True
    )


def exporter(made=None, **kwargs):
    kwargs = {"input_fn": input_fn, "samples": 8, **kwargs}
    return HandoffExporter(made or FrozenGraphFormat(), receiver, **kwargs)


class Wrong(FrozenGraphFormat):
    """Its engine adds an error to the scores, of one class or of all."""

    def __init__(self, error):
        self.error = error

    def run(self, folder, inputs):
        answers = super().run(folder, inputs)
        return {key: array + self.error for key, array in answers.items()}


class Missing(FrozenGraphFormat):
    """Its engine is not installed."""

    def run(self, folder, inputs):
        raise EngineMissing("pip install 'ec_estimator[engine]'")


class Refusing(FrozenGraphFormat):
    """Cannot hold the model, and says so when half of it is written."""

    def write(self, model, signature, folder, samples):
        super().write(model, signature, folder, samples)
        raise ExportError("refusing: op 'Foo' has no like there")


class Rounding(Wrong):
    """Writes float models less exactly, and says so."""

    float_limits = QUANTIZED


@contextlib.contextmanager
def files_end_after(size):
    """No file is longer than these bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Full(FrozenGraphFormat):
    """The disk is full while it writes."""

    def write(self, model, signature, folder, samples):
        with files_end_after(1000):
            return super().write(model, signature, folder, samples)


class FullThen(FrozenGraphFormat):
    """The disk is full from when its engine has run, until someone lifts that."""

    def run(self, folder, inputs):
        answers = super().run(folder, inputs)
        size = os.path.getsize(os.path.join(folder, "model.pb")) - 1
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        return answers


class Batches(FrozenGraphFormat):
    """Remembers how many examples its engine got at once."""

    def __init__(self):
        self.sizes = []

    def run(self, folder, inputs):
        self.sizes.append(len(inputs["x"]))
        return super().run(folder, inputs)


class Nested(FrozenGraphFormat):
    """Writes folders in folders."""

    def write(self, model, signature, folder, samples):
        files = super().write(model, signature, folder, samples)
        os.makedirs(os.path.join(folder, "a", "b"))
        path = os.path.join("a", "b", "samples.npy")
        np.save(os.path.join(folder, path), samples["x"])
        return (*files, path)


class NoUnsigned(FrozenGraphFormat):
    """An engine that only knows signed integers."""

    def refuse_training(self, config):
        if config.signed == "auto":
            return "it knows signed integers only; set QuantizerConfig.signed=True"
        return ""
