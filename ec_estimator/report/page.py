"""A PruningReport as one self-contained HTML page.

Needs jinja2 and matplotlib, the extra `ec_estimator[report]`; imported on use.
"""
import pkgutil

from ec_estimator.core.errors import CompressionError
from ec_estimator.report.plots import latency_plot, layer_plot
from ec_estimator.report.text import change, conditions, headline


def html_page(report):
    """The page's text; it refers to nothing outside of itself.

    Args:
      report: data.PruningReport.

    Raises:
      CompressionError: jinja2 or matplotlib is not installed.
    """
    try:
        import jinja2
        import markupsafe
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise CompressionError(
            f"the HTML report needs {error.name}: pip install 'ec_estimator[report]'"
        ) from error
    # Layers are named by whoever wrote the model: nothing gets in unescaped but the
    # plots, whose text matplotlib escapes.
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters.update(change=change, thousands="{:,}".format)
    source = pkgutil.get_data(__package__, "page.html").decode()
    total, measured = report.total, report.measurement
    return environment.from_string(source).render(
        report=report,
        headline=headline(report),
        totals=[
            ("parameters", total.params),
            ("multiply-accumulates", total.macs),
            ("bytes", total.bytes),
        ],
        layer_plot=markupsafe.Markup(layer_plot(report)),
        latency_plot=markupsafe.Markup(latency_plot(measured)) if measured else "",
        conditions=conditions(measured) if measured else "",
    )
