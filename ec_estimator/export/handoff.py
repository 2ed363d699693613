"""HandoffExporter: hands a finished model over to an engine, once its answers agree."""
import contextlib
import functools
import hashlib
import numbers
import os
import tempfile

import tensorflow.compat.v1 as tf

from ec_estimator.config import QuantizerConfig
from ec_estimator.core.errors import ConfigError
from ec_estimator.core.finished import FOLDER, FinishedExporter
from ec_estimator.core.folder import VERSIONS, RunFolder
from ec_estimator.core.state import is_state, open_checkpoint
from ec_estimator.export.answers import in_batches, saved_model_answers
from ec_estimator.export.delivery import deliver, deliver_anew, temporary_folder
from ec_estimator.export.format import EngineMissing, ExportError, Format
from ec_estimator.export.frozen_model import NAME, freeze_model, freeze_saved_model
from ec_estimator.export.handoff_data import described
from ec_estimator.export.parity import FLOAT, QUANTIZED, Limits, check_parity
from ec_estimator.export.samples import batch_size, take_samples

_MANIFEST = "manifest.json"
_HIDDEN = (
    "the Estimator does not show the model_fn that compress() returned; export an "
    "Estimator that was made with it, not one around it"
)


class HandoffExporter(FinishedExporter):
    """Writes what an engine reads to `<export_path>/<global step>`.

    Before it gets that name, the engine's answers to examples of the eval input are
    compared with those of the model as it was trained, fake-quant ops and all.
    manifest.json beside the files says from which checkpoint they are, what goes in and
    comes out, their checksums, and how far the answers are apart.

    Without the engine, or where the eval input has not the inputs of what is served,
    they are not compared; a warning and the manifest say so.

    Args:
      format: format.Format.
      serving_input_receiver_fn: as Estimator.export_saved_model takes it.
      input_fn: the eval input. Its features are the inputs of what is served, by key.
      name: folder under `<model_dir>/export/`; by default the format's name.
      signature: which of the model's signatures is served; by default
        "serving_default", or the only one.
      samples: how many examples are compared, 1 or more.
      limits: parity.Limits; by default parity.QUANTIZED for a model that is quantized,
        and parity.FLOAT for others, or, with a warning, those of a format that rounds.

    Raises:
      ConfigError: an argument is none of these.
    """

    def __init__(
        self,
        format,
        serving_input_receiver_fn,
        input_fn=None,
        name=None,
        signature=None,
        samples=256,
        limits=None,
    ):
        _check_argument("format", isinstance(format, Format), "a Format", format)
        _check_argument(
            "serving_input_receiver_fn",
            callable(serving_input_receiver_fn),
            "a function",
            serving_input_receiver_fn,
        )
        _check_argument(
            "input_fn",
            input_fn is None or callable(input_fn),
            "a function or None",
            input_fn,
        )
        counts = isinstance(samples, numbers.Integral) and samples is not True
        _check_argument(
            "samples", counts and samples > 0, "an integer greater than 0", samples
        )
        _check_argument(
            "limits",
            limits is None or isinstance(limits, Limits) and limits.are_valid(),
            "parity.Limits, top_1 in [0, 1] and differences of 0 or more",
            limits,
        )
        self._format = format
        self._receiver_fn = serving_input_receiver_fn
        self._input_fn = input_fn
        self._name = name or format.name
        self._signature = signature
        self._samples = samples
        self._limits = limits

    @property
    def name(self):
        return self._name

    def refuse_training(self, configs):
        """Why what trains with these configs could not be written; "" if it could."""
        reasons = [
            self._format.refuse_training(config)
            for config in configs
            if isinstance(config, QuantizerConfig)
        ]
        return next(filter(None, reasons), "")

    def refuse_hidden(self, run):
        """Why an Estimator that does not show its compressed model_fn could not write
        what trains in a run; "" if it could.

        Args:
          run: core.folder.RunFolder, of a run that has been planned.
        """
        return f"the run is quantized, but {_HIDDEN}" if NAME in run.details() else ""

    def target(self, export_path, checkpoint_path):
        """Where a checkpoint is written to."""
        step = _source(checkpoint_path)["global_step"]
        return os.path.join(export_path, str(step))

    def hand_over(
        self, estimator, export_path, checkpoint_path, eval_result, is_the_final_export
    ):
        """As tf.estimator.Exporter.export; a checkpoint that is there already is not
        written again.

        Raises:
          ExportError: the format cannot hold the model; the folder is that of another
            export; a disk takes no more; or the engine answers otherwise, then what was
            written is in `<global step>-failed-parity`.
          RunFolderError: the checkpoint or the run's folder cannot be read.
        """
        source = _source(checkpoint_path)
        target = self.target(export_path, checkpoint_path)
        if tf.gfile.Exists(target):
            self._check_same(target, source)
            tf.logging.info("Exporter %s: %r is there already.", self.name, target)
            return target
        run = RunFolder(os.path.join(estimator.model_dir, FOLDER))
        # While an Estimator trains the default graph is that of the training, and
        # converters would take its collections for the model's.
        who = f"exporter {self.name!r}"
        with tf.Graph().as_default(), temporary_folder(who) as folder:
            written = self._write(estimator, checkpoint_path, folder)
            content = {"format": self._format.name, **source, **written}
            content.update(compressors=run.configs(), versions=VERSIONS)
            RunFolder(folder).write_json(_MANIFEST, content)
            if written["parity"]["failed"]:
                self._refuse(folder, target, written["parity"]["failed"])
            deliver(folder, target)
        return target

    def _check_same(self, target, source):
        known = RunFolder(target).read_json(_MANIFEST) or {}
        wanted = {
            "format": self._format.name,
            "checkpoint_sha256": source["checkpoint_sha256"],
            "signature": self._signature or known.get("signature"),
        }
        for key, value in wanted.items():
            if known.get(key) != value:
                raise ExportError(
                    f"exporter {self.name!r}: {target!r} is there already, with {key} "
                    f"{known.get(key)!r} instead of {value!r}; move it away, or export "
                    "to another folder"
                )

    def _write(self, estimator, checkpoint_path, folder):
        """Fills a folder; returns what its manifest says of the files."""
        with _exported(estimator, self._receiver_fn, checkpoint_path) as path:
            model = freeze_model(estimator, self._receiver_fn, checkpoint_path)
            if model.scales:
                model = model._replace(fake_quant=freeze_saved_model(path))
                self._check_quantized(model)
            name = self._choose(model.signatures)
            ends = model.signatures[name]
            samples = take_samples(estimator, self._input_fn, ends, self._samples)
            files = self._format.write(model, name, folder, samples.inputs)
            size = batch_size(ends)
            parity = self._parity(
                lambda inputs: saved_model_answers(path, name, inputs, size),
                lambda inputs: in_batches(
                    functools.partial(self._format.run_all, folder), inputs, size
                ),
                samples,
                self._limits_of(model),
            )
        return {
            "signature": name,
            **described(ends),
            "files": {file: _checksum(os.path.join(folder, file)) for file in files},
            "parity": parity,
        }

    def _check_quantized(self, model):
        """Its float graph has to be float, the other one not."""
        if _has_our_ops(model) or not _has_our_ops(model.fake_quant):
            raise ExportError(
                f"exporter {self.name!r}: the run was quantized, but {_HIDDEN}"
            )

    def _limits_of(self, model):
        if self._limits is not None:
            return self._limits
        if model.scales:
            return QUANTIZED
        if self._format.float_limits is None:
            return FLOAT
        tf.logging.warning(
            "Exporter %s: the format rounds what was trained in float; the engine's "
            "answers are held to %s.",
            self.name,
            self._format.float_limits,
        )
        return self._format.float_limits

    def _choose(self, signatures):
        served = self._signature or tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
        if self._signature is None and len(signatures) == 1:
            return next(iter(signatures))
        if served not in signatures:
            raise ExportError(
                f"exporter {self.name!r}: the model has no signature {served!r}; there "
                f"is {', '.join(sorted(signatures))}"
            )
        return served

    def _parity(self, reference, engine, samples, limits):
        reason = samples.reason
        if not reason:
            try:
                return check_parity(reference, engine, samples, limits)
            except EngineMissing as error:
                reason = str(error)
        tf.logging.warning(
            "Exporter %s: the engine's answers were not compared with the model's: %s",
            self.name,
            reason,
        )
        return {"checked": False, "reason": reason, "failed": []}

    def _refuse(self, folder, target, failed):
        """Keeps what was written where nobody takes it for a model to serve."""
        place = f"{target}-failed-parity"
        deliver_anew(folder, place)
        raise ExportError(
            f"exporter {self.name!r}: the engine answers otherwise than the model "
            f"({'; '.join(failed)}); what was written is in {place!r}, all figures in "
            f"its {_MANIFEST}"
        )


def _check_argument(name, is_right, wanted, value):
    if not is_right:
        raise ConfigError(f"HandoffExporter.{name}: must be {wanted}, got {value!r}")


@contextlib.contextmanager
def _exported(estimator, receiver_fn, checkpoint_path):
    """The SavedModel of an Estimator, as it predicts, while open."""
    with tempfile.TemporaryDirectory() as folder:
        path = estimator.export_saved_model(
            folder, receiver_fn, checkpoint_path=checkpoint_path
        )
        yield path.decode()


def _source(checkpoint_path):
    """What tells a checkpoint from others. Its index holds checksums of all values."""
    step = open_checkpoint(checkpoint_path).get_tensor(tf.GraphKeys.GLOBAL_STEP)
    with tf.gfile.GFile(f"{checkpoint_path}.index", "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    return {
        "checkpoint": checkpoint_path,
        "checkpoint_sha256": digest,
        "global_step": int(step),
    }


def _has_our_ops(model):
    return any(is_state(node.name) for node in model.graph_def.node)


def _checksum(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(2**20), b""):
            digest.update(block)
    return {"sha256": digest.hexdigest(), "bytes": os.path.getsize(path)}
