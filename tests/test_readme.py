"""The README is short, and what it tells to do can be done.

What it shows in Python runs in tests/test_docs.py.
"""
import ast
import importlib.util
import re
import runpy

import pytest
import setuptools

from tests.test_layering import ROOT, modules_imported

README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
# What pip calls a package that is imported by another name.
PACKAGES = {"sklearn": "scikit-learn", "absl": "absl-py"}


@pytest.fixture
def setup(monkeypatch):
    """What setup.py gives to pip."""
    given = {}
    monkeypatch.setattr(setuptools, "setup", given.update)
    runpy.run_path(str(ROOT / "setup.py"))
    return given


def test_it_is_read_in_a_minute():
    assert len(README.encode()) <= 8000


def test_its_make_targets_exist():
    targets = re.findall(r"^ {4}make ([\w-]+)", README, re.MULTILINE)
    assert len(targets) >= 3
    for target in targets:
        assert re.search(f"^{target}:", MAKEFILE, re.MULTILINE), target


def test_the_extras_that_it_names_exist(setup):
    named = set(re.findall(r"\[(\w+)\][`']", README))
    assert {"demo", "report", "onnx", "mnn"} <= named <= set(setup["extras_require"])


def test_its_install_line_brings_what_the_examples_import(setup):
    (extra,) = re.findall(r"^ {4}pip install -e '\.\[(\w+)\]'", README, re.MULTILINE)
    lines = setup["install_requires"] + setup["extras_require"][extra]
    brought = {re.match(r"[\w-]+", line).group() for line in lines}
    imported = {
        name.split(".")[0]
        for path in ROOT.glob("examples/*.py")
        for name in modules_imported(ast.parse(path.read_text(encoding="utf-8")))
    }
    packages = {PACKAGES.get(name, name) for name in imported}
    assert "scikit-learn" in packages & brought
    # Whoever has ranks of Horovod has compiled it for them.
    others = {"ec_estimator", "examples", "horovod"}
    assert {
        name for name in packages - brought - others if not is_standard(name)
    } == set()


def is_standard(name):
    """Whether a module comes with Python."""
    origin = str(importlib.util.find_spec(name).origin)
    return "site-packages" not in origin
