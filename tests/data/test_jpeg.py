"""The quick way gives Pillow's pixels, or leaves the file to Pillow."""

import io
import random

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from gemel.data import decode as room
from gemel.data import jpeg
from gemel.data.decode import Unreadable, decode
from gemel.data.jpeg import jpeg_pixels

pytest.importorskip("simplejpeg")

PHOTOGRAPH = Image.fromarray(load_sample_images().images[0]).resize((120, 90))
KINDS = {
    "usual": {"quality": 80},
    "4:2:2": {"quality": 60, "subsampling": 1},
    "4:4:4": {"quality": 95, "subsampling": 0},
    "progressive": {"quality": 85, "progressive": True},
    "restarts": {"quality": 70, "restart_marker_blocks": 4},
    "stored as RGB": {"quality": 80, "keep_rgb": True},
}


def encoded(mode: str, **options: object) -> bytes:
    file = io.BytesIO()
    PHOTOGRAPH.convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_pixels_as_pillow(kind: str, mode: str) -> None:
    data = encoded(mode, **KINDS[kind])
    pixels = jpeg_pixels(data, mode)
    assert pixels is not None
    assert np.array_equal(pixels, np.array(Image.open(io.BytesIO(data))))
    assert pixels.flags.writeable


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_judged_by_pillow(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, chance = encoded("RGB", **KINDS[kind]), random.Random(0)

    def outcome(one: bytes) -> np.ndarray | str:
        try:
            return decode(one)
        except Unreadable as error:
            return error.reason

    for _ in range(150):
        damaged, place = bytearray(data), chance.randrange(len(data))
        if chance.random() < 0.3:
            del damaged[place:]
        elif chance.random() < 0.5:
            damaged[place] = chance.randrange(256)
        else:
            del damaged[place : place + chance.randrange(1, 200)]
        found = outcome(bytes(damaged))
        with monkeypatch.context() as without:
            without.setattr(jpeg, "_decoder", None)
            assert np.array_equal(found, outcome(bytes(damaged)))


def test_orientation_and_other_modes() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = decode(encoded("RGB", exif=exif))
    assert np.array_equal(
        turned, np.array(Image.open(io.BytesIO(encoded("RGB"))).transpose(Image.Transpose.ROTATE_270))
    )
    assert jpeg_pixels(encoded("CMYK"), "CMYK") is None
    assert room.decode(encoded("CMYK")).shape == (90, 120, 3)
