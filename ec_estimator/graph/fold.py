"""Rows of a table that differ in nothing but the numbers in their names, as one."""
import re

import numpy as np

_NUMBER = re.compile(r"\d+")


def fold(rows):
    """Folds alike rows, in the order of each one's first.

    Args:
      rows: [(names, rest)], tuples. Rows are alike if their `rest` is equal, and their
        names are but for numbers.

    Returns:
      [(names, rest, number of rows)]; a number that differs is written as all of its
      values: `block{1..4}/unit_{1,3}`. Each combination of them is a row.
    """
    alike = {}
    for position, (names, rest) in enumerate(rows):
        key = tuple(_NUMBER.sub("#", name) for name in names), rest
        alike.setdefault(key, []).append((position, names))
    folded = [
        (found[0][0], tuple(map(_pattern, zip(*(names for _, names in found)))), rest)
        + (len(found),)
        for (_, rest), members in alike.items()
        for found in _products(members)
    ]
    return [row[1:] for row in sorted(folded, key=lambda row: row[0])]


def _products(members):
    """Splits rows into as few as can be whose numbers are in all combinations.

    Args:
      members: [(position, names)] of alike rows.
    """
    numbers = [_NUMBER.findall(" ".join(names)) for _, names in members]
    # Those that go together, as an op's and its kernel's do, count once.
    columns = {
        tuple(map(list(dict.fromkeys(column)).index, column))
        for column in zip(*numbers)
    }
    varying = sorted(column for column in columns if max(column))
    if np.prod([max(column) + 1 for column in varying]) == len(members):
        return [members]
    ways = []
    for column in varying:
        parts = [
            [member for member, number in zip(members, column) if number == value]
            for value in range(max(column) + 1)
        ]
        ways.append([piece for part in parts for piece in _products(part)])
    return min(ways, key=len)


def _pattern(names):
    """What names that differ in numbers have in common."""
    values = zip(*(_NUMBER.findall(name) for name in names))
    texts = iter([_values(dict.fromkeys(value)) for value in values])
    return _NUMBER.sub(lambda _: next(texts), names[0])


def _values(texts):
    """`7`, `{1..4}` where none in between is missing, else `{1,3,5}`."""
    if len(texts) == 1:
        return next(iter(texts))
    numbers = sorted(map(int, texts))
    in_turn = list(range(numbers[0], numbers[-1] + 1))
    if len(texts) > 2 and sorted(texts, key=int) == list(map(str, in_turn)):
        return f"{{{numbers[0]}..{numbers[-1]}}}"
    return f"{{{','.join(texts)}}}"
