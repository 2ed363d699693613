"""A PruningReport as text for a terminal."""
_HEADER = ("layer", "op", "channels", "parameters", "MACs", "bytes", "pruning")
_NUMBERS = (2, 3, 4, 5)


def format_report(report):
    """The report as lines of text."""
    rows = [
        (layer.op, layer.op_type, change(layer.channels), *_cost(layer.cost))
        + (layer.decision,)
        for layer in report.layers
    ]
    rows.append(("other variables", "", "", *_cost(report.others), ""))
    rows.append(("total", "", "", *_cost(report.total), ""))
    left = (f"{change.left:.1%}" for change in _changes(report.total))
    rows.append(("left", "", "", *left, ""))
    lines = [headline(report), "", *_table(_HEADER, rows, _NUMBERS)]
    if report.measurement:
        lines += ["", *_latency(report.measurement)]
    return "\n".join(lines)


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
        *_table(header, rows, range(4)),
        "",
        f"measured by: {measurement.command}",
    ]


def _table(header, rows, right):
    """Lines with aligned columns, those of `right` on the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows)]

    def line(cells):
        return "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(cells, widths))
        ).rstrip()

    return [line(header), "  ".join("-" * width for width in widths), *map(line, rows)]
