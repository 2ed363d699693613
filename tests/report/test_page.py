"""The HTML page: complete, self-contained, and safe from names."""
import dataclasses
import html.parser
import re
import sys

import pytest

import ec_estimator as ec
from ec_estimator.report.data import Latency, Measurement, pruning_report
from ec_estimator.report.page import html_page
from tests.report.networks import write_network


class Parser(html.parser.HTMLParser):
    """Collects tags, attributes, and the text of table cells."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.rows = [], [], []
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]
        if tag == "tr":
            self.rows.append([])
        self._in_cell = tag in ("td", "th")
        if self._in_cell:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self._in_cell = False

    def handle_data(self, data):
        if self._in_cell:
            self.rows[-1][-1] += data


@pytest.fixture
def report(tmp_path):
    write_network(tmp_path)
    measurement = Measurement("python <x>", 9, "1.15.5", 2, (Latency(32, 2.0, 1.5),))
    made = pruning_report(str(tmp_path))
    return dataclasses.replace(made, measurement=measurement)


def test_the_tables_show_layers_totals_and_latency(report):
    rows = Parser(html_page(report)).rows
    assert ["32", "2.00 ms", "1.50 ms", "1.33 x"] in rows
    assert ["conv/Conv2D", "Conv2D", "4 -> 3", "72 -> 54"] in [r[:4] for r in rows]
    total = ["total", "", "", "101 -> 77", "1,192 -> 894", "424 -> 328", ""]
    assert total in rows


def test_there_is_a_plot_of_layers_and_one_of_latency(report):
    assert Parser(html_page(report)).tags.count("svg") == 2
    unmeasured = dataclasses.replace(report, measurement=None)
    page = html_page(unmeasured)
    assert Parser(page).tags.count("svg") == 1
    assert "Latency" not in page


def test_a_browser_loads_nothing_for_the_page(report):
    page = html_page(report)
    parsed = Parser(page)
    assert not {"script", "link", "img", "iframe", "image"} & set(parsed.tags)
    links = {v for _, name, v in parsed.attributes if name.endswith(("href", "src"))}
    assert links and all(link.startswith("#") for link in links)
    assert all(inner.startswith("#") for inner in re.findall(r"url\((.*?)\)", page))
    assert "@import" not in page


def test_names_are_escaped_in_tables_and_plots(report):
    evil = "<script>$x$</script>&"
    layers = [dataclasses.replace(report.layers[0], op=evil), *report.layers[1:]]
    page = html_page(dataclasses.replace(report, layers=tuple(layers)))
    parsed = Parser(page)
    assert "script" not in parsed.tags
    assert evil in [row[0] for row in parsed.rows if row]
    assert "its channels are <frozen>" in [row[-1] for row in parsed.rows]


def test_the_same_report_gives_the_same_page(report):
    assert html_page(report) == html_page(report)


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_without_its_libraries_the_page_says_what_to_install(
    report, missing, monkeypatch
):
    monkeypatch.setitem(sys.modules, missing, None)
    needs = rf"needs {missing}: pip install 'ec_estimator\[report\]'"
    with pytest.raises(ec.CompressionError, match=needs):
        html_page(report)
