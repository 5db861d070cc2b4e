"""Views with boxes and with label maps: what is shown stays where it is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dense_layouts as layouts
from gemel.data.dense.box_views import BoxView, draw_view, put, resized_sides, show
from gemel.data.dense.digit_scenes import objects_of
from gemel.data.dense.label_views import bilinear, distorted, fitted_sides, planes_of, view_of
from gemel.data.dense.objects import nearest

SCENES = objects_of(True, 0)


@given(st.integers(20, 900), st.integers(20, 900), st.integers(32, 800))
def test_sides(height: int, width: int, shorter: int) -> None:
    new = resized_sides((height, width), shorter, 1333)
    assert max(new) <= 1333
    assert min(new) == shorter or max(new) >= 1332
    assert new[0] / new[1] == pytest.approx(height / width, rel=2 / min(new))


@given(st.integers(0, 50), st.sampled_from([(96, 96), (64, 64), (150, 120)]), st.booleans())
def test_boxes_follow_the_pixels(index: int, sides: tuple[int, int], flip: bool) -> None:
    view = BoxView(*sides, flip)
    shown = show(SCENES, index, view, masks=True)
    assert put(SCENES.images.read(index), view).shape == (3, *sides)  # pyright: ignore
    assert len(shown.boxes) == len(SCENES.rows(index))
    assert shown.masks is not None
    for box, mask in zip(shown.boxes, shown.masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        assert np.abs(box - found).max() <= 2
        assert box[0] >= 0
        assert box[2] <= sides[1]


def test_a_flip_is_its_own_inverse() -> None:
    image = layouts.scene(1).image
    plain, turned = (put(image, BoxView(50, 60, flip)) for flip in (False, True))
    assert (plain == turned[:, :, ::-1]).all()


def test_draws_are_functions_of_their_numbers() -> None:
    draws = {
        (epoch, index): draw_view((64, 80, 96), 1333, (100, 90), seed=3, epoch=epoch, index=index)
        for epoch in range(4)
        for index in range(20)
    }
    again = draw_view((64, 80, 96), 1333, (100, 90), seed=3, epoch=2, index=7)
    assert draws[2, 7] == again
    assert {min(one[:2]) for one in draws.values()} == {64, 80, 96}
    assert 20 < sum(one.flip for one in draws.values()) < 60


@given(st.integers(30, 200), st.integers(30, 200), st.integers(0, 1000))
def test_label_views(height: int, width: int, index: int) -> None:
    labels = np.zeros((height, width), np.uint8)
    labels[:, width // 2 :] = 1
    image = np.where(labels == 1, 250, 5).astype(np.uint8)
    view = view_of(image, labels, box=None, crop=64, seed=0, epoch=0, index=index)
    assert view.image.shape[1:] == view.labels.shape
    assert max(view.labels.shape) <= 64
    bright = view.image.astype(int).mean(0) > 80  # distorted, 5 is at most (5 + 32) · 1.5, 250 at least (250 - 32) / 2
    assert (bright == (view.labels == 1)).mean() > 0.9  # all but what is between the two
    again = view_of(image, labels, box=None, crop=64, seed=0, epoch=0, index=index)
    assert (again.image == view.image).all()


def test_a_crop_of_one_class_is_drawn_again() -> None:
    labels = np.zeros((300, 300), np.uint8)
    labels[:120, :120] = 1
    image = np.zeros((300, 300, 3), np.uint8)
    seen = [view_of(image, labels, box=None, crop=64, seed=0, epoch=0, index=index).labels for index in range(60)]
    mixed = np.mean([0.25 < one.mean() < 0.75 for one in seen])
    assert mixed > 0.5  # of single draws a sixth


def test_bilinear_has_no_antialias() -> None:
    """At half the size two weights: the mean of the two pixels in the middle, whatever the others are."""
    row = np.array([0, 100, 200, 0, 60, 80, 10, 30], np.uint8)
    image = np.broadcast_to(row, (1, 8, 8))
    assert bilinear(np.ascontiguousarray(image), (8, 4))[0, 0].tolist() == [50, 100, 70, 20]
    quarter = bilinear(np.ascontiguousarray(image), (8, 2))[0, 0].tolist()
    assert quarter == [150, 45]  # of pixels 1 and 2, of 5 and 6: antialiasing would take in all four


def test_fitting() -> None:
    assert fitted_sides((375, 500), (2048, 512), 0.5) == (256, 341)
    assert fitted_sides((1024, 2048), (2049, 1025)) == (1025, 2049)
    assert fitted_sides((100, 1000), (2048, 512)) == (205, 2048)


def test_distortion_keeps_grey_grey_and_the_mean_near() -> None:
    grey = planes_of(np.full((8, 8), 120, np.uint8))
    colours = layouts.scene(2, 32).image
    changed = 0
    for index in range(40):
        out = distorted(grey, np.random.default_rng(index))
        assert (out[0] == out[1]).all()
        assert (out[1] == out[2]).all()
        assert 28 <= int(out[0, 0, 0]) <= 228
        changed += bool((distorted(planes_of(colours), np.random.default_rng(index)) != planes_of(colours)).any())
    assert changed >= 35  # of 40; one in sixteen stays


def test_nearest_is_opencvs() -> None:
    assert nearest(np.arange(5)[None], (1, 3)).tolist() == [[0, 1, 3]]
    assert nearest(np.arange(3)[None], (1, 5)).tolist() == [[0, 0, 1, 1, 2]]
