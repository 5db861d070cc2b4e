"""Views of floats and of any number of channels: geometry as of bytes, colours only where there are three, noise."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import gemel
from conftest import write_photos
from gemel.data.augment import plain, put
from gemel.data.batches import Loader
from gemel.data.drawing import draws_of
from gemel.data.normalise import Normalise
from gemel.data.plan import Plan, Unfinished
from gemel.data.sources import open_source
from gemel.data.views import WHOLE, Draw, PlainDraw
from gemel.settings.recipes import GlyphViews, PhotoViews

RANDOM = np.random.default_rng(0)
PHOTO = RANDOM.integers(0, 256, (90, 110, 3)).astype(np.uint8)


def view(image: NDArray[Any], views: PhotoViews | GlyphViews, channels: int = 3, *, index: int = 0) -> NDArray[Any]:
    (draw,) = draws_of(views, image, [32], seed=0, epoch=0, index=index)
    out = np.empty((channels, 32, 32), image.dtype)
    put(image, draw, out)
    return out


def seen(image: NDArray[Any], draw: Draw) -> NDArray[Any]:
    out = np.empty((3, 32, 32), image.dtype)
    put(image, draw, out)
    return out.astype(float)


ONE = {"global_count": 1}


@pytest.mark.parametrize("views", [PhotoViews(**ONE, blur=1.0, solarize=0.5), GlyphViews(**ONE, levels=0.3)])
@pytest.mark.parametrize("grey", [False, True])
def test_floats_of_8_bits_give_the_same_views(views: Any, grey: bool) -> None:
    image = PHOTO[..., 0] if grey else PHOTO
    for index in range(12):
        of_bytes = view(image, views, index=index).astype(float)
        of_floats = view(image.astype(np.float32), views, index=index)
        away = np.abs(of_bytes - of_floats)
        assert np.median(away) < 1.0
        assert np.percentile(away, 99) < 4.0, "rounding between the steps, and values near solarisation's threshold"


def test_the_inference_crop() -> None:
    for draw in (PlainDraw(32), PlainDraw(32, whole=True), WHOLE._replace(size=32)):
        of_bytes, of_floats = (seen(image, draw) for image in (PHOTO, PHOTO.astype(np.float32)))
        assert np.abs(of_bytes - of_floats).max() < 1.5, "Pillow rounds after each of its two passes"
    many = RANDOM.random((40, 50, 7)).astype(np.float32)
    apart = np.stack([plain(np.ascontiguousarray(many[..., one]), PlainDraw(16)) for one in range(7)], -1)
    np.testing.assert_array_equal(plain(many, PlainDraw(16)), apart)


def test_colour_steps_leave_other_channels_alone() -> None:
    many = (RANDOM.random((60, 60, 5)) * 255).astype(np.float32)
    plain = {"jitter": 0.0, "gray": 0.0, "blur": 0.0, "solarize": 0.0}
    coloured = {"jitter": 1.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.9, "hue": 0.5, "gray": 1.0}
    wanted = view(many, PhotoViews(**ONE, **plain), 5)
    found = view(many, PhotoViews(**ONE, **(plain | coloured)), 5)
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    bright = view(many, PhotoViews(**ONE, **(plain | {"jitter": 1.0, "saturation": 0.0, "hue": 0.0})), 5)
    assert np.abs(bright - wanted).max() > 5
    flat = np.ones((60, 60, 5), np.float32) * np.array([200, 2, 50, 1, 9], np.float32)
    contrast = {"jitter": 1.0, "brightness": 0.0, "saturation": 0.0, "hue": 0.0, "contrast": 0.9}
    found = view(flat, PhotoViews(**ONE, **(plain | contrast)), 5)
    np.testing.assert_allclose(
        found, np.moveaxis(flat[:32, :32], -1, 0), rtol=1e-5, err_msg="about each channel's mean"
    )


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_noise(kind: type[Any]) -> None:
    flat = np.full((64, 64), 100, kind)
    plain: dict[str, Any] = ONE | {"jitter": 0.0, "gray": 0.0, "blur": 0.0, "solarize": 0.0}
    noisy = PhotoViews(**plain, noise=1.0, noise_sigma=(0.04, 0.04))
    one, other = (view(flat, noisy, index=index) for index in (0, 1))
    assert one[0].std() == pytest.approx(0.04 * 255, rel=0.1)
    assert (one != other).any()
    np.testing.assert_array_equal(one, view(flat, noisy), "of one draw")
    np.testing.assert_allclose(view(flat, PhotoViews(**plain)), 100, rtol=1e-6)
    assert PhotoViews().noise == 0


def test_loaders_of_any_channels_and_of_the_device() -> None:
    images = (RANDOM.random((8, 40, 40, 6)) * 3000).astype(np.uint16)
    source = open_source(images)
    plan = Plan(source, PhotoViews(local_count=1), 16, 0, 4)
    (batch, *_) = Loader(plan)
    assert plan.shape == (6, 16, 16)
    assert [view.shape for view in batch.views] == [(4, 6, 16, 16)] * 2 + [(4, 6, 8, 8)]
    assert {view.dtype for view in batch.views} == {torch.float32}
    (left, *_) = Loader(Plan(source, PhotoViews(local_count=1), 16, 0, 4, on_device=True))
    assert isinstance(left, Unfinished)
    for one, two in zip(batch.views, left.finished().views, strict=True):
        torch.testing.assert_close(one, two, atol=2e-3, rtol=1e-4)
    mean, std = [0.1] * 6, [0.5] * 6
    wanted = (batch.views[0] / 255 - 0.1) / 0.5
    torch.testing.assert_close(Normalise(mean, std)(batch.views[0]), wanted, atol=1e-5, rtol=1e-5)


def test_views_of_python(tmp_path: Any) -> None:
    (path, *_) = write_photos(tmp_path, 1)
    (view, _) = gemel.views([path], {"name": "photo", "size": 16})
    assert view.dtype == torch.uint8
    (view, _) = gemel.views([RANDOM.random((5, 30, 30))] * 2, {"name": "photo", "size": 16})
    assert (view.dtype, view.shape) == (torch.float32, (2, 5, 16, 16))
