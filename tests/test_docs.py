"""The pages in docs/ say what the code is."""
import re
from pathlib import Path

import pytest

from tests.test_layering import LAYERS, PACKAGE, ROOT

ARCHITECTURE = ROOT / "docs" / "architecture.md"
EXTENDING = ROOT / "docs" / "extending.md"
EXAMPLE = ROOT / "examples" / "movement_pruning.py"
# Folders end in a slash, and links may begin with dots.
PATH = re.compile(r"(?<![\w/.<-])(?:\.\./)?[\w-]+(?:/[\w-]+)*(?:/|\.py|\.md)(?![\w*<])")
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)
# Where state is in checkpoints.
NO_PATH = "ec_estimator/"


def paths_in(text):
    return {found for found in PATH.findall(CODE.sub("", text)) if found != NO_PATH}


def exists(path, page):
    places = (page.parent, ROOT, PACKAGE)
    return any((place / path).exists() for place in places)


@pytest.mark.parametrize("page", [ARCHITECTURE, EXTENDING], ids=lambda p: p.stem)
def test_every_path_that_is_named_exists(page):
    paths = paths_in(page.read_text(encoding="utf-8"))
    assert len(paths) > 5
    assert [path for path in sorted(paths) if not exists(path, page)] == []


@pytest.mark.parametrize(
    "text,paths",
    [
        ("see `graph/plan.py`, in graph/.", {"graph/plan.py", "graph/"}),
        ("[page](../examples/a_b.py)", {"../examples/a_b.py"}),
        ("`w/read` or 1/2", set()),
        ("https://example.org/a/b.md", set()),
    ],
)
def test_paths_are_found(text, paths):
    assert paths_in(text) == paths


def test_a_path_that_is_not_there_is_found():
    assert exists("graph/plan.py", ARCHITECTURE)
    assert not exists("graph/no_such.py", ARCHITECTURE)


def test_the_rooms_are_those_whose_imports_are_checked():
    text = ARCHITECTURE.read_text(encoding="utf-8")
    rooms = text.split("## The rooms")[1].split("\n## ")[0]
    lines = [line[4:] for line in rooms.splitlines() if line.startswith("    ")]
    assert [line.split("  ")[0].split(", ") for line in lines] == LAYERS


def test_the_example_is_shown_as_it_is():
    blocks = CODE.findall(EXTENDING.read_text(encoding="utf-8"))
    assert blocks[0] == EXAMPLE.read_text(encoding="utf-8")


def test_the_example_is_as_short_as_the_page_says():
    assert "under 100 lines" in " ".join(EXTENDING.read_text().split())
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) < 100


@pytest.mark.parametrize(
    "page", ["architecture.md", "extending.md", "channel-rules.md", "cluster.md"]
)
def test_readme_leads_to_every_page(page):
    assert f"(docs/{page})" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert page in {path.name for path in Path(ROOT / "docs").iterdir()}
