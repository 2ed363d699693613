"""The pages in docs/ say what the code is, and what they show runs."""
import ast
import json
import re

import pytest

from docs import generate, latency
from tests import pages
from tests.test_layering import FILES, LAYERS, PACKAGE, ROOT

README = ROOT / "README.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
EXTENDING = ROOT / "docs" / "extending.md"
ERRORS = ROOT / "docs" / "errors.md"
PAGES = sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("docs/*.ipynb")])
EXAMPLE = ROOT / "examples" / "movement_pruning.py"
# Folders end in a slash, and links may begin with dots.
PATH = re.compile(r"(?<![\w/.<-])(?:\.\./)?[\w-]+(?:/[\w-]+)*(?:/|\.py|\.md)(?![\w*<])")
# Where state is in checkpoints.
NO_PATH = "ec_estimator/"


def paths_in(text):
    found = set(PATH.findall(pages.without_code(text)))
    return found - {NO_PATH}


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
    _, shown = pages.python_blocks(EXTENDING)[0]
    assert shown == EXAMPLE.read_text(encoding="utf-8")


def test_the_example_is_as_short_as_the_page_says():
    assert "under 100 lines" in " ".join(EXTENDING.read_text().split())
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) < 100


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_readme_leads_to_every_page(page):
    assert f"(docs/{page.name}" in README.read_text(encoding="utf-8")


LINK = re.compile(r"\[[^]]*\]\(([^)#:]*)(?:#([^)]*))?\)")


def anchors(page):
    """What can be linked to on a page: its headings, as GitHub spells them."""
    headings = re.findall("^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    text = page.read_text(encoding="utf-8")
    broken = []
    for path, anchor in LINK.findall(pages.without_code(text)):
        target = (page.parent / path) if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(f"{path}#{anchor}")
    assert broken == []


@pytest.mark.parametrize("name,make", generate.PAGES.items())
def test_a_page_that_is_made_from_the_code_is_up_to_date(name, make):
    page = (generate.FOLDER / name).read_text(encoding="utf-8")
    assert page == make(), "run 'make docs'"


def test_figures_are_those_of_the_results(tmp_path, monkeypatch):
    rows = [
        {"net": net, "form": form, "engine": "mnn", "ms": ms}
        for net, form, ms in (
            ("resnet20", "float", 3.0),
            ("resnet20", "int8", 1.2345),
            ("dense", "float", 1.0),
            ("dense", "int8", 2.0),
            ("dense", "sparse", 0.5),
        )
    ]
    monkeypatch.setattr(latency, "RESULTS", tmp_path / "results.json")
    latency.RESULTS.write_text(json.dumps({"rows": rows}))
    assert latency.milliseconds().splitlines() == [
        "|  |  | float | int8, fused | 70 % sparse |",
        "| --- | --- | --- | --- | --- |",
        "| ResNet-20, 32 x 32 | MNN | 3 | 1.23 |  |",
        "| dense, 3 x 2048 | MNN | 1 | 2 | 0.5 |",
    ]
    assert latency.speeds().splitlines()[2:] == ["| `mnn` | 0.5 to 2.4 | 2 |"]


def test_the_reference_has_signature_and_docstring_and_no_address():
    text = generate.reference()
    assert "compress(model_fn, compressors)\n\n" in text
    assert "register(algorithm, flag_values=...)" in text
    assert " at 0x" not in text and "Alias for field" not in text


def test_every_public_name_has_a_docstring():
    assert "\nNone\n" not in generate.reference()


def texts():
    """The strings of the package, those that stand side by side as one."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [getattr(value, "s", "\0") for value in node.values]
                yield "".join(parts)
            elif isinstance(node, ast.Str):
                yield node.s


def messages(text):
    """The messages in the tables of errors.md, each as the pieces around its values."""
    rows = re.findall(r"^\| `(.*?)`(?: after `(.*?)`)? \|", text, re.MULTILINE)
    for message in (part for row in rows for part in row if " " in part):
        yield [piece.strip() for piece in message.split("...") if piece.strip(" ,;")]


def test_every_message_of_the_errors_page_is_one_of_the_package():
    known = list(texts())
    found = list(messages(ERRORS.read_text(encoding="utf-8")))
    assert len(found) > 20
    for pieces in found:
        lost = [piece for piece in pieces if not any(piece in text for text in known)]
        assert not lost, lost


def test_every_error_has_a_section_on_the_errors_page():
    text = ERRORS.read_text(encoding="utf-8")
    for name in generate.ec.__all__:
        thing = getattr(generate.ec, name)
        if isinstance(thing, type) and issubclass(thing, Exception):
            assert re.search(f"^## .*{name}", text, re.MULTILINE), name


WITH_PYTHON = [page for page in [README, *PAGES] if pages.python_blocks(page)]
WITH_COMMANDS = [page for page in [README, *PAGES] if pages.commands(page)]
# What these train others do as well; that their code is Python is checked always.
_SLOW = ("training", "handoff", "pruning", "quantization", "sparsity")
SLOW = [ROOT / "docs" / f"{name}.md" for name in _SLOW]


def marked(page, slow):
    marks = [pytest.mark.xdist_group("pages"), *([pytest.mark.slow] if slow else [])]
    return pytest.param(page, marks=marks, id=page.name)


@pytest.fixture(scope="module")
def failures(request, launcher, tmp_path_factory):
    """Runs the pages whose tests are selected."""
    name = test_the_python_of_a_page_runs_as_it_stands.__name__
    selected = [
        item.callspec.params["page"]
        for item in request.session.items
        if getattr(item, "originalname", "") == name
    ]
    return pages.run_python(launcher, selected, tmp_path_factory.mktemp("pages"))


@pytest.mark.parametrize("page", [marked(page, page in SLOW) for page in WITH_PYTHON])
def test_the_python_of_a_page_runs_as_it_stands(page, failures):
    assert not failures[page], failures[page]


@pytest.mark.parametrize("page", SLOW, ids=lambda page: page.name)
def test_what_a_page_shows_is_python(page):
    for line, code in pages.python_blocks(page):
        ast.parse("\n" * line + code, str(page))


def test_the_commands_of_all_pages_are_understood(launcher, tmp_path):
    failures = pages.parse_commands(launcher, WITH_COMMANDS, tmp_path)
    assert not any(failures.values()), failures


@pytest.mark.parametrize(
    "page", [marked(page, page != README) for page in WITH_COMMANDS]
)
def test_the_commands_of_a_page_run_as_they_stand(page, launcher, tmp_path):
    (failure,) = pages.run_commands(launcher, [page], tmp_path).values()
    assert not failure, failure


def test_what_cannot_run_is_found(launcher, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\na = 1\n```\n\n```python\nb = a + c\n```\n\n"
        "    python -m ec_estimator plan --model=examples.digits_model \\\n"
        "        --compressor=no_such  # as it is\n"
    )
    (failure,) = pages.run_python(launcher, [page], new_folder(tmp_path, "a")).values()
    assert "line 6, in <module>" in failure and "'c' is not defined" in failure
    assert pages.commands(page)[0][-1] == "--compressor=no_such"
    (failure,) = pages.run_commands(
        launcher, [page], new_folder(tmp_path, "b")
    ).values()
    assert "--compressor: 'no_such' is unknown" in failure


def new_folder(folder, name):
    (folder / name).mkdir()
    return folder / name
