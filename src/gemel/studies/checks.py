"""Checks of a study's table: pure functions of the table that answer pass, fail or "trend not testable".

A difference counts where it is larger than the standard error of the two means, √(s² + s'²). One seed has no error, so
no trend can be tested with it.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import hypot
from typing import Literal, NamedTuple

from gemel.metrics.spread import Spread, spread_of
from gemel.reports.formatting import number

NOT_TESTABLE = "trend not testable"
Word = Literal["pass", "fail", "trend not testable"]


class Row(NamedTuple):
    """A variation's results: by column one value for each seed."""

    name: str
    line: str
    x: float | None
    values: Mapping[str, Sequence[float]]
    group: str = ""
    curves: Mapping[str, Mapping[int, Sequence[float]]] = {}
    """by name and epoch one value for each seed"""


class Finding(NamedTuple):
    """The answer to a check, and why."""

    word: Word
    reason: str


class Check(NamedTuple):
    """The expected result, in words, and the function that checks it."""

    words: str
    judge: Callable[[Sequence[Row]], Finding]


class _Untestable(Exception):
    """Too few runs."""


def best_of_groups(rows: Sequence[Row], column: str) -> dict[str, Row]:
    """Return of each group the row with the highest mean in a column, by the group's name; other rows by their own."""
    best: dict[str, Row] = {}
    for row in rows:
        name = row.group or row.name
        if name not in best or _height(row, column) > _height(best[name], column):
            best[name] = row
    return best


def order(column: str, *names: str) -> Check:
    """Return a check that each of these variations is above the next one by more than the error."""

    def judge(rows: Sequence[Row]) -> Finding:
        means = [(name, _mean(rows, name, column)) for name in names]
        return _all_above(list(pairwise(means)))

    return Check(f"{column}: {' > '.join(names)}", _testable(judge))


def below(column: str, name: str, others: Sequence[str]) -> Check:
    """Return a check that a variation is below each of the others by more than the error."""

    def judge(rows: Sequence[Row]) -> Finding:
        low = (name, _mean(rows, name, column))
        return _all_above([((other, _mean(rows, other, column)), low) for other in others])

    return Check(f"{column}: {name} < {', '.join(others)}", _testable(judge))


def above(column: str, other: str) -> Check:
    """Return a check that in every variation the mean of one column is above that of another by more than the error."""

    def judge(rows: Sequence[Row]) -> Finding:
        pairs = [[(f"{row.name} {name}", _mean(rows, row.name, name)) for name in (column, other)] for row in rows]
        return _all_above([(high, low) for high, low in pairs])

    return Check(f"{column} > {other}", _testable(judge))


def times(column: str, name: str, factor: float, other: str) -> Check:
    """Return a check that the mean of one variation is more than so many times that of another."""

    def judge(rows: Sequence[Row]) -> Finding:
        one, two = _mean(rows, name, column).mean, _mean(rows, other, column).mean
        return Finding("pass" if one > factor * two else "fail", f"{number(one)} against {number(factor * two)}")

    return Check(f"{column}: {name} > {factor:g} × {other}", _testable(judge))


def alike(column: str, names: Sequence[str], within: float) -> Check:
    """Return a check that the means of these variations lie within a distance; no names: of all."""

    def judge(rows: Sequence[Row]) -> Finding:
        means = [_mean(rows, name, column).mean for name in names or [row.name for row in rows]]
        distance = max(means) - min(means)
        return Finding("pass" if distance < within else "fail", f"{number(distance)} between lowest and highest")

    return Check(f"{column}: {', '.join(names) or 'all'} within {within:g}", _testable(judge))


def rising(column: str, line: str = "") -> Check:
    """Return a check that no mean of a line falls by more than the error, and the last is above the first."""

    def judge(rows: Sequence[Row]) -> Finding:
        along = sorted((row.x, row.name) for row in rows if row.line == line and row.x is not None)
        means = [(name, _mean(rows, name, column)) for _, name in along]
        if len(means) < 2:
            raise _Untestable("fewer than two points on the axis")
        for (before, one), (after, two) in pairwise(means):
            if one.mean - two.mean > _error(one, two):
                return Finding("fail", f"falls from {number(one.mean)} ({before}) to {number(two.mean)} ({after})")
        return _all_above([(means[-1], means[0])])

    return Check(f"{column}{f' of {line}' if line else ''} rises along the axis", _testable(judge))


def steeper(column: str, line: str, other: str) -> Check:
    """Return a check that from end to end of the axis one line rises more than another, by more than the error."""

    def judge(rows: Sequence[Row]) -> Finding:
        (one, one_error), (two, two_error) = (_rise(rows, column, name) for name in (line, other))
        told = f"{line} rises by {number(one)} ± {number(one_error)}, {other} by {number(two)} ± {number(two_error)}"
        return Finding("pass" if one - two > hypot(one_error, two_error) else "fail", told)

    return Check(f"{column}: {line} rises more along the axis than {other}", _testable(judge))


def _testable(judge: Callable[[Sequence[Row]], Finding]) -> Callable[[Sequence[Row]], Finding]:
    def judged(rows: Sequence[Row]) -> Finding:
        try:
            return judge(rows)
        except _Untestable as reason:
            return Finding(NOT_TESTABLE, str(reason))

    return judged


def _mean(rows: Sequence[Row], name: str, column: str) -> Spread:
    values = next((row.values.get(column, ()) for row in rows if row.name == name), ())
    if len(values) < 2:
        raise _Untestable(f"{name} has {'one seed' if values else f'no {column}'}")
    return spread_of(values)


def _rise(rows: Sequence[Row], column: str, line: str) -> tuple[float, float]:
    """Return how far a line's last mean is above its first one, and the error of that."""
    along = sorted((row.x, row.name) for row in rows if row.line == line and row.x is not None)
    if len(along) < 2:
        raise _Untestable(f"{line} has fewer than two points on the axis")
    first, last = (_mean(rows, along[place][1], column) for place in (0, -1))
    return last.mean - first.mean, _error(first, last)


def _height(row: Row, column: str) -> float:
    values = row.values.get(column, ())
    return spread_of(values).mean if values else float("-inf")


def _error(one: Spread, two: Spread) -> float:
    return hypot(one.error or 0.0, two.error or 0.0)


def _all_above(pairs: Sequence[tuple[tuple[str, Spread], tuple[str, Spread]]]) -> Finding:
    told: list[str] = []
    for (high, one), (low, two) in pairs:
        difference, error = one.mean - two.mean, _error(one, two)
        told.append(f"{high} − {low} = {number(difference)} ± {number(error)}")
        if difference <= error:
            return Finding("fail", told[-1])
    return Finding("pass", ", ".join(told))
