"""What may import what, and what the package never does."""
import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "ec_estimator"
FILES = sorted(PACKAGE.rglob("*.py"))
# Imports point down this list only, or stay in the folder. Folders of one line do not
# know each other.
LAYERS = [
    ["__main__"],
    ["commands"],
    ["__init__"],
    ["flags", "extend"],
    ["training"],
    ["export", "report"],
    ["pruning", "sparsity", "quantization"],
    ["shrink"],
    ["rewrite"],
    ["channels"],
    ["graph"],
    ["config"],
    ["core"],
    ["version"],
]
HEIGHT = {name: -level for level, names in enumerate(LAYERS) for name in names}


def module_name(path):
    """ec_estimator.core.folder of ec_estimator/core/folder.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def part(module):
    """The first name below the package; what is imported from it is its __init__'s."""
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else "__init__"


def modules_imported(tree):
    """Dotted names of all that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def upward(importer, tree):
    """What a module imports from above, or from beside."""
    below = part(importer)
    for name in modules_imported(tree):
        if name.split(".")[0] == "ec_estimator":
            above = part(name)
            if above != below and HEIGHT[above] >= HEIGHT[below]:
                yield name


def forbidden(tree):
    """What no module may name: contrib, pickle, and code made from text."""
    for name in modules_imported(tree):
        if {"contrib", "pickle", "cPickle", "dill", "marshal"} & set(name.split(".")):
            yield name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "contrib":
            yield "contrib"
        if isinstance(node, ast.Name) and node.id in ("eval", "exec", "compile"):
            yield node.id
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            yield node.arg


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_down(path):
    assert not list(upward(module_name(path), ast.parse(path.read_text())))


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_no_contrib_no_pickle_no_eval(path):
    assert not list(forbidden(ast.parse(path.read_text())))


@pytest.mark.parametrize(
    "importer,line,found",
    [
        ("ec_estimator.core.folder", "import ec_estimator.graph.plan", True),
        ("ec_estimator.graph.plan", "from ec_estimator.rewrite import updates", True),
        ("ec_estimator.rewrite.updates", "from ec_estimator.sparsity import x", True),
        (
            "ec_estimator.sparsity.blocks",
            "from ec_estimator.training.wrap import x",
            True,
        ),
        ("ec_estimator.training.wrap", "from ec_estimator import flags", True),
        (
            "ec_estimator.export.onnx",
            "def f():\n    import ec_estimator.__main__",
            True,
        ),
        (
            "ec_estimator.pruning.masks",
            "from ec_estimator.sparsity import blocks",
            True,
        ),
        ("ec_estimator.core.folder", "import ec_estimator", True),
        ("ec_estimator.export.onnx", "from ec_estimator.training import wrap", True),
        ("ec_estimator.report.page", "from ec_estimator.export import onnx", True),
        ("ec_estimator.rewrite.reads", "import ec_estimator.shrink.veil", True),
        ("ec_estimator.export.onnx", "from ec_estimator.shrink import cut", False),
        ("ec_estimator.sparsity.x", "from ec_estimator.sparsity import blocks", False),
        ("ec_estimator.flags", "from ec_estimator.config import x", False),
        ("ec_estimator.core.folder", "import tensorflow.compat.v1 as tf", False),
    ],
)
def test_an_import_that_points_up_is_found(importer, line, found):
    assert bool(list(upward(importer, ast.parse(line)))) is found


@pytest.mark.parametrize(
    "line,found",
    [
        ("import pickle", True),
        ("from tensorflow.contrib import slim", True),
        ("tf.contrib.slim", True),
        ("eval('1')", True),
        ("exec('1')", True),
        ("np.load(f, allow_pickle=True)", True),
        ("evaluate('1')", False),
        ("estimator.eval('1')", False),
        ("re.compile('1')", False),
    ],
)
def test_what_is_forbidden_is_found(line, found):
    assert bool(list(forbidden(ast.parse(line)))) is found


# TensorFlow's private names: module of its own code, and names that begin with "_" of
# objects that are not ours. Named tuples have four that are public.
PRIVATE = ("tensorflow.python", "tensorflow_core", "tensorflow_estimator")
OF_NAMED_TUPLES = ("_replace", "_asdict", "_fields", "_make")
OURS = ("self", "cls")
DOORS = tuple(
    f"ec_estimator.core.tf_{name}"
    for name in ("private", "imports", "intercept", "replicas", "savers", "workers")
)


def private_names(tree):
    """TensorFlow's private names that a module uses."""
    for name in modules_imported(tree):
        if name.startswith(PRIVATE):
            yield name
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and node.attr.startswith("_")
            and not node.attr.endswith("__")
            and node.attr not in OF_NAMED_TUPLES
            and not (isinstance(node.value, ast.Name) and node.value.id in OURS)
        ):
            yield node.attr
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr":
            name = getattr(node.args[1], "value", getattr(node.args[1], "s", ""))
            if isinstance(name, str) and name.startswith("_"):
                yield name


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_private_names_of_tensorflow_are_in_modules_of_their_own(path):
    found = list(private_names(ast.parse(path.read_text())))
    assert bool(found) is (module_name(path) in DOORS), found


@pytest.mark.parametrize(
    "line,found",
    [
        ("from tensorflow.python.ops import gradients_util", True),
        ("op._id", True),
        ("f(x)._variables", True),
        ("getattr(v, '_save_slice_info', None)", True),
        ("self._graph", False),
        ("spec._replace(loss=1)", False),
        ("v.__class__", False),
        ("from tensorflow.core.framework import variable_pb2", False),
    ],
)
def test_a_private_name_is_found(line, found):
    assert bool(list(private_names(ast.parse(line)))) is found


# What an import could change for the user, before and after all modules are imported.
SIDE_EFFECTS = """
import importlib, json, logging, os, random, sys
import absl.app, absl.flags, numpy as np, tqdm
import tensorflow.compat.v1 as tf
from tensorflow.python.ops import gradients_util
from tensorflow.python.training import saver
tf.estimator.Estimator, tf.random, tf.train

def state():
    return {
        "flags": sorted(absl.flags.FLAGS),
        "ops": len(tf.get_default_graph().get_operations()),
        "eager": tf.executing_eagerly(),
        "verbosity": tf.logging.get_verbosity(),
        "handlers": [len(logging.getLogger(n).handlers) for n in ("", "tensorflow")],
        "path": list(sys.path),
        "environment": dict(os.environ),
        "files": os.listdir("."),
        "random": hash((random.getstate(), np.random.get_state()[1].tobytes())),
        "gradients": id(gradients_util._GradientsHelper),
        "saver": id(saver.Saver.save),
        "estimator": hash(tuple(map(id, vars(tf.estimator.Estimator).values()))),
        "optimizer": hash(tuple(map(id, vars(tf.train.Optimizer).values()))),
        "layers": hash(tuple(map(id, vars(tf.layers.Dense).values()))),
        "excepthook": id(sys.excepthook),
    }

before = state()
for name in sys.argv[1:]:
    importlib.import_module(name)
after = state()
print(json.dumps([key for key in before if before[key] != after[key]]))
print(json.dumps(sorted(set(sys.argv[1:]) - set(sys.modules))))
"""


def test_importing_every_module_changes_nothing(tmp_path):
    modules = [module_name(path) for path in FILES]
    output = subprocess.check_output(
        [sys.executable, "-W", "ignore", "-c", SIDE_EFFECTS, *modules],
        cwd=str(tmp_path),
        env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/bin"},
        universal_newlines=True,
    )
    changed, missing = output.splitlines()
    assert changed == "[]"
    assert missing == "[]"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            lines = [n.lineno for n in ast.walk(node) if hasattr(n, "lineno")]
            assert max(lines) - node.lineno < 50, node.name
