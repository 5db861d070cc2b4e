"""What the numbers of image files mean: bit depths, floats, transparency, bands."""

import io
import logging
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gemel.data.decode import Unreadable, decode, inspect, load
from gemel.data.pixel_values import Decoding, is_nearly_one_colour, levels_of
from gemel.data.sources import open_source
from gemel.data.survey import survey, survey_source
from gemel.errors import UserError

PLAIN: dict[str, Any] = {"floats": False, "channels": 3}
"""what is found of images of 8 bits"""
RANDOM = np.random.default_rng(0)
RAMP = np.add.outer(np.arange(32), np.arange(32)) / 62  # (32, 32), 0 to 1
WHITE, BLACK, RED = (255, 255, 255), (0, 0, 0), (200, 30, 0)
DISC = np.hypot(*(np.mgrid[:32, :32] - 15.5)) < 11


def png(samples: NDArray[Any], bits: int, colour: int, transparent: tuple[int, ...] = ()) -> bytes:
    """A PNG of samples (H, W, channels) as its specification says; Pillow writes no 16-bit colour."""
    height, width = samples.shape[:2]
    if bits == 16:
        rows = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    else:
        flat = samples.astype(np.uint8).reshape(height, -1, 1)
        rows = np.packbits(np.unpackbits(flat, axis=-1)[..., 8 - bits :].reshape(height, -1), axis=-1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))]
    chunks += [(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent))] if transparent else []
    chunks += [(b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    written = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def tiff(samples: NDArray[Any], photometric: int = 1, **options: int) -> bytes:
    """An uncompressed TIFF of samples (H, W, bands); options: sample_format, extra, planes, big_endian."""
    order, (height, width, bands) = ">" if options.get("big_endian") else "<", samples.shape
    samples = samples.astype(samples.dtype.newbyteorder(order))
    planes = list(np.moveaxis(samples, -1, 0)) if options.get("planes") == 2 else [samples]
    parts = [plane.tobytes() for plane in planes]
    starts = [8 + sum(map(len, parts[:number])) for number in range(len(parts))]
    tags: dict[int, tuple[str, list[int]]] = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [samples.itemsize * 8] * bands),
        259: ("H", [1]),
        262: ("H", [photometric]),
        273: ("I", starts),
        277: ("H", [bands]),
        278: ("I", [height]),
        279: ("I", [len(part) for part in parts]),
        284: ("H", [options.get("planes", 1)]),
        **({338: ("H", [options["extra"]])} if "extra" in options else {}),
        339: ("H", [options.get("sample_format", 1)] * bands),
    }
    data, entries = b"".join(parts), b""
    for tag, (letter, values) in tags.items():
        packed = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(packed) > 4:
            data, packed = data + packed, struct.pack(f"{order}I", 8 + len(data))
        entries += struct.pack(f"{order}HHI", tag, 3 if letter == "H" else 4, len(values)) + packed.ljust(4, b"\0")
    head = b"MM\0*" if order == ">" else b"II*\0"
    directory = struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    return head + struct.pack(f"{order}I", 8 + len(data)) + data + directory


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def shown(colour: NDArray[Any], opacity: NDArray[Any], background: tuple[int, int, int]) -> NDArray[np.float64]:
    """The definition of "over": colours 0 to 255 (H, W, 3), opacity 0 to 1 (H, W)."""
    share = opacity[..., None]
    return colour * share + np.array(background) * (1 - share)


def assert_near(pixels: NDArray[np.uint8], expected: NDArray[Any], tolerance: float = 1.0) -> None:
    assert pixels.dtype == np.uint8
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected.astype(float)).max() <= tolerance


# How many bits there are in 16


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_full_16_bits_lose_their_lower_byte(kind: str) -> None:
    wide = (RAMP * 65535).astype(np.uint16)
    data = encoded(Image.fromarray(wide), kind)
    for decoding in (None, Decoding(), Decoding(65535.0, 0.0)):
        np.testing.assert_array_equal(decode(data, decoding), wide >> 8)


@pytest.mark.parametrize("depth", [8, 10, 12, 14])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_fewer_bits_in_16(depth: int, kind: str) -> None:
    white = 2**depth - 1
    assert_near(decode(encoded(Image.fromarray((RAMP * white).astype(np.uint16)), kind)), RAMP * 255)


COLOUR = RANDOM.random((6, 9, 3))
OPACITY = RANDOM.integers(0, 3, (6, 9)) / 2
FOUR = np.dstack([COLOUR, OPACITY])
WIDE_COLOUR: dict[str, Callable[[int], bytes]] = {
    "png": lambda white: png(COLOUR * white, 16, 2),
    "tiff": lambda white: tiff((COLOUR * white).astype(np.uint16), 2),
    "big-endian": lambda white: tiff((COLOUR * white).astype(np.uint16), 2, big_endian=1),
    "planes": lambda white: tiff((COLOUR * white).astype(np.uint16), 2, planes=2),
    "ppm": lambda white: b"P6 9 6 65535\n" + (COLOUR * white).astype(">u2").tobytes(),
}


@pytest.mark.parametrize("white", [255, 4095, 65535])
@pytest.mark.parametrize("name", WIDE_COLOUR)
def test_colour_of_16_bits(name: str, white: int) -> None:
    data = WIDE_COLOUR[name](white)
    assert_near(decode(data, Decoding(float(white))), COLOUR * 255)
    assert_near(decode(data), COLOUR * 255, 2)  # its own brightest value


@pytest.mark.parametrize("white", [1023, 65535])
def test_alpha_of_16_bits(white: int) -> None:
    four = np.dstack([COLOUR * white, OPACITY * 65535])
    for data in (png(four, 16, 6), tiff(four.astype(np.uint16), 2, extra=2)):
        assert_near(decode(data, Decoding(float(white), background=RED)), shown(COLOUR * 255, OPACITY, RED), 1.5)
    premultiplied = np.dstack([COLOUR * OPACITY[..., None] * white, OPACITY * 65535]).astype(np.uint16)
    data = tiff(premultiplied, 2, extra=1)
    assert_near(decode(data, Decoding(float(white), background=RED)), shown(COLOUR * 255, OPACITY, RED), 1.5)
    grey = np.dstack([COLOUR[..., 0] * white, OPACITY * 65535])
    expected = shown(COLOUR[..., :1] * 255, OPACITY, WHITE)
    assert_near(decode(png(grey, 16, 4), Decoding(float(white))), expected[..., 0], 1.5)
    assert_near(
        decode(png(grey, 16, 4), Decoding(float(white), background=RED)), shown(COLOUR[..., :1] * 255, OPACITY, RED)
    )


def test_white_that_the_file_declares() -> None:
    levels = np.array([0, 500, 1000], ">u2")
    data = b"P5 3 1 4095\n" + levels.tobytes()
    for decoding in (None, Decoding(), Decoding(1023.0)):
        np.testing.assert_array_equal(decode(data, decoding), [[0, 31, 62]])
    assert inspect(data).values is None


def test_white_may_be_zero() -> None:
    wide = (RAMP * 4095).astype(np.uint16)[..., None]
    assert_near(decode(tiff(wide, 0)), 255 - RAMP * 255)
    assert_near(decode(tiff(RAMP.astype(np.float32)[..., None], 0, sample_format=3)), 255 - RAMP * 255)


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        (np.array([0, 255], np.uint16), (0, 255)),
        (np.array([0, 256], np.uint16), (0, 1023)),
        (np.array([5000, 5001], np.uint16), (0, 16383)),
        (np.array([0, 65535], np.uint16), (0, 65535)),
        (np.array([0, 3], np.uint16), (0, 3)),
        (np.array([0, 0], np.uint16), (0, 1)),
        (np.array([0, 100, 255], np.int32), (0, 255)),
        (np.array([-1024, 0, 3071] * 999, np.int32), (-1024, 3071)),
        (np.array([0, 10**6, 2 * 10**6] * 999, np.int32), (0, 2 * 10**6)),
        (np.array([0, 0.5, 0.9], np.float32), (0, 1)),
        (np.array([0, 100, 250], np.float32), (0, 255)),
        (np.array([0, 0.5, 1.05] * 999, np.float32), (0, 1.05)),
        (np.array([0, 0.05, 0.1] * 999, np.float32), (0, 0.1)),
        (np.array([-1, 0, 1] * 999, np.float32), (-1, 1)),
        (np.array([290, 300, 310] * 999, np.float32), (290, 310)),
        (np.array([np.nan, np.inf, -np.inf, 1], np.float32), (0, 1)),
        (np.array([np.nan], np.float32), (0, 1)),
        (np.array([*[0.0, 0.5] * 9999, 1e30], np.float32), (0, 0.5)),  # one value that is no measurement
    ],
)
def test_levels(values: NDArray[Any], levels: tuple[float, float]) -> None:
    assert levels_of(values) == levels


@pytest.mark.parametrize(
    ("values", "decoding", "expected"),
    [
        (np.array([[-1024, 1023, 3071]], np.int32), Decoding(3071.0, -1024.0), [[0, 127, 255]]),
        (np.array([[-9999, 0, 100, 300]], np.int32), Decoding(200.0), [[0, 0, 128, 255]]),
        (np.array([[0, 257, 65535]], np.int32), None, [[0, 1, 255]]),
        (np.array([[-5, -5, -5]], np.int32), None, [[0, 0, 0]]),
        (np.array([[0, 0.5, 1]], np.float32), None, [[0, 128, 255]]),
        (np.array([[np.nan, np.inf, 1]], np.float32), None, [[0, 0, 255]]),
        (np.array([[np.nan, -1, 0, 1]], np.float32), Decoding(1.0, -1.0), [[0, 0, 128, 255]]),
        (np.array([[0x7F800001, 0x3F800000, 0]], np.uint32).view(np.float32), None, [[0, 255, 0]]),  # a signalling NaN
        (np.array([[-3e38, 0.1, 3e38]], np.float32), None, [[0, 128, 255]]),
        (np.array([[0, 0.5, 2]], np.float32), Decoding(), [[0, 128, 255]]),  # floats: 1 is white
    ],
)
def test_grey_of_32_bits(values: NDArray[Any], decoding: Decoding | None, expected: list[list[int]]) -> None:
    pixels = decode(encoded(Image.fromarray(values), "TIFF"), decoding)
    assert np.abs(pixels - np.array(expected)).max() <= (decoding is None)


def test_signed_and_unsigned_types() -> None:
    signed = np.array([[-128, 0, 127]], np.int8)[..., None]
    np.testing.assert_array_equal(decode(tiff(signed, sample_format=2), Decoding(127.0, -128.0)), [[0, 128, 255]])
    high = np.array([[0, 2**31, 2**32 - 1]], np.uint32)[..., None]
    np.testing.assert_array_equal(decode(tiff(high), Decoding(2.0**32 - 1)), [[0, 128, 255]])


# One level for a dataset


def write_dataset(folder: Path, white: int, brightness: list[float]) -> None:
    for number, factor in enumerate(brightness):
        Image.fromarray((RAMP * factor * white).astype(np.uint16)).save(folder / f"{number}.png")


def test_one_white_for_a_dataset(tmp_path: Path) -> None:
    write_dataset(tmp_path, 4095, [1.0, 0.5, 0.05])
    source = open_source(tmp_path)
    assert source.decoding == Decoding(4095.0, 0.0, floats=True, channels=3)
    assert [load(source, index).max() for index in range(3)] == pytest.approx([255, 127.5, 12.75], abs=0.1)
    assert source.subset(np.array([2])).decoding == source.decoding  # not found from the one dark image
    assert load(source.subset(np.array([2])), 0).max() == np.float32(204 * 255 / 4095)
    source.decoding = source.decoding._replace(floats=False)
    assert load(source, 2).max() == 13
    found = survey_source(source)
    assert found.reasons == {
        "pixels": "3 of 3 sampled images hold more than 8 bits",
        "white": "sampled images of 16 bits reach 4,095: 12 bits",
    }


def test_a_level_that_is_given_wins(tmp_path: Path) -> None:
    write_dataset(tmp_path, 4095, [1.0, 0.5])
    source = open_source(tmp_path)
    source.decoding = Decoding(8190.0)
    assert load(source, 0).max() == 128
    assert survey_source(source, Decoding(8190.0)).decoding == Decoding(8190.0, floats=True, channels=3)
    assert survey_source(source, Decoding(8190.0, floats=False)).decoding == Decoding(8190.0, **PLAIN)
    with pytest.raises(UserError, match="--pixels bytes is for images of 1 or 3 channels, not 5"):
        Decoding.of({"pixels": "bytes", "channels": 5})
    with pytest.raises(UserError, match="white 5 must be greater than black 5"):
        Decoding.of({"white": 5, "black": 5})
    with pytest.raises(UserError, match="white 4095 must be greater than black 5000"):
        survey_source(source, Decoding(black=5000.0))


def test_eight_bits_depend_on_nothing(tmp_path: Path) -> None:
    photograph = (RANDOM.random((20, 30, 3)) * 255).astype(np.uint8)
    for kind in ("PNG", "JPEG", "WEBP", "TIFF"):
        data = encoded(Image.fromarray(photograph), kind)
        plain = decode(data)
        np.testing.assert_array_equal(decode(data, Decoding(100.0, 50.0, RED)), plain)
        assert inspect(data) == (False, None, 3, False)
    (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(photograph), "PNG"))
    assert survey_source(open_source(tmp_path)) == (Decoding(**PLAIN), {}, False, False)
    assert open_source("digits").decoding == Decoding(**PLAIN)


def test_a_survey_passes_over_what_cannot_be_read(tmp_path: Path) -> None:
    write_dataset(tmp_path, 1023, [1.0])
    (tmp_path / "a.png").write_bytes(b"nonsense")
    source = open_source(tmp_path)
    (tmp_path / "b.png").write_bytes(b"")
    assert source.decoding == Decoding(1023.0, 0.0, floats=True, channels=3)


# Transparency


@pytest.mark.parametrize("background", [WHITE, BLACK, RED])
def test_alpha_shows_the_background(background: tuple[int, int, int]) -> None:
    colour = RANDOM.integers(0, 256, (6, 9, 3))
    opacity = RANDOM.integers(0, 256, (6, 9))
    four = Image.fromarray(np.dstack([colour, opacity]).astype(np.uint8))
    decoding, expected = Decoding(background=background), shown(colour, opacity / 255, background)
    for data in (encoded(four, "PNG"), encoded(four, "TIFF"), encoded(four, "WEBP", lossless=True, exact=True)):
        assert inspect(data).has_alpha
        assert_near(decode(data, decoding), expected)
    grey = Image.merge("LA", [four.getchannel("R"), four.getchannel("A")])
    expected = shown(colour[..., :1], opacity / 255, background)
    expected = expected[..., 0] if background != RED else expected
    for kind in ("PNG", "TIFF"):
        assert_near(decode(encoded(grey, kind), decoding), expected)
    premultiplied = np.dstack([colour * (opacity[..., None] / 255), opacity]).round().astype(np.uint8)
    visible = np.where(opacity[..., None] > 99, shown(colour, opacity / 255, background), 0)
    pixels = decode(tiff(premultiplied, 2, extra=1), decoding)
    assert_near(np.where(opacity[..., None] > 99, pixels, 0).astype(np.uint8), visible, 2)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_one_grey_that_is_transparent(bits: int) -> None:
    most = 2**bits - 1
    samples = RANDOM.integers(0, most + 1, (6, 9, 1))
    samples[0, :2, 0] = 0, most
    for transparent in {0, most, most // 2}:
        pixels = decode(png(samples, bits, 0, (transparent,)), Decoding(float(most), background=(99, 99, 99)))
        expected = np.where(samples == transparent, 99, samples / most * 255)[..., 0]
        assert_near(pixels, expected, 0.51 if bits < 16 else 1)


@pytest.mark.parametrize("bits", [8, 16])
def test_one_colour_that_is_transparent(bits: int) -> None:
    samples = RANDOM.integers(0, 2**bits, (6, 9, 3))
    samples[2, 3] = samples[4, 5] = 7, 8, 9
    samples[2, 4] = 7, 8, 10
    data = png(samples, bits, 2, (7, 8, 9))
    expected = np.where((samples == (7, 8, 9)).all(-1, keepdims=True), RED, samples >> (bits - 8))
    np.testing.assert_array_equal(decode(data, Decoding(65535.0, background=RED)), expected)


def test_palettes_with_transparency() -> None:
    palette = Image.fromarray(RANDOM.integers(0, 256, (6, 9, 3), np.uint8)).quantize(16)
    colour, places = np.asarray(palette.convert("RGB")), np.asarray(palette)
    for kind in ("PNG", "GIF"):
        data = encoded(palette, kind, transparency=5)
        expected = np.where((places == 5)[..., None], RED, colour)
        np.testing.assert_array_equal(decode(data, Decoding(background=RED)), expected)
    opacities = RANDOM.integers(0, 256, 16, np.uint8)
    data = encoded(palette, "PNG", transparency=opacities.tobytes())
    assert_near(decode(data, Decoding(background=RED)), shown(colour, opacities[places] / 255, RED))


def test_a_bitmap_whose_alpha_is_all_zero_is_opaque() -> None:
    colour = Image.fromarray(RANDOM.integers(0, 256, (6, 9, 3), np.uint8))
    empty = Image.merge("RGBA", [*colour.split(), Image.new("L", colour.size, 0)])
    header = bytearray(encoded(empty, "BMP"))
    np.testing.assert_array_equal(decode(bytes(header)), np.asarray(colour))


def icons(folder: Path, ink: int, count: int = 6) -> None:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        alpha = np.roll(DISC, number - 3, 0).astype(np.uint8) * 255
        pixels = np.full((32, 32, 4), ink, np.uint8)
        pixels[..., 3] = alpha
        Image.fromarray(pixels).save(folder / f"{ink}-{number}.png")


def test_shapes_in_the_alpha_channel_alone(tmp_path: Path) -> None:
    icons(tmp_path / "dark", 0)
    source = open_source(tmp_path / "dark")
    assert source.decoding == Decoding(background=WHITE, **PLAIN)
    np.testing.assert_array_equal(load(source, 3), np.repeat(np.where(DISC, 0, 255)[..., None], 3, -1))
    assert survey_source(source).reasons == {"background": "alpha channel in 6 of the sampled images"}


def test_white_shapes_do_not_vanish(tmp_path: Path) -> None:
    icons(tmp_path, 255)
    found = survey_source(open_source(tmp_path))
    assert found.decoding == Decoding(background=BLACK, **PLAIN)
    assert found.reasons == {"background": "over white 6 of 6 sampled images with an alpha channel vanish"}
    given = Decoding(background=WHITE, **PLAIN)
    assert survey_source(open_source(tmp_path), Decoding(background=WHITE)).decoding == given
    icons(tmp_path, 0, 5)  # now five vanish over black, and six over white
    assert survey_source(open_source(tmp_path)).decoding == Decoding(background=(128, 128, 128), **PLAIN)
    assert all(not is_nearly_one_colour(load(open_source(tmp_path), index)) for index in range(11))


def test_nearly_one_colour() -> None:
    assert is_nearly_one_colour(np.full((30, 30), 7, np.uint8))
    assert is_nearly_one_colour(RANDOM.integers(0, 16, (30, 30, 3), np.uint8))
    assert not is_nearly_one_colour((RAMP * 255).astype(np.uint8))
    hot = np.zeros((64, 64), np.uint8)
    hot[5, 5] = 255
    assert is_nearly_one_colour(hot)


# Bands, where the package that reads them is missing


@pytest.mark.parametrize(
    ("samples", "options", "words"),
    [
        (RANDOM.random((8, 8, 13)).astype(np.uint16), {}, "13 bands of 16 bits (grey)"),
        (
            RANDOM.random((8, 8, 13)).astype(np.uint16),
            {"planes": 2, "big_endian": 1},
            "13 bands of 16 bits (grey), big",
        ),
        (
            RANDOM.random((8, 8, 3)).astype(np.float32),
            {"photometric": 2, "sample_format": 3},
            "3 bands of 32-bit floats",
        ),
        (RANDOM.random((8, 8, 3)).astype(np.int16), {"photometric": 2, "sample_format": 2}, "3 bands of 16-bit signed"),
        (RANDOM.random((8, 8, 1)), {"sample_format": 3}, "1 band of 64-bit floats"),
        (RANDOM.random((8, 8, 2)).astype(np.uint16), {"extra": 2}, "2 bands of 16 bits"),
    ],
)
def test_bands_are_named(
    samples: NDArray[Any],
    options: dict[str, int],
    words: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tifffile", None)
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []  # pytest's own, without which Python prints what nobody takes
    try:
        with pytest.raises(Unreadable, match="needs the package tifffile: pip install 'gemel\\[formats\\]'") as caught:
            decode(tiff(samples, **options))
    finally:
        root.handlers = handlers
    assert caught.value.reason.startswith(f"TIFF of {words}")
    assert capfd.readouterr() == ("", "")


def test_a_survey_of_bytes() -> None:
    images = [encoded(Image.fromarray((RAMP * 1000 * k).astype(np.uint16)), "PNG") for k in (1, 4)]
    assert survey([lambda data=data: data for data in images]).decoding == Decoding(
        4095.0, 0.0, floats=True, channels=3
    )
