"""The files a run leaves beside its checkpoints. JSON only, whole or not at all."""
import dataclasses
import json
import os
import uuid

import tensorflow.compat.v1 as tf

from ec_estimator.core.atomic import write_atomically
from ec_estimator.core.errors import RunFolderError
from ec_estimator.core.schedule import Schedule
from ec_estimator.version import __version__

FORMAT_VERSION = 3


VERSIONS = {"ec_estimator": __version__, "tensorflow": tf.version.VERSION}


class RunFolder:
    """`<model_dir>/compression` or the hook's save_dir.

    Holds manifest.json (versions, configs, the user's variables), plan.json,
    coverage.json and trials.jsonl. Any file system that TensorFlow knows will do.
    """

    def __init__(self, path):
        self.path = os.fspath(path)

    def create(self):
        """Makes the folder and proves that it can be written.

        Raises:
          RunFolderError: it is a file, or cannot be made or written.
        """
        if tf.gfile.Exists(self.path) and not tf.gfile.IsDirectory(self.path):
            raise RunFolderError(f"{self.path!r} is a file; name a folder to write to")
        try:
            tf.gfile.MakeDirs(self.path)
            probe = self.file(uuid.uuid4().hex)
            write_atomically(probe, "")
            tf.gfile.Remove(probe)
        except (tf.errors.OpError, OSError) as error:
            raise RunFolderError(
                f"{self.path!r} cannot be written ({error}); "
                "name a folder that this process may write to"
            ) from error
        return self

    def file(self, name):
        return os.path.join(self.path, name)

    def write_json(self, name, content):
        content = {"format_version": FORMAT_VERSION, **content}
        write_atomically(self.file(name), json.dumps(content, indent=1) + "\n")

    def read_json(self, name):
        """The content of a JSON file, or None when there is no such file.

        Raises:
          RunFolderError: not JSON, not an object, or of another format version.
        """
        path = self.file(name)
        if not tf.gfile.Exists(path):
            return None
        try:
            with tf.gfile.GFile(path) as file:
                content = json.loads(file.read())
        except (ValueError, tf.errors.OpError) as error:
            raise RunFolderError(
                f"{path!r} is damaged ({error}); restore it, or move it away "
                "to have it written again"
            ) from error
        version = content.get("format_version") if isinstance(content, dict) else None
        if version != FORMAT_VERSION:
            raise RunFolderError(
                f"{path!r} has format version {version!r}; this release reads "
                f"{FORMAT_VERSION}"
            )
        return content

    def bind(self, plan, configs, schedules, variables):
        """Writes plan and manifest, or checks them against those of an earlier start.

        Args:
          plan: JSON-ready dict.
          configs: {compressor name: JSON-ready dict of its config}, in the order in
            which they are applied.
          schedules: {compressor name: Schedule}.
          variables: names of the user's own variables.

        Raises:
          RunFolderError: the folder belongs to a run with other settings or another
            model.
        """
        known = self.read_json("manifest.json")
        if known is not None:
            self._check_configs(known, configs)
            self._check_order(known, list(configs))
        known_plan = self.read_json("plan.json")
        if known_plan is not None:
            self._check_plan(known_plan, plan)
            self._check_details(known_plan, plan)
        self.write_json("plan.json", plan)
        self.write_json(
            "manifest.json",
            {
                **VERSIONS,
                "compressors": configs,
                "order": list(configs),
                "schedules": {
                    name: dataclasses.asdict(schedule)
                    for name, schedule in schedules.items()
                },
                "variables": sorted(variables),
            },
        )

    def details(self):
        """{compressor name: what its Decisions.details are as JSON} of the run; {}
        before its start.

        Raises:
          RunFolderError: the plan is damaged.
        """
        plan = self.read_json("plan.json")
        details = plan.get("details") if plan is not None else {}
        if not isinstance(details, dict):
            raise RunFolderError(
                f"{self.file('plan.json')!r} is damaged (no 'details'); restore it"
            )
        return details

    def schedules(self):
        """{compressor name: Schedule} of the run; {} before its start.

        Raises:
          RunFolderError: the manifest is damaged.
        """
        known = self.read_json("manifest.json")
        if known is None:
            return {}
        schedules = known.get("schedules")
        if not _is_table(schedules) or not all(map(_is_schedule, schedules.values())):
            raise RunFolderError(
                f"{self.file('manifest.json')!r} is damaged (no 'schedules'); "
                "restore it"
            )
        return {name: Schedule(**fields) for name, fields in schedules.items()}

    def configs(self):
        """{compressor name: its config as JSON} of the run; {} before its start."""
        known = self.read_json("manifest.json")
        return {} if known is None else self._configs(known)

    def check_config(self, name, config, ignored=()):
        """Compares a compressor's config with that of the run; before its start, or if
        the run has no such compressor, nothing is wrong.

        Args:
          name: of the compressor.
          config: its config as JSON.
          ignored: names of fields that need not be equal.

        Raises:
          RunFolderError: a field differs, or the manifest is damaged.
        """
        before = self.configs().get(name)
        for field, value in config.items() if before is not None else ():
            old = before.get(field)
            if old != value and field not in ignored:
                raise RunFolderError(
                    f"{self.path!r} belongs to a run with {name} {field}={old!r}, "
                    f"this one has {value!r}; use the old value or another "
                    "model_dir"
                )

    def _configs(self, manifest):
        configs = manifest.get("compressors")
        if not _is_table(configs):
            raise RunFolderError(
                f"{self.file('manifest.json')!r} is damaged (no 'compressors'); "
                "restore it, or move it away to have it written again"
            )
        return configs

    def _check_configs(self, known, configs):
        before = self._configs(known)
        if set(before) != set(configs):
            raise RunFolderError(
                f"{self.path!r} belongs to a run with compressors "
                f"{sorted(before)}, this one has {sorted(configs)}; use another "
                "model_dir"
            )
        for name, config in configs.items():
            self.check_config(name, config)

    def _check_order(self, known, order):
        before = known.get("order", order)
        if before != order:
            raise RunFolderError(
                f"{self.path!r} belongs to a run with compressors in the order "
                f"{before}, this one has {order}; use that order or another model_dir"
            )

    def _check_details(self, known, plan):
        before, now = known.get("details"), json.loads(json.dumps(plan["details"]))
        for name in now:
            if not isinstance(before, dict) or before.get(name) != now[name]:
                raise RunFolderError(
                    f"the plan {self.file('plan.json')!r} no longer fits the model: "
                    f"{name} would be put into other layers, or in another way, than "
                    "before; use the model it was made for or another model_dir"
                )

    def _check_plan(self, known, plan):
        path = self.file("plan.json")
        before, now = known.get("kernels"), plan["kernels"]
        if not _is_table(before):
            raise RunFolderError(
                f"{path!r} is damaged (no 'kernels'); restore it, or move it away to "
                "have it written again"
            )
        for name in sorted(set(before) | set(now)):
            if before.get(name) != now.get(name):
                what = (
                    "is not in the model"
                    if name not in now
                    else "is not in the plan"
                    if name not in before
                    else f"has shape {before[name].get('shape')} in the plan and "
                    f"{now[name]['shape']} in the model, or is used differently"
                )
                raise RunFolderError(
                    f"the plan {path!r} no longer fits the model: kernel {name!r} "
                    f"{what}; use the model it was made for or another model_dir"
                )

    def record_trial(self, record):
        """Adds one line to trials.jsonl; a trial repeated after a kill replaces its
        earlier line."""
        path = self.file("trials.jsonl")
        kept = [
            old
            for old in self.trials()
            if (old["compressor"], old["trial"])
            != (record["compressor"], record["trial"])
        ]
        lines = [json.dumps(line) + "\n" for line in kept + [record]]
        write_atomically(path, "".join(lines))

    def trials(self):
        """The records of trials.jsonl, oldest first.

        Raises:
          RunFolderError: a line is damaged.
        """
        path = self.file("trials.jsonl")
        if not tf.gfile.Exists(path):
            return []
        # Bytes that are no text make their line invalid, not the whole file unreadable.
        with tf.gfile.GFile(path, "rb") as file:
            lines = file.read().decode(errors="replace").splitlines()
        records = []
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                record["compressor"], record["trial"]
            except (ValueError, KeyError, TypeError) as error:
                raise RunFolderError(
                    f"{path!r} line {number} is damaged ({error}); restore the file, "
                    "or move it away to start a new one"
                ) from error
            records.append(record)
        return records


def _is_schedule(fields):
    """Whether a dict has the fields of a Schedule, with values of their types."""
    types = {f.name: f.type for f in dataclasses.fields(Schedule)}
    return set(fields) == set(types) and all(
        isinstance(fields[name], (int, float) if kind is float else kind)
        for name, kind in types.items()
    )


def _is_table(value):
    return isinstance(value, dict) and all(isinstance(v, dict) for v in value.values())
