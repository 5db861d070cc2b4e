"""Draws are pure functions with the distributions of their definitions; pixels follow the draw."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter, ImageOps
from sklearn.datasets import load_digits, load_sample_images
from torchvision.transforms import functional

import gemel
from gemel.data.augment import apply, center
from gemel.data.views import GlyphDraw, PhotoDraw, draw, order
from gemel.recipes import VIEWS, GlyphViews, PhotoViews

PHOTO = np.ascontiguousarray(load_sample_images().images[0][100:300, 100:400])
DRAWS = 4000


def photo_draws(views: PhotoViews, view: int, *, height: int = 200, width: int = 300) -> list[PhotoDraw]:
    found = [
        draw(views, seed=0, epoch=0, index=index, view=view, height=height, width=width, size=64)
        for index in range(DRAWS)
    ]
    return [one for one in found if isinstance(one, PhotoDraw)]


@pytest.mark.parametrize("name", VIEWS)
@given(st.integers(0, 2**63 - 1), st.integers(0, 10_000), st.integers(0, 10**7), st.integers(0, 1))
def test_a_draw_is_a_pure_function(name: str, seed: int, epoch: int, index: int, view: int) -> None:
    views = VIEWS[name]()
    keys = {"seed": seed, "epoch": epoch, "index": index, "view": view, "height": 50, "width": 70, "size": 32}
    assert draw(views, **keys) == draw(views, **keys)
    for key in ("seed", "epoch", "index"):
        assert draw(views, **keys) != draw(
            views, **{**keys, key: keys[key] + 1 if key != "seed" else keys[key] // 2 + 7}
        )


def test_views_of_an_image_differ() -> None:
    one, two = (draw(GlyphViews(), seed=0, epoch=0, index=0, view=v, height=8, width=8, size=16) for v in (0, 1))
    assert one != two


def share_is(found: float, expected: float) -> bool:
    return abs(found - expected) <= 4 * math.sqrt(max(expected * (1 - expected), 1e-9) / DRAWS)


@pytest.mark.parametrize("view", [0, 1])
def test_rates_of_the_photo_family(view: int) -> None:
    views = PhotoViews()
    draws = photo_draws(views, view)
    assert share_is(np.mean([one.flip for one in draws]), views.flip)
    assert share_is(np.mean([bool(one.jitter) for one in draws]), views.jitter)
    assert share_is(np.mean([one.gray for one in draws]), views.gray)
    assert share_is(np.mean([one.sigma > 0 for one in draws]), views.blur[view])
    assert share_is(np.mean([one.solarize for one in draws]), views.solarize[view])


def test_distributions_of_the_photo_family() -> None:
    draws = photo_draws(PhotoViews(scale=(0.1, 0.3)), 0)
    areas = np.array([one.width * one.height / 60_000 for one in draws])
    assert areas.min() > 0.095
    assert areas.max() < 0.305
    assert abs(areas.mean() - 0.2) < 0.005
    ratios = np.log([one.width / one.height for one in draws])
    assert abs(ratios.mean()) < 0.01, "log-uniform: as often wide as high"
    assert abs(ratios.std() - math.log(16 / 9) / math.sqrt(12)) < 0.01
    sigmas = np.array([one.sigma for one in draws])
    assert abs(sigmas.mean() - 1.05) < 0.03
    orders = [tuple(name for name, _ in one.jitter) for one in draws if one.jitter]
    assert len(set(orders)) == 24, "all orders of the four parts come up"
    factors = {name: [value for one in draws for key, value in one.jitter if key == name] for name in orders[0]}
    for name, (low, high) in {"brightness": (0.6, 1.4), "saturation": (0.8, 1.2), "hue": (-0.1, 0.1)}.items():
        assert low <= min(factors[name]) < low + 0.01
        assert high - 0.01 < max(factors[name]) <= high


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(0, 1000))
def test_crops_lie_inside(height: int, width: int, index: int) -> None:
    one = draw(PhotoViews(), seed=0, epoch=0, index=index, view=0, height=height, width=width, size=8)
    assert isinstance(one, PhotoDraw)
    assert one.left >= 0
    assert one.top >= 0
    assert 1 <= one.width <= width - one.left
    assert 1 <= one.height <= height - one.top


def test_fallback_is_the_largest_centred_crop() -> None:
    one = draw(PhotoViews(scale=(0.9, 1.0)), seed=0, epoch=0, index=0, view=0, height=10, width=1000, size=8)
    assert isinstance(one, PhotoDraw)
    assert (one.left, one.top, one.width, one.height) == (493, 0, 13, 10)


def plain_draw(**changes: object) -> PhotoDraw:
    whole = {"left": 0, "top": 0, "width": PHOTO.shape[1], "height": PHOTO.shape[0], "size": 96, "bicubic": True}
    none = {"flip": False, "jitter": (), "gray": False, "sigma": 0.0, "solarize": False}
    return PhotoDraw(**{**whole, **none, **changes})  # pyright: ignore[reportArgumentType]


CHANGES = {
    "crop": {"left": 40, "top": 30, "width": 120, "height": 90},
    "bilinear": {"bicubic": False},
    "flip": {"flip": True},
    "brightness": {"jitter": (("brightness", 1.3),)},
    "contrast": {"jitter": (("contrast", 0.7),)},
    "saturation": {"jitter": (("saturation", 1.2),)},
    "hue": {"jitter": (("hue", -0.08),)},
    "gray": {"gray": True},
    "blur": {"sigma": 1.3},
    "solarize": {"solarize": True},
    "all": {
        "jitter": (("hue", 0.05), ("contrast", 1.3), ("brightness", 0.8), ("saturation", 0.9)), "flip": True,
        "sigma": 0.7, "solarize": True,
    },
}  # fmt: skip


def reference(image: np.ndarray, one: PhotoDraw) -> np.ndarray:
    """The same view, step by step, with Pillow and torchvision's float functions."""
    view = Image.fromarray(image).crop((one.left, one.top, one.left + one.width, one.top + one.height))
    view = view.resize((one.size, one.size), Image.Resampling.BICUBIC if one.bicubic else Image.Resampling.BILINEAR)
    if one.flip:
        view = ImageOps.mirror(view)
    floats = torch.from_numpy(np.array(view)).permute(2, 0, 1) / 255
    for name, factor in one.jitter:
        floats = getattr(functional, f"adjust_{name}")(floats, factor)
    if one.gray:
        floats = functional.rgb_to_grayscale(floats, 3)
    view = Image.fromarray((floats.permute(1, 2, 0) * 255).round().byte().numpy())
    if one.sigma:
        view = view.filter(ImageFilter.GaussianBlur(one.sigma))
    return np.array(ImageOps.solarize(view, 128) if one.solarize else view)


@pytest.mark.parametrize("name", CHANGES)
def test_pixels_follow_the_draw(name: str) -> None:
    one = plain_draw(**CHANGES[name])
    difference = np.abs(apply(PHOTO, one).astype(int) - reference(PHOTO, one))
    assert difference.mean() < 1, difference.mean()
    # solarising is a step: a value that is off by one at 128 comes out far off
    assert (difference <= 4).mean() >= (0.97 if "solarize" in CHANGES[name] and one.jitter else 0.99)


@given(st.integers(1, 80), st.integers(1, 80), st.sampled_from(list(VIEWS)), st.booleans())
def test_any_size_and_channels(height: int, width: int, name: str, gray: bool) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width) if gray else (height, width, 3), np.uint8)
    one = draw(VIEWS[name](), seed=0, epoch=0, index=height, view=0, height=height, width=width, size=16)
    assert apply(image, one).shape == ((16, 16) if gray else (16, 16, 3))
    assert center(image, 16, glyph=name == "glyph").shape == ((16, 16) if gray else (16, 16, 3))


def test_glyph_without_chance_is_the_image() -> None:
    digit = (load_digits().images[3] / 16 * 255).astype(np.uint8)
    identity = GlyphDraw(8, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
    assert np.array_equal(apply(digit, identity), digit)
    moved = apply(digit, GlyphDraw(8, (1.0, 0.0, 2 / 8, 0.0, 1.0, 0.0)))
    assert np.array_equal(moved[:, :-1], digit[:, 1:]), "a pixel is 2 / side half sides"


def test_glyph_turns_by_its_angle() -> None:
    line = np.zeros((33, 33), np.uint8)
    line[16, :] = 255
    quarter = apply(line, GlyphDraw(33, (0.0, -1.0, 0.0, 1.0, 0.0, 0.0)))
    assert np.array_equal(quarter, line.T)


def test_background_continues_outside() -> None:
    paper = np.full((20, 20, 3), (200, 190, 180), np.uint8)
    paper[8:12, 8:12] = 0
    far = apply(paper, GlyphDraw(20, (2.0, 0.0, 0.0, 0.0, 2.0, 0.0)))
    assert (far[0, 0] == (200, 190, 180)).all()


def test_order_is_a_permutation_of_its_own() -> None:
    assert sorted(order(0, 0, 50)) == list(range(50))
    assert not np.array_equal(order(0, 0, 50), order(0, 1, 50))


def test_views_of_given_images(tmp_path: object) -> None:
    one, two = gemel.views([PHOTO, PHOTO], "barlow_twins", seed=3, index=[5, 6])
    assert one.shape == two.shape == (2, 3, 224, 224)
    assert one.dtype == torch.uint8
    again = gemel.views([PHOTO], "barlow_twins", seed=3, index=[6])
    assert torch.equal(again[1][0], two[1]), "a view depends on its place alone"
    (small, _) = gemel.views([PHOTO[..., 0]], {"name": "glyph", "size": 16})
    assert small.shape == (1, 3, 16, 16)
    with pytest.raises(gemel.UserError):
        gemel.views([b"no image"], "twist")
    with pytest.raises(gemel.UserError):
        gemel.views([PHOTO], "twist", index=[1, 2])
