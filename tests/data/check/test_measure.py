"""The pass over the files: what it tells of each image, and of files that can't be read."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from check_images import jpeg, parts, pixels, png, write
from gemel.data import jpeg as jpeg_room
from gemel.data.check.measure import SIDE, measure, sharpness
from gemel.data.decode import Unreadable, decode, glance, load
from gemel.data.sources import ArraySource, open_source

PHOTOGRAPH = parts(1)[0].resize((400, 300))


def turned(kind: str, value: int) -> bytes:
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = value
    PHOTOGRAPH.save(file, kind, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("value", [1, 3, 6, 7])
def test_a_glance_is_the_image_at_a_smaller_size(kind: str, value: int) -> None:
    data = turned(kind, value)
    whole, seen = decode(data), glance(data, least=100)
    assert (seen.height, seen.width) == whole.shape[:2]
    assert 100 <= min(seen.pixels.shape[:2]) <= min(whole.shape[:2])
    assert seen.pixels.shape[0] < seen.pixels.shape[1] if value < 5 else seen.pixels.shape[0] > seen.pixels.shape[1]
    if kind == "JPEG":
        assert seen.pixels.shape[0] < whole.shape[0]
    smaller = np.asarray(Image.fromarray(whole).resize(seen.pixels.shape[1::-1], Image.Resampling.BOX), int)
    assert np.abs(smaller - seen.pixels).mean() < 4


def test_a_glance_refuses_what_decoding_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    data = turned("JPEG", 1)
    for broken in (b"", b"text", data[:2000], data[:-200]):
        with pytest.raises(Unreadable) as whole:
            decode(broken)
        with pytest.raises(Unreadable) as reduced:
            glance(broken, least=100)
        assert whole.value.reason == reduced.value.reason
    monkeypatch.setattr(jpeg_room, "_decoder", None)  # Pillow alone: the whole image
    assert glance(data, least=100).pixels.shape == (300, 400, 3)


def test_each_image_is_told(tmp_path: Path) -> None:
    grey, dark = PHOTOGRAPH.convert("L"), Image.fromarray((np.asarray(PHOTOGRAPH) * 0.1).astype(np.uint8))
    files = {
        "a.jpg": jpeg(PHOTOGRAPH),
        "b.png": png(grey),
        "c.png": png(Image.new("RGB", (50, 20), (200, 10, 30))),
        "d.png": png(dark),
        "e.jpg": b"no image",
    }
    source = open_source(write(tmp_path, files))
    found = measure(source, workers=2)
    assert found.indices.tolist() == [0, 1, 2, 3]
    assert found.bytes.tolist() == [len(files[name]) for name in sorted(files)[:4]]
    assert found.digests[0].tobytes() == hashlib.sha256(files["a.jpg"]).digest()[:16]
    assert list(zip(found.widths.tolist(), found.heights.tolist(), strict=True)) == [(400, 300)] * 2 + [
        (50, 20),
        (400, 300),
    ]
    assert found.is_uniform.tolist() == [False, False, True, False]
    assert np.abs(found.thumbnails[0].astype(int) - found.thumbnails[1]).mean() < 2
    luminance = 0.299 * 200 + 0.587 * 10 + 0.114 * 30
    np.testing.assert_allclose(found.colours[2], [luminance, 30 - luminance, 200 - luminance], atol=0.1)
    assert np.abs(found.colours[1, 1:]).max() < 0.01
    assert found.brightness[3] == pytest.approx(0.1 * found.brightness[0], abs=0.01)
    with pytest.raises(Unreadable) as why:
        load(source, 4)
    assert found.rejected == {4: why.value.reason}


def test_some_images_alone_and_threads_change_nothing() -> None:
    source = ArraySource("parts", pixels(parts(30)))
    whole, some = measure(source, workers=1), measure(source, np.array([3, 7, 21]), workers=3)
    assert some.indices.tolist() == [3, 7, 21]
    for name in ("digests", "thumbnails", "colours", "sharpness"):
        np.testing.assert_array_equal(getattr(some, name), getattr(whole, name)[[3, 7, 21]])
    told: list[tuple[int, int]] = []
    measure(source, workers=1, tell=lambda *numbers: told.append(numbers))
    assert told[-1] == (30, 30)


def test_images_that_vanish_are_told(tmp_path: Path) -> None:
    source = open_source(write(tmp_path, {f"{number}.jpg": jpeg(PHOTOGRAPH) for number in range(3)}))
    (tmp_path / "1.jpg").unlink()
    assert measure(source).rejected == {1: "vanished: no such file"}


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 3))
def test_any_size_has_a_thumbnail(height: int, width: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = measure(ArraySource("one", [image, image[..., 0]]), workers=1)
    assert found.thumbnails.shape == (2, SIDE, SIDE)
    assert abs(float(found.thumbnails[1].mean()) - float(image[..., 0].mean())) < 25
    assert np.isnan(found.sharpness).all() == (min(height, width) < 24)


def test_sharpness_falls_with_blur_alone() -> None:
    for image in parts(20):
        sharp, values = np.asarray(image.convert("L"), np.float32), []
        for sigma in (0.5, 1, 1.5, 2):
            smooth = image.convert("L").filter(ImageFilter.GaussianBlur(sigma))
            values.append(sharpness(np.asarray(smooth, np.float32)))
        assert sharpness(sharp) > values[0] > values[1] > values[2] > values[3]
        assert sharpness(sharp) > 0.05 > 0.04 > values[2]
        assert sharpness(np.rint(sharp / 2)) == pytest.approx(sharpness(sharp), rel=0.05), "contrast plays no part"
    assert np.isnan(sharpness(np.full((64, 64), 7, np.float32)))
    assert np.isnan(sharpness(np.zeros((23, 64), np.float32)))
