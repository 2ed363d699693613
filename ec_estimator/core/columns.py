"""Tables for a terminal."""


def columns(header, rows, right=(), width=None):
    """Lines with aligned columns.

    Args:
      header, rows: tuples of cells, which are text.
      right: indices of the columns that are aligned on the right.
      width: the longest line in characters, for which the widest cells take several
        lines; None: as long as the cells need.
    """
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    while width and sum(widths) + 2 * len(widths) - 2 > width and max(widths) > 8:
        widths[widths.index(max(widths))] -= 1

    def lines(cells):
        folded = [list(_pieces(cell, size)) for cell, size in zip(cells, widths)]
        for row in range(max(map(len, folded))):
            yield "  ".join(
                _aligned(pieces[row] if row < len(pieces) else "", size, index in right)
                for index, (pieces, size) in enumerate(zip(folded, widths))
            ).rstrip()

    rule = "  ".join("-" * size for size in widths)
    return [*lines(header), rule, *(line for row in rows for line in lines(row))]


def _aligned(piece, size, right):
    return piece.rjust(size) if right else piece.ljust(size)


def _pieces(cell, size):
    """The cell in pieces of at most `size` letters, cut after a space or slash."""
    while len(cell) > size:
        cut = max(cell.rfind(" ", 0, size), cell.rfind("/", 0, size)) + 1 or size
        yield cell[:cut].rstrip()
        cell = cell[cut:]
    yield cell
