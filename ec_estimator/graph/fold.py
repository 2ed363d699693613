"""Rows of a table that differ in nothing but the numbers in their names, as one."""
import re

_NUMBER = re.compile(r"\d+")


def fold(rows):
    """Folds alike rows, in the order of each one's first.

    Args:
      rows: [(names, rest)], tuples. Rows are alike if their `rest` is equal, and their
        names are but for numbers.

    Returns:
      [(names, rest, number of rows)]; a number that differs is written as all of its
      values: `block{1..4}/unit_{1,3}`.
    """
    alike = {}
    for names, rest in rows:
        key = tuple(_NUMBER.sub("#", name) for name in names), rest
        alike.setdefault(key, []).append(names)
    return [
        (tuple(map(_pattern, zip(*found))), rest, len(found))
        for (_, rest), found in alike.items()
    ]


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
