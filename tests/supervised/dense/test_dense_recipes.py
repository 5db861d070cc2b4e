"""The papers' numbers, and what follows from them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemel.supervised.dense.recipes import RECIPES, SEGMENTING, departures, resolved


@pytest.mark.parametrize(
    ("name", "kind", "factors"),
    [
        ("twist", "voc", {0: 0.001, 1: 0.01099, 50: 0.5005, 99: 0.99001, 100: 1, 17999: 1, 18000: 0.1, 22000: 0.01}),
        ("barlow_twins", "voc", {0: 0.333, 1: 0.333667, 500: 0.6665, 999: 0.999333, 1000: 1}),
        ("twist", "coco", {0: 0.001, 500: 0.5005, 59999: 1, 60000: 0.1, 80000: 0.01}),
        ("moco-2x", "coco", {119_999: 1, 120_000: 0.1, 160_000: 0.01}),
    ],
)
def test_rates_of_detectors(name: str, kind: str, factors: dict[int, float]) -> None:
    recipe = RECIPES[name][kind]
    assert {step: recipe.rate_factor(step) for step in factors} == pytest.approx(factors, rel=1e-6)


def test_rates_of_segmenters() -> None:
    voc, cityscapes = (SEGMENTING["twist"][kind] for kind in ("voc", "cityscapes"))
    expected = {0: 0.01, 1: 0.009999554, 10_000: 0.005405279, 19_999: 0.000101333}
    assert {step: voc.rate(step) for step in expected} == pytest.approx(expected, abs=1e-9)
    assert cityscapes.rate(39_999) == pytest.approx(0.000100714, abs=1e-9)
    byol = SEGMENTING["byol"]["voc"]
    assert [byol.rate(step) / byol.lr for step in (0, 21_000, 27_000)] == pytest.approx([1, 0.1, 0.01])


def test_numbers_of_the_papers() -> None:
    twist, barlow = RECIPES["twist"], RECIPES["barlow_twins"]
    assert twist["voc"].sizes == (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
    assert twist["coco"].sizes == (640, 672, 704, 736, 768, 800)
    assert (barlow["voc"].lr, barlow["coco"].lr, twist["coco"].lr) == (0.1, 0.03, 0.02)
    assert barlow["voc"].boxes_kept == ((12000, 6000), (2000, 1000))
    assert twist["voc"].boxes_kept == ((2000, 1000), (1000, 1000))


def test_other_steps_move_the_falls() -> None:
    recipe, _ = resolved(RECIPES["twist"]["voc"], {"steps": 240})
    assert (recipe.falls, recipe.warmup) == ((180, 220), 80)
    recipe, words = resolved(RECIPES["twist"]["voc"], {"lr": 0.5, "steps": None})
    assert (recipe.lr, words) == (0.5, "")
    assert departures(recipe, RECIPES["twist"]["voc"]) == ["lr 0.5, published 0.02"]


@given(st.sampled_from([1, 2, 4, 8, 32, 64]))
def test_a_smaller_batch_sees_as_many_images(batch: int) -> None:
    for published in (RECIPES["twist"]["voc"], SEGMENTING["twist"]["voc"]):
        recipe, words = resolved(published, {"batch_size": batch})
        assert recipe.steps * batch == pytest.approx(published.steps * published.batch_size)
        assert recipe.lr / batch == pytest.approx(published.lr / published.batch_size)
        assert words.startswith("batch 16: lr")
        kept, _ = resolved(published, {"batch_size": batch, "lr": 0.3, "steps": 10})
        assert (kept.lr, kept.steps) == (0.3, 10)
