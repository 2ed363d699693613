"""Reports as one self-contained HTML page.

Needs jinja2 and matplotlib, the extra `ec_estimator[report]`; imported on use.
"""
import pkgutil

from ec_estimator.core.errors import CompressionError
from ec_estimator.report.comparison import comparison_table
from ec_estimator.report.plots import (
    comparison_plot,
    curve_plot,
    latency_plot,
    layer_plot,
)
from ec_estimator.report.text import (
    change,
    conditions,
    decision,
    evaluation_line,
    headline,
    table,
    title,
    totals_line,
)


def html_page(report, compressors=(), outcome=None, comparison=None):
    """The page's text; it refers to nothing outside of itself.

    Args:
      report: data.PruningReport, or None.
      compressors: [run.CompressorReport].
      outcome: run.Outcome, or None.
      comparison: comparison.Comparison of what came out, or None.

    Raises:
      CompressionError: jinja2 or matplotlib is not installed.
    """
    check_packages()
    import jinja2
    import markupsafe

    # Layers are named by whoever wrote the model: nothing gets in unescaped but the
    # plots, whose text matplotlib escapes.
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters.update(
        change=change, decision=decision, thousands="{:,}".format
    )
    source = pkgutil.get_data(__package__, "page.html").decode()
    return environment.from_string(source).render(
        title=_title(report, compressors, comparison),
        report=report,
        comparison=comparison,
        evaluation=evaluation_line(outcome.evaluation)
        if outcome and outcome.evaluation
        else "",
        next=outcome.next if outcome else "",
        sections=[_section(made, markupsafe.Markup) for made in compressors],
        **(_of_pruning(report, markupsafe.Markup) if report else {}),
        **(_of_comparison(comparison, markupsafe.Markup) if comparison else {}),
    )


def check_packages():
    """Asked before minutes are spent on what the page should show.

    Raises:
      CompressionError: jinja2 or matplotlib is not installed.
    """
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise CompressionError(
            f"the HTML report needs {error.name}: pip install 'ec_estimator[report]'"
        ) from error


def _title(report, compressors, comparison):
    """The comparison's, or says what the run did."""
    if comparison:
        return comparison.title
    names = ["pruning"] if report else []
    names += [made.compressor.replace("_", " ") for made in compressors]
    *first, last = dict.fromkeys(names or ["compression"])
    text = f"{', '.join(first)} and {last}" if first else last
    return f"{text[0].upper()}{text[1:]} report"


def _section(made, markup):
    """What the page shows of a CompressorReport."""
    return {
        "title": title(made),
        "totals": totals_line(made.totals),
        "left_alone": made.left_alone,
        "table": table(made.layers),
        "plot": markup(curve_plot(made.curves, made.units)) if made.curves else "",
    }


def _of_comparison(comparison, markup):
    """What the page shows of a Comparison, apart from itself."""
    return {
        "comparison_table": comparison_table(comparison),
        "comparison_plot": markup(comparison_plot(comparison)),
    }


def _of_pruning(report, markup):
    """What the page shows of a PruningReport, apart from itself."""
    total, measured = report.total, report.measurement
    return {
        "headline": headline(report),
        "totals": [
            ("parameters", total.params),
            ("multiply-accumulates", total.macs),
            ("bytes", total.bytes),
        ],
        "layer_plot": markup(layer_plot(report)),
        "latency_plot": markup(latency_plot(measured)) if measured else "",
        "conditions": conditions(measured) if measured else "",
    }
