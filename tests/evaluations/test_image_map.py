"""The map of the images: layout, room, levels of zoom, parts of classes, pictures."""

import io
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.manifold import trustworthiness

from gemel.data.picture_sheets import all_sheets, sheet, side_of
from gemel.data.sources import open_source
from gemel.evaluations.features import Seen, Top
from gemel.evaluations.image_map.image_map import map_table
from gemel.evaluations.image_map.layout import layout, main_directions
from gemel.evaluations.image_map.levels import COARSEST, DEEPEST, levels
from gemel.evaluations.image_map.spread import spread
from gemel.evaluations.image_map.subclusters import subclusters
from gemel.metrics.neighbours import nearest

DIGITS = torch.from_numpy(load_digits().data[:600].astype(np.float32))


def laid_out(features: torch.Tensor) -> np.ndarray:
    rows = main_directions(features)
    return layout(rows, nearest(rows, rows, min(15, len(rows) - 1), leave_one_out=True))


def test_the_map_keeps_neighbours_and_is_the_same_again() -> None:
    places = laid_out(DIGITS)
    assert places.min() >= 0 and places.max() <= 1 and np.ptp(places, axis=0).max() == pytest.approx(1)
    assert trustworthiness(DIGITS.numpy(), places, n_neighbors=15, metric="cosine") > 0.94  # of any two axes: 0.75
    np.testing.assert_array_equal(laid_out(DIGITS), places)


def test_directions_keep_the_cosines() -> None:
    wide = torch.randn(50, 20, generator=torch.Generator().manual_seed(0)) @ torch.randn(20, 300)
    kept = torch.nn.functional.normalize(main_directions(wide), dim=1)
    rows = torch.nn.functional.normalize(wide, dim=1)
    torch.testing.assert_close(kept @ kept.T, rows @ rows.T, atol=1e-4, rtol=0)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 20])
@pytest.mark.parametrize("alike", [False, True])
def test_few_images_and_images_that_are_equal(count: int, alike: bool) -> None:
    features = torch.ones(count, 8) if alike else DIGITS[:count]
    seen = Seen(open_source("digits"), np.arange(count), features, None, {})
    table = map_table(seen)
    places = np.stack([table["x"].to_numpy(), table["y"].to_numpy()], 1)
    assert np.isfinite(places).all() and len(np.unique(places, axis=0)) == count
    assert all(len(near) == min(8, count - 1) for near in table["neighbours"].to_pylist())


def test_landmarks_stand_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gemel.evaluations.image_map.layout.LANDMARKS", 300)
    places = laid_out(DIGITS)
    assert trustworthiness(DIGITS.numpy(), places, n_neighbors=15, metric="cosine") > 0.9


@settings(max_examples=15)
@given(st.integers(2, 300), st.integers(0, 2**32 - 1), st.floats(0.001, 1))
def test_room_and_levels(count: int, seed: int, heap: float) -> None:
    drawn = np.random.default_rng(seed).normal(0.5, heap, (count, 2)).astype(np.float32)
    places = spread(drawn)
    assert places.min() >= 0 and places.max() <= 1
    found = levels(places)
    assert (found <= DEEPEST).all()
    for level in range(0, DEEPEST, 3):
        shown = places[found <= level].astype(np.float64)
        apart = np.abs(shown[:, None] - shown[None]).max(2) + 9 * np.eye(len(shown))
        side = int(COARSEST * 2 ** (level / 2))
        assert (apart * side >= 1 - 1e-4).all(), "no picture covers another"
    first = levels(places[::-1])
    assert first[0] == 0, "those that come first show first"


def test_equal_places_move_apart() -> None:
    moved = spread(np.full((50, 2), 0.5, np.float32))
    distances = np.linalg.norm(moved[:, None] - moved[None], axis=2) + 9 * np.eye(50)
    assert distances.min() > 0.02


def test_room_costs_memory_by_the_image() -> None:
    """At first discs are small, and there are a thousand times as many cells as images."""
    places = np.random.default_rng(0).random((5000, 2), dtype=np.float32)
    spread(places)  # what is compiled stays
    tracemalloc.start()
    spread(places)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 200 * len(places)


def test_a_class_falls_into_its_halves() -> None:
    random = np.random.default_rng(0)
    centres = np.array([[0.0, 0], [0, 1], [9, 0], [9, 9]])[random.permutation(np.repeat(np.arange(4), [9, 9, 8, 8]))]
    rows = torch.from_numpy((centres + random.normal(0, 0.05, centres.shape)).astype(np.float32))
    parts = subclusters(rows, np.zeros(len(rows), np.int32))
    assert len({(part, *centre) for part, centre in zip(parts.tolist(), centres.tolist(), strict=True)}) == 4
    low = parts & 1
    assert len(set(low[centres[:, 0] == 0])) == 1 or len(set(low[centres[:, 1] == 9])) == 1, "the wide gap comes first"
    assert subclusters(rows[:5], np.zeros(5, np.int32)).tolist() == [0] * 5


def test_pictures_stand_where_the_page_looks_for_them() -> None:
    source = open_source("digits")
    side = side_of(source, len(source))
    assert side == 8, "small images are not enlarged"
    indices = np.arange(300)
    made = all_sheets(source, indices, side, 10**9)
    assert made.kind == "png" and len(made.sheets) == 2
    for row in (0, 17, 255, 299):
        with Image.open(io.BytesIO(made.sheets[row // 256])) as opened:
            place = row % 256
            box = (place % 16 * 8, place // 16 * 8, place % 16 * 8 + 8, place // 16 * 8 + 8)
            pixels = np.asarray(opened.convert("RGB").crop(box))
        np.testing.assert_array_equal(pixels[..., 0], source.read(row))


def test_wide_images_lie_in_the_middle_and_the_budget_is_kept() -> None:
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (30, 120, 3), np.uint8) for _ in range(300)]
    source = open_source(images)
    assert side_of(source, 5000) == 64 and side_of(source, 50_000) == 40
    with Image.open(io.BytesIO(sheet(source, [0], 64))) as opened:
        alpha = np.asarray(opened.convert("RGBA"))[..., 3]
    assert alpha.shape == (64, 1024) and (alpha[24:40, :64] == 255).all() and (alpha[:, 64:] == 0).all()
    assert (alpha[:24] == 0).all() and (alpha[40:] == 0).all()
    whole = sum(map(len, all_sheets(source, np.arange(300), 64, 10**9).sheets))
    less = sum(map(len, all_sheets(source, np.arange(300), 64, whole * 2 // 3).sheets))
    assert less <= whole * 2 // 3


def test_the_table_of_the_map() -> None:
    source = open_source("digits")
    probability, classes = torch.softmax(DIGITS[:, :10], 1).topk(8, 1)
    top = Top(probability, classes.int(), 10)
    seen = Seen(source, np.arange(600), DIGITS, top, {})
    table = map_table(seen)
    index = table["index"].to_numpy()
    assert sorted(index.tolist()) == list(range(600))
    assert table["path"].to_pylist()[5] == source.path(int(index[5]))
    assert source.labels is not None
    assert table["label"].to_pylist() == [source.label_names[source.labels[one]] for one in index.tolist()]
    assert (np.diff(table["level"].to_numpy().astype(int)) >= 0).all()
    found = np.stack(table["class"].to_pylist())
    np.testing.assert_array_equal(found, classes.numpy()[index])
    similarity, near = nearest(DIGITS, DIGITS, 8, leave_one_out=True)
    row = 77
    assert set(index[table["neighbours"].to_pylist()[row]]) == set(near[index[row]].tolist())
    np.testing.assert_allclose(table["similarity"].to_pylist()[row], similarity[index[row]].numpy(), atol=1e-5)
    assert table.schema.metadata == {b"images": b"600", b"classes": b"10"}
