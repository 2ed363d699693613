"""The HTML page: complete, self-contained, and safe from names."""
import dataclasses
import html.parser
import re
import shutil
import subprocess
import sys

import pytest

import ec_estimator as ec
from ec_estimator.report.comparison import (
    Comparison,
    Measure,
    comparison_table,
    format_comparison,
)
from ec_estimator.report.data import Latency, Measurement, pruning_report
from ec_estimator.report.page import html_page
from ec_estimator.report.run import CompressorReport, Outcome
from ec_estimator.report.text import format_report
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


def texts(page):
    """What its plots say; matplotlib draws letters, and has the text beside them."""
    return re.findall("<!-- (.*?) -->", page)


COMPARISON = Comparison(
    "Dense <and> small",
    ("dense", "small"),
    "7 images",
    (
        Measure("accuracy", "", 0.995, 0.99, digits=3),
        Measure("file", "bytes", 4000, 1000, gain="less"),
    ),
)


def test_a_comparison_is_on_the_page_as_a_table_and_as_bars(report):
    page = html_page(report, comparison=COMPARISON)
    parsed = Parser(page)
    assert parsed.rows[:3] == [
        ["", "dense", "small", ""],
        ["accuracy", "0.995", "0.990", ""],
        ["file, bytes", "4,000", "1,000", "4.0 x less"],
    ]
    assert parsed.tags.count("svg") == 3
    said = [text.strip() for text in texts(page)]
    for text in ("accuracy", "0.990", "file", "4,000 bytes", "dense", "small"):
        assert text in said
    assert "<h1>Dense &lt;and&gt; small</h1>" in page and "<p>7 images</p>" in page
    assert ["conv/Conv2D", "Conv2D"] in [row[:2] for row in parsed.rows]


def test_axes_have_no_thousandths_of_milliseconds(report):
    measurement = dataclasses.replace(
        report.measurement, latencies=(Latency(1, 0.4, 0.2),)
    )
    said = texts(html_page(dataclasses.replace(report, measurement=measurement)))
    assert "0.2" in said and "200m" not in said


def test_a_comparison_as_text():
    assert format_comparison(COMPARISON).splitlines() == [
        "             dense  small",
        "-----------  -----  -----  ----------",
        "accuracy     0.995  0.990",
        "file, bytes  4,000  1,000  4.0 x less",
    ]


@pytest.mark.parametrize(
    "gain,before,said",
    [
        ("faster", 1.04, "as fast"),
        ("faster", 0.96, "as fast"),
        ("faster", 1.06, "1.1 x faster"),
        ("faster", 0.8, "1.2 x slower"),
        ("less", 0.5, "2.0 x more"),
        ("less", 1.0, "as much"),
        ("", 1.0, ""),
    ],
)
def test_a_gain_that_rounds_to_none_is_called_so(gain, before, said):
    measured = Comparison("", ("a", "b"), "", (Measure("m", "", before, 1, 2, gain),))
    _, [row], _ = comparison_table(measured)
    assert row[-1] == said


@pytest.mark.parametrize(
    "compressors,title",
    [
        ([], "Pruning report"),
        (["pruning", "quantization"], "Pruning and quantization report"),
        (["sparsity", "my_own"], "Pruning, sparsity and my own report"),
    ],
)
def test_the_title_says_what_the_run_did(compressors, title, report):
    made = [CompressorReport(n, 1, 1, {}, (), {}, {}, {}) for n in compressors]
    assert f"<h1>{title}</h1>" in html_page(report, made)


def test_the_title_of_a_page_on_nothing():
    assert "<title>Compression report</title>" in html_page(None)


def test_axes_have_units(report):
    said = texts(html_page(report))
    for unit in (
        *("number put out", "number in the kernel", "multiply-accumulates an example"),
        "milliseconds a batch",
    ):
        assert unit in said


def test_what_is_left_is_said_to_be_left(report):
    page = html_page(report)
    assert "<b>76.2 % left</b>of 101 parameters" in page
    left = ["left", "", "", "76.2 %", "75.0 %", "77.4 %", ""]
    assert left in Parser(page).rows


def test_layers_that_are_cut_to_the_minimum_are_marked(tmp_path):
    write_network(tmp_path, channel_align=3)
    made = pruning_report(str(tmp_path))
    assert [layer.at_minimum for layer in made.layers] == [True, False, False]
    page = html_page(made)
    assert page.count('<tr class="minimum">') == 1
    assert "compressed, to the minimum" in [row[-1] for row in Parser(page).rows]
    assert texts(page).count("  minimum") + texts(page).count("minimum") == 1
    assert "compressed, to the minimum" in format_report(made)
    # By itself the smallest number is one.
    write_network(tmp_path)
    assert not any(la.at_minimum for la in pruning_report(str(tmp_path)).layers)


def test_the_evaluation_and_the_next_command_are_on_the_page(report):
    page = html_page(report, (), Outcome({"global_step": 9, "a<b": 0.5}, "do <this>"))
    assert "Evaluation at step 9: a&lt;b 0.5" in page
    assert "Next: <code>do &lt;this&gt;</code>" in page
    assert "Next:" not in html_page(report)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs a browser")
def test_all_columns_are_seen_at_1280_pixels(report, tmp_path):
    name = "resnet_v1_152/block1/unit_1/bottleneck_v1/a_convolution_with_a_long_name"
    layers = [dataclasses.replace(layer, op=name) for layer in report.layers]
    row = {"layer": name, "kernel": name, "weights": 2359296, "weight_bits": 8}
    row.update(activation_bits=8, weight_range=[-0.05984, 0.05984], clipped=0.00073)
    row.update(activation_range=[-0.63331, 0.62833])
    row.update(bytes={"before": 9437184, "after": 2361344})
    made = CompressorReport("quantization", 1, 1, {name: name}, (row,), {}, {}, {})
    page = html_page(dataclasses.replace(report, layers=tuple(layers)), [made])
    code = (
        "document.title = [document.documentElement, ...document.querySelectorAll"
        "('.wide')].every(e => e.scrollWidth <= e.clientWidth)"
    )
    page = page.replace("</body>", f"<script>{code}</script></body>")
    (tmp_path / "page.html").write_text(page)
    dom = subprocess.check_output(
        [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu"),
            *("--window-size=1280,900", "--dump-dom", f"file://{tmp_path}/page.html"),
        ]
    )
    assert b"<title>true</title>" in dom


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
