"""Reports as plots. Needs matplotlib, which is imported on use."""
import io

_GREY, _BLUE = "#c9ced6", "#2f6fb0"
_ROW, _MARGIN = 0.24, 1.1  # inches of height
_PANEL = 1.4  # inches of a curve's height
_PAIR = 1.05  # inches of height of two bars with title and unit
_WIDTH, _LETTER = 8.5, 0.055  # inches of width


def layer_plot(report):
    """SVG: channels, parameters and MACs of each layer, whole and small.

    Args:
      report: data.PruningReport.

    Returns:
      Text that starts with <svg, for a page.
    """
    layers = report.layers
    panels = {
        ("channels", "number put out"): [layer.channels for layer in layers],
        ("parameters", "number in the kernel"): [layer.cost.params for layer in layers],
        ("MACs", "multiply-accumulates an example"): [
            layer.cost.macs for layer in layers
        ],
    }
    names = [layer.op for layer in layers]
    figure, axes = _figure(len(panels), _MARGIN + _ROW * len(layers), names)
    for axis, ((title, unit), changes) in zip(axes, panels.items()):
        before = [change.before if change else 0 for change in changes]
        after = [change.after if change else 0 for change in changes]
        _bars(axis, title, unit, before, after)
    for row, layer in enumerate(layers):
        if layer.at_minimum:
            axes[0].annotate("  minimum", (layer.channels.before, row), fontsize=6)
    _name_rows(axes[0], names)
    _legend(axes[-1])
    return _svg(figure)


def latency_plot(measurement):
    """SVG: milliseconds of each batch size, whole and small.

    Args:
      measurement: data.Measurement.
    """
    rows = measurement.latencies
    names = [f"batch of {row.batch_size}" for row in rows]
    figure, (axis,) = _figure(1, _MARGIN + 2 * _ROW * len(rows), names)
    _bars(
        axis,
        "latency",
        "milliseconds a batch",
        [r.before for r in rows],
        [r.after for r in rows],
    )
    _name_rows(axis, names)
    _legend(axis)
    return _svg(figure)


def comparison_plot(comparison):
    """SVG: a panel for each measure, with a bar for each of the two models.

    Args:
      comparison: comparison.Comparison.
    """
    from matplotlib.figure import Figure

    measures = comparison.measures
    figure = Figure(figsize=(_WIDTH, _PAIR * len(measures)))
    panels = figure.subplots(len(measures), 1, squeeze=False)[:, 0]
    for axis, measure in zip(panels, measures):
        numbers = measure.before, measure.after
        axis.barh((0, 1), numbers, color=(_GREY, _BLUE))
        for row, (number, text) in enumerate(zip(numbers, measure.texts)):
            text = f" {text} {measure.unit}".rstrip()
            axis.annotate(text, (number, row), va="center", fontsize=8)
        _label(axis, measure.name, measure.unit)
        # Room for the numbers beside the bars.
        axis.margins(x=0.2)
        _name_rows(axis, comparison.names)
    return _svg(figure)


def curve_plot(curves, units):
    """SVG: what each trial led to, against the training step; a panel for each kind of
    number.

    Args:
      curves, units: as in run.CompressorReport.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    height = _MARGIN + _PANEL * len(curves)
    figure = Figure(figsize=(_WIDTH, height))
    panels = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (what, named) in zip(panels, curves.items()):
        for points in named.values():
            # Many lines show where they are close together.
            steps, numbers = zip(*points)
            axis.plot(steps, numbers, ".-", color=_BLUE, alpha=len(named) ** -0.5)
        lines = f", a line each of {len(named)}" if len(named) > 1 else ""
        axis.set_title(what.replace("_", " ") + lines, fontsize=9, loc="left")
        axis.set_ylabel(units.get(what, ""), fontsize=7)
        axis.tick_params(labelsize=7)
        if all(number >= 0 for points in named.values() for _, number in points):
            axis.set_ylim(bottom=0)
        _open(axis)
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[-1].set_xlabel("training step", fontsize=8)
    return _svg(figure)


def _open(axis):
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _figure(columns, height, names):
    # Not pyplot, which keeps figures and a backend for the whole process.
    from matplotlib.figure import Figure

    width = _WIDTH + _LETTER * max(map(len, names), default=0)
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots(1, columns, sharey=True, squeeze=False)[0]


def _bars(axis, title, unit, before, after):
    rows = range(len(before))
    axis.barh(rows, before, 0.8, color=_GREY, label="whole")
    axis.barh(rows, after, 0.45, color=_BLUE, label="small")
    _label(axis, title, unit)
    axis.margins(y=0.01)


def _label(axis, title, unit):
    """What horizontal bars stand for."""
    from matplotlib.ticker import EngFormatter, FuncFormatter

    large = EngFormatter(sep="")
    axis.set_title(title, fontsize=9, loc="left")
    axis.set_xlabel(unit, fontsize=7)
    # Not "500m" of milliseconds.
    axis.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: f"{x:.3g}" if x < 1000 else large(x))
    )
    axis.tick_params(labelsize=7)
    axis.locator_params(axis="x", nbins=4)
    _open(axis)


def _name_rows(axis, names):
    axis.set_yticks(range(len(names)))
    # A dollar would start a formula.
    axis.set_yticklabels([name.replace("$", r"\$") for name in names])
    axis.invert_yaxis()


def _legend(axis):
    # Above the bars, right of the title.
    axis.legend(
        fontsize=7, frameon=False, ncol=2, loc="lower right", bbox_to_anchor=(1, 1)
    )


def _svg(figure):
    import matplotlib

    text = io.StringIO()
    figure.tight_layout()
    # The same report gives the same file: no random ids, no date.
    with matplotlib.rc_context({"svg.hashsalt": "ec_estimator"}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", metadata=nothing)
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
