"""Draws are pure functions with the distributions of their definitions; pixels follow the draw."""

import math
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageFilter, ImageOps
from sklearn.datasets import load_digits, load_sample_images
from torchvision.transforms import functional

import gemel
from gemel.data import augment, on_device
from gemel.data.augment import crop, put
from gemel.data.views import Draw, GlyphDraw, PhotoDraw, draw, order
from gemel.runs.run import Run
from gemel.settings.recipes import IMAGE_VIEWS, GlyphViews, PhotoViews
from gemel.settings.view_presets import VIEW_FAMILIES

PHOTO = np.ascontiguousarray(load_sample_images().images[0][100:300, 100:400])
DRAWS = 4000


def photo_draws(views: PhotoViews, view: int, *, height: int = 200, width: int = 300) -> list[PhotoDraw]:
    found = [
        draw(views, seed=0, epoch=0, index=index, view=view, height=height, width=width, size=64)
        for index in range(DRAWS)
    ]
    return [one for one in found if isinstance(one, PhotoDraw)]


@pytest.mark.parametrize("name", IMAGE_VIEWS)
@given(st.integers(0, 2**63 - 1), st.integers(0, 10_000), st.integers(0, 10**7), st.integers(0, 1))
def test_a_draw_is_a_pure_function(name: str, seed: int, epoch: int, index: int, view: int) -> None:
    views = IMAGE_VIEWS[name]()
    keys = {"seed": seed, "epoch": epoch, "index": index, "view": view, "height": 50, "width": 70, "size": 32}
    assert draw(views, **keys) == draw(views, **keys)
    for key in ("seed", "epoch", "index"):
        assert draw(views, **keys) != draw(views, **{**keys, key: keys[key] ^ 1})


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


def test_local_crops_have_their_own_numbers() -> None:
    views = PhotoViews(local_count=1, local_scale=(0.05, 0.14), local_blur=0.3, local_solarize=0.6)
    draws = photo_draws(views, 2)
    areas = np.array([one.width * one.height / 60_000 for one in draws])
    assert areas.min() > 0.045
    assert areas.max() < 0.145
    assert share_is(np.mean([one.sigma > 0 for one in draws]), 0.3)
    assert share_is(np.mean([one.solarize for one in draws]), 0.6)


def test_a_grey_view_before_the_jitter() -> None:
    draws = photo_draws(PhotoViews(gray=0.5, gray_first=True), 0)
    assert not any(one.gray for one in draws)
    assert share_is(np.mean([one.jitter[:1] == (("gray", 1.0),) for one in draws]), 0.5)


# name -> scale, bicubic, jitter, its four strengths, blur of two views, solarise of the second, local count and scale
FAMILIES = {
    "byol": ((0.08, 1), True, 0.8, (0.4, 0.4, 0.2, 0.1), (1, 0.1), 0.2, 0, None),
    "moco_v1": ((0.2, 1), False, 1.0, (0.4, 0.4, 0.4, 0.4), (0, 0), 0, 0, None),
    "moco_v2": ((0.2, 1), False, 0.8, (0.4, 0.4, 0.4, 0.1), (0.5, 0.5), 0, 0, None),
    "moco_v3_resnet50": ((0.2, 1), False, 0.8, (0.4, 0.4, 0.2, 0.1), (1, 0.1), 0.2, 0, None),
    "moco_v3_vit": ((0.08, 1), False, 0.8, (0.4, 0.4, 0.2, 0.1), (1, 0.1), 0.2, 0, None),
    "simclr": ((0.08, 1), True, 0.8, (0.8, 0.8, 0.8, 0.2), (0.5, 0.5), 0, 0, None),
    "simclr_cifar": ((0.08, 1), True, 0.8, (0.4, 0.4, 0.4, 0.1), (0, 0), 0, 0, None),
    "swav": ((0.14, 1), False, 0.8, (0.8, 0.8, 0.8, 0.2), (0.5, 0.5), 0, 6, (0.05, 0.14)),
    "dino": ((0.4, 1), True, 0.8, (0.4, 0.4, 0.2, 0.1), (1, 0.1), 0.2, 8, (0.05, 0.4)),
    "dino_resnet50": ((0.14, 1), True, 0.8, (0.4, 0.4, 0.2, 0.1), (1, 0.1), 0.2, 8, (0.05, 0.14)),
    "twist_multicrop": ((0.4, 1), True, 0.8, (0.4, 0.4, 0.2, 0.1), (1, 0.1), 0.2, 12, (0.05, 0.4)),
    "twist_self_labeling": ((0.14, 1), True, 0.8, (0.4, 0.4, 0.2, 0.1), (1, 0.1), 0.2, 12, (0.05, 0.14)),
    "self_classifier": ((0.4, 1), True, 0.8, (0.4, 0.4, 0.2, 0.1), (0.1, 1), 0.2, 6, (0.05, 0.4)),
    "solo_cifar_asymmetric": ((0.08, 1), True, 0.8, (0.4, 0.4, 0.2, 0.1), (0, 0), 0.2, 0, None),
    "solo_cifar_symmetric": ((0.08, 1), True, 0.8, (0.8, 0.8, 0.8, 0.2), (0.5, 0.5), 0, 0, None),
    "solo_cifar_symmetric_weak": ((0.08, 1), True, 0.8, (0.4, 0.4, 0.4, 0.1), (0.5, 0.5), 0, 0, None),
    "solo_imagenet100_asymmetric": ((0.08, 1), True, 0.8, (0.4, 0.4, 0.2, 0.1), (1, 0.1), 0.2, 0, None),
}


def test_every_family_is_in_the_table() -> None:
    assert set(VIEW_FAMILIES) == set(FAMILIES)


@pytest.mark.parametrize("name", FAMILIES)
def test_families_have_the_papers_numbers(name: str) -> None:
    views = VIEW_FAMILIES[name]
    scale, bicubic, jitter, strengths, blur, solarize, count, local = FAMILIES[name]
    assert (views.scale, views.interpolation == "bicubic", views.jitter, views.blur) == (scale, bicubic, jitter, blur)
    assert (views.brightness, views.contrast, views.saturation, views.hue) == strengths
    assert (views.flip, views.gray, views.blur_sigma, views.solarize) == (0.5, 0.2, (0.1, 2.0), (0, solarize))
    assert views.local_count == count
    assert views.gray_first == (name == "moco_v1")
    if local:
        assert (views.local_scale, views.local_blur, views.local_solarize) == (local, 0.5, 0)
        assert views.sizes(224) == (224, 224, *[96] * count)


def plain_draw(**changes: object) -> PhotoDraw:
    whole = {"left": 0, "top": 0, "width": PHOTO.shape[1], "height": PHOTO.shape[0], "size": 96, "bicubic": True}
    none = {"flip": False, "jitter": (), "gray": False, "sigma": 0.0, "solarize": False}
    return PhotoDraw(**{**whole, **none, **changes})  # pyright: ignore[reportArgumentType]


def pixels(image: np.ndarray, one: Draw) -> np.ndarray:
    """The view as (size, size) or (size, size, 3)."""
    out = np.empty((3, one.size, one.size), np.uint8)
    put(image, one, out)
    if image.ndim == 2:
        assert (out == out[0]).all(), "of a grey image, three equal planes"
        return out[0]
    return out.transpose(1, 2, 0)


CHANGES = {
    "crop": {"left": 40, "top": 30, "width": 120, "height": 90},
    "larger": {"left": 40, "top": 30, "width": 50, "height": 40},
    "bilinear": {"bicubic": False},
    "flip": {"flip": True},
    "brightness": {"jitter": (("brightness", 1.3),)},
    "contrast": {"jitter": (("contrast", 0.7),)},
    "saturation": {"jitter": (("saturation", 1.2),)},
    "hue": {"jitter": (("hue", -0.08),)},
    "hue_far": {"jitter": (("hue", 0.5),)},
    "gray": {"gray": True},
    "gray_first": {"jitter": (("gray", 1.0), ("contrast", 1.4), ("hue", 0.1), ("saturation", 1.3))},
    "blur_little": {"sigma": 0.3},
    "blur": {"sigma": 1.3},
    "blur_much": {"sigma": 1.9},
    "solarize": {"solarize": True},
    "all": {
        "jitter": (("hue", 0.05), ("contrast", 1.3), ("brightness", 0.8), ("saturation", 0.9)), "flip": True,
        "sigma": 0.7, "solarize": True,
    },
    "strong": {
        "jitter": (("saturation", 1.8), ("brightness", 0.4), ("hue", -0.2), ("contrast", 1.7)), "sigma": 1.7,
        "left": 15, "top": 15, "width": 181, "height": 137,
    },
}  # fmt: skip


def reference(image: np.ndarray, one: PhotoDraw) -> np.ndarray:
    """The same view, step by step, with Pillow and torchvision's float functions."""
    view = Image.fromarray(image).crop((one.left, one.top, one.left + one.width, one.top + one.height))
    view = view.resize((one.size, one.size), Image.Resampling.BICUBIC if one.bicubic else Image.Resampling.BILINEAR)
    if one.flip:
        view = ImageOps.mirror(view)
    floats = torch.from_numpy(np.atleast_3d(np.array(view))).permute(2, 0, 1) / 255
    for name, factor in (*one.jitter, *([("gray", 1.0)] if one.gray else [])):
        if name == "gray":
            floats = functional.rgb_to_grayscale(floats, 3) if len(floats) == 3 else floats
        else:
            floats = getattr(functional, f"adjust_{name}")(floats, factor)
    rounded = (floats.permute(1, 2, 0) * 255).round().byte().numpy()
    view = Image.fromarray(rounded if image.ndim == 3 else rounded[..., 0])
    if one.sigma:
        view = view.filter(ImageFilter.GaussianBlur(one.sigma))
    return np.array(ImageOps.solarize(view, 128) if one.solarize else view)


def far(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return np.abs(one.astype(int) - two)


def differences(image: np.ndarray, one: PhotoDraw) -> np.ndarray:
    """To the reference, where solarising, which is a step, does not make a great difference of a small one."""
    difference = far(pixels(image, one), reference(image, one))
    if one.solarize:
        before = reference(image, one._replace(solarize=False))
        difference = difference[far(before, np.full_like(before, 128)) > 4]
    return difference


@pytest.mark.parametrize("size", [32, 96, 224])
@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("name", CHANGES)
def test_pixels_follow_the_draw(name: str, gray: bool, size: int) -> None:
    image = PHOTO[..., 1].copy() if gray else PHOTO
    one = plain_draw(**CHANGES[name], size=size)
    difference = differences(image, one)
    assert difference.size > 0.5 * size * size
    assert difference.mean() < 1, difference.mean()
    assert (difference <= 4).mean() >= 0.99


@pytest.mark.parametrize("view", [0, 1, 2])
@pytest.mark.parametrize("name", ["byol", "simclr", "swav", "moco_v1", "dino"])
def test_whole_draws_follow_the_reference(name: str, view: int) -> None:
    views = VIEW_FAMILIES[name].model_copy(update={"solarize": (0.2, 0.2), "local_count": 1})
    draws = [
        draw(views, seed=1, epoch=0, index=index, view=view, height=200, width=300, size=64) for index in range(40)
    ]
    found = np.concatenate([differences(PHOTO, one).ravel() for one in draws if isinstance(one, PhotoDraw)])
    assert found.mean() < 1
    assert (found <= 4).mean() >= 0.99


@pytest.mark.parametrize("view", [0, 1])
def test_whole_draws_of_noise_follow_the_reference(view: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, PHOTO.shape, np.uint8)
    draws = [
        draw(PhotoViews(), seed=1, epoch=0, index=index, view=view, height=200, width=300, size=64)
        for index in range(60)
    ]
    found = np.concatenate([differences(image, one).ravel() for one in draws if isinstance(one, PhotoDraw)])
    assert found.mean() < 2, "half of the noise is cut off at black or white, before or after rounding"


@given(st.integers(1, 2000), st.integers(1, 2000), st.booleans(), st.integers(32, 96), st.integers(0, 10**6))
@example(1, 2000, False, 64, 0)
@example(2000, 1, True, 64, 1)
@example(1, 1, False, 32, 2)
def test_whole_draws_of_any_size_follow_the_reference(
    height: int, width: int, gray: bool, size: int, index: int
) -> None:
    """Photographs repeated or cut to the size, so that no pixel is far from its neighbours."""
    shown = PHOTO[..., 0] if gray else PHOTO
    repeats = (-(-height // shown.shape[0]), -(-width // shown.shape[1]), 1)[: shown.ndim]
    image = np.ascontiguousarray(np.tile(shown, repeats)[:height, :width])
    one = draw(PhotoViews(), seed=2, epoch=0, index=index, view=index % 2, height=height, width=width, size=size)
    assert isinstance(one, PhotoDraw)
    difference = differences(image, one)
    if difference.size:
        assert difference.mean() < 1
        assert (difference <= 4).mean() >= 0.99


@given(
    st.integers(1, 2000), st.integers(1, 2000), st.sampled_from(list(IMAGE_VIEWS)), st.booleans(), st.integers(4, 64)
)
def test_any_size_and_channels(height: int, width: int, name: str, gray: bool, size: int) -> None:
    image = np.full((height, width) if gray else (height, width, 3), 77, np.uint8)
    image[::3, ::2] = 160
    one = draw(IMAGE_VIEWS[name](), seed=0, epoch=0, index=height, view=0, height=height, width=width, size=size)
    view = pixels(image, one)
    assert view.shape == ((size, size) if gray else (size, size, 3))
    if isinstance(one, PhotoDraw):
        assert far(crop(image, one), reference(image, plain_draw(**crop_of(one)))).max() <= 3


def crop_of(one: PhotoDraw) -> dict[str, object]:
    return {key: getattr(one, key) for key in ("size", "left", "top", "width", "height", "bicubic")}


@given(st.integers(1, 64), st.integers(1, 64), st.integers(4, 64), st.booleans(), st.booleans())
def test_small_crops_are_resized_as_large_ones(height: int, width: int, size: int, gray: bool, bicubic: bool) -> None:
    image = PHOTO[20:, 30:, 0].copy() if gray else PHOTO[20:, 30:]
    one = plain_draw(height=height, width=width, size=size, bicubic=bicubic)
    with pytest.MonkeyPatch.context() as patch:
        compiled = crop(image, one)
        patch.setattr(augment, "is_compiled", lambda: False)
        difference = far(compiled, crop(image, one))
        assert difference.max() <= 2, "each pass rounds, and bicubic weights enlarge what is rounded"
        assert difference.mean() < 0.5, "of a crop one pixel high a few values are all there are"


@pytest.mark.parametrize("gray", [False, True])
def test_the_batch_on_a_device_gives_the_same_views(gray: bool) -> None:
    image = PHOTO[..., 1].copy() if gray else PHOTO
    draws = [plain_draw(**change) for change in CHANGES.values()]
    crops = torch.stack([torch.from_numpy(np.atleast_3d(crop(image, one))).permute(2, 0, 1) for one in draws])
    found = on_device.finish(crops, on_device.stack(draws))
    assert found.shape == (len(draws), 3, 96, 96)
    for one, view in zip(draws, found, strict=True):
        difference = far(np.atleast_3d(pixels(image, one)), view.permute(1, 2, 0).numpy())
        # a value that is off by one at 128 comes out far off after solarising
        assert (difference <= 1).mean() > (0.999 if one.solarize else 0.9999), one


def test_views_without_the_compiled_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    one = plain_draw(**CHANGES["strong"])
    fast = pixels(PHOTO, one)
    monkeypatch.setattr(augment, "is_compiled", lambda: False)
    assert far(pixels(PHOTO, one), fast).max() <= 1
    assert not np.array_equal(fast, pixels(PHOTO, one._replace(flip=True)))


def test_glyph_without_chance_is_the_image() -> None:
    digit = (load_digits().images[3] / 16 * 255).astype(np.uint8)
    identity = GlyphDraw(8, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
    assert np.array_equal(pixels(digit, identity), digit)
    moved = pixels(digit, GlyphDraw(8, (1.0, 0.0, 2 / 8, 0.0, 1.0, 0.0)))
    assert np.array_equal(moved[:, :-1], digit[:, 1:]), "a pixel is 2 / side half sides"


def test_glyph_turns_by_its_angle() -> None:
    line = np.zeros((33, 33), np.uint8)
    line[16, :] = 255
    quarter = pixels(line, GlyphDraw(33, (0.0, -1.0, 0.0, 1.0, 0.0, 0.0)))
    assert np.array_equal(quarter, line.T)


def test_background_continues_outside() -> None:
    paper = np.full((20, 20, 3), (200, 190, 180), np.uint8)
    paper[8:12, 8:12] = 0
    far = pixels(paper, GlyphDraw(20, (2.0, 0.0, 0.0, 0.0, 2.0, 0.0)))
    assert (far[0, 0] == (200, 190, 180)).all()


@pytest.mark.parametrize("paper", [0, 40, 200, 255])
def test_strokes_and_greys_are_drawn_from_the_background_on(paper: int) -> None:
    """The power leaves background, black and white where they are; levels bring both ends together."""
    page = np.full((9, 9), paper, np.uint8)
    far = 0 if paper > 127 else 255
    page[2], page[4], page[6] = far, (paper + far) // 2, 255 - far  # black, half way, and what is beyond the background
    draw = GlyphDraw(9, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), gamma=2.0)
    bold = pixels(page, draw)[:, 4].astype(int)
    assert bold[0] == paper
    assert bold[2] == far
    assert bold[4] == pytest.approx(paper + ((paper + far) // 2 - paper) ** 2 / (far - paper), abs=1)
    assert bold[6] == 255 - far
    other = pixels(page, draw._replace(gamma=1.0, levels=(0.25, 0.125)))[:, 4].astype(int)
    assert other[0] == pytest.approx(paper + 0.25 * (far - paper), abs=1)
    assert other[2] == pytest.approx(far - 0.125 * (far - paper), abs=1)
    assert np.array_equal(np.sign(np.diff(other)), np.sign(np.diff(page[:, 4].astype(int)))), "no order is turned round"


@pytest.mark.parametrize(
    ("ground", "ink"), [((120, 120, 120), (20, 20, 20)), ((130,) * 3, (20,) * 3), ((255, 200, 100), (0, 0, 0))]
)
def test_levels_move_the_background_towards_the_strokes(ground: tuple[int, ...], ink: tuple[int, ...]) -> None:
    """On a background of any grey or colour; black strokes that don't come back stay black."""
    page = np.full((9, 9, 3), ground, np.uint8)
    page[4] = ink
    draw = GlyphDraw(9, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), levels=(0.4, 0.0))
    found = pixels(page, draw).astype(int)
    np.testing.assert_allclose(found[0, 0], 0.6 * np.array(ground), atol=1)
    if not any(ink):
        np.testing.assert_allclose(found[4, 4], 0, atol=1)


@pytest.mark.parametrize("page", [np.full((1, 1), 7, np.uint8), np.full((6, 6), 128, np.uint8)], ids=["one", "blank"])
def test_levels_of_a_blank_page(page: np.ndarray) -> None:
    found = pixels(page, GlyphDraw(6, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), gamma=0.5, levels=(0.4, 0.4)))
    assert found.std() == 0
    assert abs(int(found[0, 0]) - int(page[0, 0])) > 40


def test_levels_are_drawn_within_their_range() -> None:
    page = np.full((9, 9), 250, np.uint8)
    page[4] = 10
    seen = [gemel.views([page], {"name": "glyph", "size": 9, "levels": 0.4}, epoch=epoch) for epoch in range(100)]
    corners = np.array([int(view[0, 0, 0, 0]) for views in seen for view in views])
    assert corners.min() >= 250 - 0.4 * 250 - 1
    assert corners.max() <= 250
    assert corners.std() > 20
    fixed = gemel.views([page], {"name": "glyph", "size": 9})
    assert all(int(view[0, 0, 0, 0]) == 250 for view in fixed)


def test_order_is_a_permutation_of_its_own() -> None:
    assert sorted(order(0, 0, 50)) == list(range(50))
    assert not np.array_equal(order(0, 0, 50), order(0, 1, 50))


def jpeg() -> bytes:
    file = BytesIO()
    Image.fromarray(PHOTO).save(file, "JPEG")
    return file.getvalue()


def test_views_of_given_images(digits_run: Run) -> None:
    (of_a_run, *_) = gemel.views([PHOTO], digits_run)
    assert of_a_run.shape[-1] == digits_run.settings["image_size"]
    one, two = gemel.views([PHOTO, PHOTO], "barlow_twins", seed=3, index=[5, 6])
    assert one.shape == two.shape == (2, 3, 224, 224)
    assert one.dtype == torch.uint8
    again = gemel.views([PHOTO], "barlow_twins", seed=3, index=[6])
    assert torch.equal(again[1][0], two[1]), "a view depends on its index alone"
    (small, _) = gemel.views([PHOTO[..., 0]], {"name": "glyph", "size": 16})
    assert small.shape == (1, 3, 16, 16)
    shapes = [view.shape for view in gemel.views([PHOTO], {"name": "swav", "size": 64, "local_count": 3})]
    assert shapes == [(1, 3, 64, 64)] * 2 + [(1, 3, 28, 28)] * 3
    with pytest.raises(gemel.UserError):
        gemel.views([b"no image"], "twist")
    first, second = (gemel.views([kind(jpeg())], "twist")[0] for kind in (bytes, bytearray))
    assert torch.equal(first, second)
    assert torch.equal(first, gemel.views([memoryview(jpeg())], "twist")[0])
    for images, recipe, index, told in (
        ([PHOTO], "twist", [1, 2], "1 images and 2 numbers in index"),
        ([PHOTO], "twist", 2, "index must be a list of indices"),
        ([torch.zeros(3, 4, 4, dtype=torch.uint8)], "twist", None, "a file, bytes or an array, not a Tensor"),
        ([PHOTO], {"name": "photo", "image_size": 32}, None, "views.image_size is not an option of photo"),
        ([PHOTO], {"name": "photo", "jiter": 0.1}, None, "did you mean views.jitter"),
    ):
        with pytest.raises(gemel.UserError, match=told):
            gemel.views(images, recipe, index=index)  # pyright: ignore[reportArgumentType]
