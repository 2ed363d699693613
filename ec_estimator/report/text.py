"""Reports as text for a terminal."""
from ec_estimator.core.columns import columns
from ec_estimator.report.data import Change

_HEADER = ("layer", "op", "channels", "parameters", "MACs", "bytes", "pruning")
_NUMBERS = (2, 3, 4, 5)


def format_report(report, compressors=(), outcome=None):
    """The report as lines of text.

    Args:
      report: data.PruningReport, or None.
      compressors: [run.CompressorReport].
      outcome: run.Outcome, or None.
    """
    parts = [_pruning(report)] if report else []
    for made in compressors:
        parts.append(_section(title(made), made.layers, made.totals))
        if made.left_alone:
            reasons = made.left_alone.items()
            parts.append([f"left alone: {op}: {reason}" for op, reason in reasons])
    if report and report.measurement:
        parts.append(_latency(report.measurement))
    if outcome:
        parts.append(_ending(outcome.evaluation, outcome.next))
    return "\n\n".join("\n".join(part) for part in parts if part)


def format_summary(content):
    """The content of summary.json as lines of text."""
    parts = []
    for name, made in content.items():
        if isinstance(made, dict) and "layers" in made:
            heading = name.replace("_", " ")
            if "trial" in made:
                heading += f": trial {made['trial']} of {made['num_trials']}"
            parts.append(_section(heading, made["layers"], made["totals"]))
    parts.append(_ending(content.get("evaluation"), content["next"]))
    return "\n\n".join("\n".join(part) for part in parts if part)


def evaluation_line(metrics):
    """{metric: value} of an evaluation, in a line."""
    step = metrics.get("global_step")
    values = [
        f"{name} {value:.6g}"
        for name, value in metrics.items()
        if name != "global_step"
    ]
    when = "" if step is None else f" at step {step}"
    return f"evaluation{when}: {', '.join(values)}"


def _ending(evaluation, command):
    lines = [evaluation_line(evaluation)] if evaluation else []
    return lines + ([f"next: {command}"] if command else [])


def table(layers):
    """Rows of a core.report.Report as (column names, rows of cells, indices of the
    columns that hold numbers)."""
    columns = list(dict.fromkeys(name for row in layers for name in row))
    values = [[row.get(name) for name in columns] for row in layers]
    numbers = [
        index
        for index, column in enumerate(zip(*values))
        if not any(isinstance(value, str) for value in column)
    ]
    names = [name.replace("_", " ") for name in columns]
    return names, [[cell(value) for value in row] for row in values], numbers


def totals_line(totals):
    """The totals of a core.report.Report, in a line."""
    return ", ".join(
        f"{name.replace('_', ' ')} {cell(value)}" for name, value in totals.items()
    )


def cell(value):
    """A value of a core.report.Report for a table."""
    if value is None:
        return ""
    if isinstance(value, dict):
        return change(Change(**value))
    if isinstance(value, list):
        return " .. ".join(map(cell, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else f"{value:,}"


def _section(heading, layers, totals):
    lines = [heading]
    if layers:
        lines += ["", *columns(*table(layers))]
    if totals:
        lines += ["", f"in all: {totals_line(totals)}"]
    return lines


def _pruning(report):
    rows = [
        (layer.op, layer.op_type, change(layer.channels), *_cost(layer.cost))
        + (decision(layer),)
        for layer in report.layers
    ]
    rows.append(("other variables", "", "", *_cost(report.others), ""))
    rows.append(("total", "", "", *_cost(report.total), ""))
    left = (f"{change.left:.1%}" for change in _changes(report.total))
    rows.append(("left", "", "", *left, ""))
    return [headline(report), "", *columns(_HEADER, rows, _NUMBERS)]


def decision(layer):
    """What was decided about a data.LayerReport, and whether it is cut to the bone."""
    return f"{layer.decision}, to the minimum" if layer.at_minimum else layer.decision


def title(made):
    """Which compressor a run.CompressorReport is of, in a line."""
    return f"{made.compressor}: trial {made.trial} of {made.num_trials}"


def headline(report):
    """Which network it is, in a line."""
    return (
        f"pruned at step {report.step}, after trial {report.trials} of "
        f"{report.num_trials}: {report.checkpoint}"
    )


def change(counts):
    """A data.Change, or None, for a table."""
    if counts is None:
        return "?"
    if counts.before == counts.after:
        return f"{counts.before:,}"
    return f"{counts.before:,} -> {counts.after:,}"


def conditions(measurement):
    """What latencies were measured with, in a line."""
    return (
        f"median of {measurement.runs} runs in turns, TensorFlow "
        f"{measurement.tensorflow}, {measurement.cpus} CPUs"
    )


def _changes(cost):
    return cost.params, cost.macs, cost.bytes


def _cost(cost):
    return [change(counts) for counts in _changes(cost)]


def _latency(measurement):
    rows = [
        (str(row.batch_size), f"{row.before:.2f} ms", f"{row.after:.2f} ms")
        + (f"{row.before / row.after:.2f} x",)
        for row in measurement.latencies
    ]
    header = ("batch", "whole", "small", "speed")
    return [
        f"latency of a batch, {conditions(measurement)}",
        "",
        *columns(header, rows, range(4)),
        "",
        f"measured by: {measurement.command}",
    ]
