import subprocess
import sys
from math import exp, nan
from typing import Any

import numpy as np
import pytest

from gemel.metrics.health import ADVICE, Finding, health

STEPS = 50
WELL = {
    "embedding_std": 0.83, "rankme": 123.4, "rankme_limit": 512, "classes_used": 10, "classes": 10,
    "class_entropy": 9.8, "agreement": 0.92, "class_agreement": 0.95, "knn": 0.981, "acc": 0.97, "nmi": 0.94,
}  # fmt: skip


def columns(first: float = 0.0, **last: float | None) -> dict[str, list[float | None]]:
    """Two measurements, of which the first is worthless, and null between; the loss falls from 0 to -2."""
    table: dict[str, list[float | None]] = {"loss": [-2 * step / STEPS for step in range(STEPS)]}
    for name, value in (WELL | last).items():
        table[name] = [first] + [None] * (STEPS - 3) + [value, None]
    table |= {name: [value] * STEPS for name, value in last.items() if name == "loss"}
    return table


def only(found: list[Finding]) -> Finding:
    assert len(found) == 1, found
    assert found[0].message[0].isupper()
    assert (found[0].level == "good") == (not found[0].advice)
    return found[0]


def test_a_healthy_run() -> None:
    finding = only(health(columns(classes_per_image=1.3)))
    assert finding.level == "good"
    for number in (
        "0.83 of 1",
        "123 of 512",
        "10 of 10 classes",
        "9.8",
        "of one image 1.3",
        "92%",
        "95%",
        "0.981",
        "0.970",
        "0.940",
    ):
        assert number in finding.message
    assert "from -0.08 to -1.88" in finding.message


@pytest.mark.parametrize(
    ("last", "level", "words"),
    [
        ({"embedding_std": 0.04}, "bad", ["nearly the same", "0.04"]),
        ({"rankme": 1.3}, "bad", ["on a line", "1.3 of 512"]),
        ({"rankme": 4.0}, "warning", ["few of their dimensions", "4 of 512"]),
        ({"classes_used": 1, "class_entropy": 1.02}, "bad", ["All images land in 1 of 10", "1.02"]),
        ({"classes_used": 2, "class_entropy": 1.2}, "bad", ["Almost all images land in 1 of 10", "1.2"]),
        ({"classes_used": 3, "class_entropy": 2.9}, "warning", ["Only 3 of 10", "2.9"]),
        ({"classes_per_image": 9.9, "first": 9.9}, "bad", ["nearly the same probability for each of 10", "9.9"]),
        ({"agreement": 0.004}, "warning", ["hardly find each other", "0.4%"]),
        ({"agreement": 0.004, "pairs": 256}, "warning", ["hardly find each other", "chance is 0.4%"]),
        ({"rankme": nan}, "bad", ["rankme is not finite", "diverged"]),
        ({"knn": nan, "agreement": nan}, "bad", ["agreement, knn are not finite"]),
    ],
)
def test_one_thing_is_wrong(last: dict[str, float], level: str, words: list[str]) -> None:
    finding = only(health(columns(**last)))
    assert finding.level == level
    for word in words:
        assert word in finding.message


def test_uniform_collapse_of_many_classes() -> None:
    """Without TWIST's sharpness 4,096 classes end at an entropy of 8.27 of at most 8.32."""
    last = {"first": exp(8.27), "classes_per_image": exp(8.27), "classes": 4096, "classes_used": 1}
    assert "4096 classes (effective number of classes of one image 3.9e+03)" in only(health(columns(**last))).message
    assert only(health(columns(**(last | {"classes_per_image": 4.5, "classes_used": 4000})))).level == "good"


def test_one_uniform_probe_is_no_collapse() -> None:
    """The first probe of a run sees batch norms that have followed few steps."""
    assert only(health(columns(classes_per_image=9.99, first=3.0))).level == "good"
    table = columns() | {"classes_per_image": [None, 9.99, None]}
    assert only(health(table)).level == "good"


def test_a_methods_own_advice_goes_before_the_general_one() -> None:
    collapsed = columns(classes_used=1, class_entropy=1.02)
    assert only(health(collapsed)).advice == ADVICE["one_class"]
    assert only(health(collapsed, {"one_class": "raise --method.beta"})).advice == "raise --method.beta"
    assert only(health(collapsed, {"few_classes": "raise --method.beta"})).advice == ADVICE["one_class"]


def test_general_advice_names_no_methods_option() -> None:
    assert not [advice for advice in ADVICE.values() if "--method" in advice or "--classes" in advice]


@pytest.mark.parametrize("value", [nan, float("inf")])
@pytest.mark.parametrize("row", [0, 20, STEPS - 1])
def test_a_loss_that_is_not_finite(value: float, row: int) -> None:
    table = columns()
    table["loss"][row] = value
    finding = only(health(table))
    assert finding.level == "bad"
    assert f"first in row {row + 1}" in finding.message


def test_a_loss_that_does_not_fall() -> None:
    finding = only(health(columns() | {"loss": [0.5] * STEPS}))
    assert finding.level == "warning"
    assert "0.5 in the first tenth" in finding.message
    few: list[float | None] = [0.5] * 5
    assert only(health({"loss": few})).level == "good"


def test_only_the_longest_stage_has_to_fall() -> None:
    table: dict[str, list[Any]] = {"loss": [-step / 40 for step in range(40)] + [3.0] * 10}
    stages: dict[str, list[Any]] = {"stage": ["train"] * 40 + ["self_labeling"] * 10}
    assert only(health(table | stages)).level == "good"
    assert only(health(table)).level == "warning"


def test_worst_first() -> None:
    found = health(columns(agreement=0.001, embedding_std=0.01, classes_used=3))
    assert [finding.level for finding in found] == ["bad", "warning", "warning"]


def test_few_images_cannot_use_many_classes() -> None:
    many = {"classes": 4096, "classes_used": 800}
    assert only(health(columns(**many))).level == "warning"
    assert only(health(columns(**many, probe_images=1024))).level == "good"
    assert only(health(columns(**{**many, "classes_used": 300}, probe_images=1024))).level == "warning"


def test_few_classes_need_few_dimensions() -> None:
    assert only(health(columns(rankme=9.0))).level == "good"
    without_classes = {name: values for name, values in columns(rankme=9.0).items() if "class" not in name}
    assert only(health(without_classes)).level == "warning"


def test_methods_without_classes_or_probes() -> None:
    assert only(health({"loss": list(np.linspace(9, 1, 30)), "invariance": [1.0] * 30})).level == "good"
    assert only(health(columns(classes=1, classes_used=1, class_entropy=1.0))).level == "good"
    assert only(health(columns(rankme=1.0, rankme_limit=2))).level == "good"


@pytest.mark.parametrize("table", [{}, {"loss": []}, {"loss": [None, None]}])
def test_nothing_was_logged(table: dict[str, list[float | None]]) -> None:
    finding = only(health(table))
    assert finding.level == "warning"
    assert "No loss" in finding.message


def test_without_torch() -> None:
    program = "import sys, gemel.metrics.health; assert not {'torch', 'scipy', 'sklearn'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", program], check=True)
