"""Checks on planted tables: a trend, its contrary, and too little to tell."""

import pytest

from gemel.studies.checks import (
    NOT_TESTABLE,
    Check,
    Row,
    above,
    alike,
    below,
    best_of_groups,
    order,
    rising,
    steeper,
    times,
)

GROWING = {"a": [0.1, 0.12, 0.11], "b": [0.5, 0.52, 0.48], "c": [0.9, 0.91, 0.92]}


def rows(values: dict[str, list[float]], line: str = "") -> list[Row]:
    return [Row(name, line, float(place), {"acc": found}) for place, (name, found) in enumerate(values.items())]


ABOVE = order("acc", "c", "b", "a")
UNDER = below("acc", "a", ["b", "c"])
MORE = times("acc", "c", 3, "a")
NEAR = alike("acc", [], 0.1)
RISING = rising("acc")


@pytest.mark.parametrize("check", [ABOVE, UNDER, MORE, RISING], ids=lambda check: check.words)
def test_a_planted_trend_passes_and_its_contrary_fails(check: Check) -> None:
    assert check.judge(rows(GROWING)).word == "pass"
    falling = dict(zip(GROWING, reversed(GROWING.values()), strict=True))
    assert check.judge(rows(falling)).word == "fail"


@pytest.mark.parametrize("check", [ABOVE, UNDER, RISING], ids=lambda check: check.words)
def test_a_difference_within_the_error_is_no_trend(check: Check) -> None:
    noisy = {"a": [0.1, 0.9, 0.5], "b": [0.2, 0.8, 0.51], "c": [0.3, 0.7, 0.52]}
    assert check.judge(rows(noisy)).word == "fail"


def test_rising_forgives_a_fall_within_the_error_and_nothing_more() -> None:
    dip = GROWING | {"b": [0.7, 0.9, 0.8], "c": [0.75, 0.85, 0.7]}
    assert RISING.judge(rows(dip)).word == "pass"
    fall = GROWING | {"b": [0.95, 0.96, 0.97], "c": [0.75, 0.76, 0.77]}
    finding = RISING.judge(rows(fall))
    assert finding.word == "fail"
    assert "falls from 0.96 (b) to 0.76 (c)" in finding.reason


def test_rising_follows_the_axis_and_its_own_line_only() -> None:
    falling = dict(zip("def", reversed(GROWING.values()), strict=True))
    shuffled = [*reversed(rows(GROWING, "ours")), *rows(falling, "no")]
    assert rising("acc", "ours").judge(shuffled).word == "pass"
    assert rising("acc", "no").judge(shuffled).word == "fail"
    assert rising("acc", "none").judge(shuffled).word == NOT_TESTABLE


def test_steeper_compares_the_rise_of_two_lines() -> None:
    slow = {"d": [0.5, 0.51], "e": [0.2, 0.9], "f": [0.6, 0.61]}
    table = [*rows(GROWING, "fast"), *rows(slow, "slow")]
    assert steeper("acc", "fast", "slow").judge(table).word == "pass"
    finding = steeper("acc", "slow", "fast").judge(table)
    assert finding.word == "fail"
    assert finding.reason.startswith("slow rises by 0.1 ± ")
    noisy = {"d": [0.1, 0.9], "e": [0.2, 0.2], "f": [0.1, 1.3]}
    assert steeper("acc", "fast", "noisy").judge([*rows(GROWING, "fast"), *rows(noisy, "noisy")]).word == "fail"
    assert steeper("acc", "fast", "none").judge(table).word == NOT_TESTABLE


def test_alike() -> None:
    assert NEAR.judge(rows(GROWING)).word == "fail"
    assert alike("acc", ["a", "b"], 0.5).judge(rows(GROWING)).word == "pass"


@pytest.mark.parametrize("check", [ABOVE, UNDER, MORE, NEAR, RISING], ids=lambda check: check.words)
def test_one_seed_tells_no_trend(check: Check) -> None:
    finding = check.judge(rows({name: found[:1] for name, found in GROWING.items()}))
    assert finding.word == NOT_TESTABLE
    assert "one seed" in finding.reason
    missing = check.judge(rows(GROWING | {"c": []}))
    assert missing.word == NOT_TESTABLE
    assert "c has no acc" in missing.reason


def test_of_a_group_the_best_row_stands() -> None:
    grouped = [row._replace(group="both") if row.name != "c" else row for row in rows(GROWING)]
    empty = Row("d", "", None, {"acc": []}, "both")
    assert {name: row.name for name, row in best_of_groups([*grouped, empty], "acc").items()} == {"both": "b", "c": "c"}
    assert best_of_groups(rows(GROWING), "").keys() == GROWING.keys()
    assert best_of_groups([empty], "acc") == {"both": empty}


def test_one_column_above_another_in_every_row() -> None:
    table = [Row(name, "", None, {"high": [0.8, 0.9], "low": [0.1, 0.2]}) for name in "ab"]
    assert above("high", "low").judge(table).word == "pass"
    assert above("low", "high").judge(table).word == "fail"
    assert above("high", "low").judge([*table, Row("c", "", None, {"high": [0.8], "low": [0.1]})]).word == NOT_TESTABLE
