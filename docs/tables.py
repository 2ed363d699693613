"""Tables in Markdown."""


def table(header, rows):
    """Lines of a table; header, rows: lists of cells, which are text."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
