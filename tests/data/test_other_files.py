"""Arrays, DICOM and TIFF of any channels, bits and pages: the exact numbers, and what they mean."""

import sys
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scans import dicom, npy, npz, tiff

from gemel.data.decode import Unreadable, decode, exact, glance, load
from gemel.data.pixel_values import Decoding, Display, channels_last, to_levels
from gemel.data.sources import open_source
from gemel.data.survey import survey, survey_source
from gemel.errors import UserError

for _package in ("tifffile", "pydicom"):
    pytest.importorskip(_package, reason="of gemel[formats], is not installed")

RANDOM = np.random.default_rng(0)
TYPES = [np.uint8, np.uint16, np.int16, np.int32, np.uint32, np.float32, np.float64]


def values(kind: type[Any], *shape: int) -> NDArray[Any]:
    if np.dtype(kind).kind == "f":
        return RANDOM.normal(0, 1000, shape).astype(kind)
    limits = np.iinfo(kind)
    return RANDOM.integers(limits.min, limits.max, shape, kind, endpoint=True)


def photometric(channels: int) -> dict[str, Any]:
    return {"photometric": "rgb"} if channels == 3 else {"photometric": "minisblack", "planarconfig": "contig"}


FORMATS: dict[str, Callable[[NDArray[Any]], bytes]] = {
    "npy": npy,
    "npz": lambda one: npz(image=one, other=np.zeros(3)),
    "npy, channels first": lambda one: npy(np.moveaxis(one, -1, 0)),
    "tiff": lambda one: tiff(one, **photometric(one.shape[-1])),
    "tiff, planes": lambda one: tiff(np.moveaxis(one, -1, 0), planarconfig="separate", photometric="minisblack"),
    "tiff, tiled": lambda one: tiff(one, tile=(16, 16), **photometric(one.shape[-1])),
    "tiff, zlib": lambda one: tiff(one, compression="zlib", predictor=True, **photometric(one.shape[-1])),
    "tiff, big-endian": lambda one: tiff(one, byteorder=">", **photometric(one.shape[-1])),
    "big tiff": lambda one: tiff(one, bigtiff=True, **photometric(one.shape[-1])),
    "ome": lambda one: tiff(np.moveaxis(one, -1, 0), ome=True, metadata={"axes": "CYX"}, photometric="minisblack"),
}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("channels", [2, 3, 5, 13, 32])
@pytest.mark.parametrize("name", FORMATS)
def test_the_exact_numbers(name: str, channels: int, kind: type[Any]) -> None:
    wanted = values(kind, 40, 48, channels)
    if (name, kind) == ("tiff, zlib", np.uint32) or (channels, name) == (3, "ome"):
        wanted = wanted[:, ::-1]  # a view whose rows are not in order
    found = exact(FORMATS[name](np.ascontiguousarray(wanted)))
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int16, np.float32])
def test_grey_files(kind: type[Any]) -> None:
    wanted = values(kind, 20, 30)
    for data in (npy(wanted), npy(wanted[..., None]), npy(wanted[None]), tiff(wanted), tiff(wanted, tile=(16, 16))):
        np.testing.assert_array_equal(exact(data), wanted)
    if kind == np.uint16:
        file = BytesIO()
        Image.fromarray(wanted).save(file, "PNG")
        np.testing.assert_array_equal(exact(file.getvalue()), wanted)
    if np.dtype(kind).kind != "f":
        np.testing.assert_array_equal(exact(dicom(wanted)), wanted)


def test_colour_png_of_16_bits() -> None:
    import struct
    import zlib

    wanted = values(np.uint16, 6, 5, 3)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in wanted)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", 5, 6, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(exact(data), wanted)
    shown = decode(data, Decoding(floats=True, channels=3))
    np.testing.assert_allclose(shown, wanted / 65535 * 255, rtol=1e-6)


# ---- pages


@pytest.mark.parametrize(
    ("axes", "shape", "first", "channels"),
    [
        ("ZYX", (4, 20, 24), (20, 24), (20, 24, 4)),
        ("CYX", (4, 20, 24), (20, 24, 4), (20, 24, 4)),
        ("ZCYX", (3, 2, 20, 24), (20, 24, 2), (20, 24, 6)),
    ],
)
def test_pages(axes: str, shape: tuple[int, ...], first: tuple[int, ...], channels: tuple[int, ...]) -> None:
    stack = values(np.uint16, *shape)
    data = tiff(stack, imagej=True, metadata={"axes": axes})
    page = stack[0] if axes != "CYX" else stack
    np.testing.assert_array_equal(exact(data), np.moveaxis(page, 0, -1) if page.ndim == 3 else page)
    assert exact(data).shape == first
    assert exact(data, Decoding(pages="channels")).shape == channels
    brightest = exact(data, Decoding(pages="max"))
    wanted = stack if axes == "CYX" else stack.max(0)
    np.testing.assert_array_equal(brightest, np.moveaxis(wanted, 0, -1) if wanted.ndim == 3 else wanted)


def test_pages_of_no_known_meaning() -> None:
    pages = values(np.uint8, 3, 20, 24)
    data = tiff(pages, metadata=None, photometric="minisblack")
    np.testing.assert_array_equal(decode(data), pages[0])
    np.testing.assert_array_equal(exact(data, Decoding(pages="channels")), np.moveaxis(pages, 0, -1))
    frames = values(np.uint16, 4, 8, 9)
    np.testing.assert_array_equal(exact(dicom(frames)), frames[0])
    np.testing.assert_array_equal(exact(dicom(frames), Decoding(pages="max")), frames.max(0))


def test_an_array_that_tifffile_has_written_in_rows() -> None:
    """tifffile.imwrite makes pages of (W, C) of an array (H, W, C), and notes its shape."""
    array = values(np.uint16, 40, 48, 5)
    np.testing.assert_array_equal(exact(tiff(array)), array)
    stack = values(np.uint8, 5, 40, 48)
    np.testing.assert_array_equal(exact(tiff(stack)), stack[0])


def test_all_bands_are_read_where_their_number_is_given() -> None:
    bands = values(np.uint8, 20, 24, 4)
    data = tiff(bands, photometric="rgb", extrasamples=["unspecified"])
    assert decode(data).shape == (20, 24, 3)
    np.testing.assert_array_equal(exact(data, Decoding(channels=4)), bands)


# ---- what the numbers mean


@pytest.mark.parametrize(
    ("tags", "levels"),
    [
        ({}, [0, 0, 1000 / 65535, 2000 / 65535]),
        ({"WindowCenter": 1000, "WindowWidth": 2001}, [0, 0, 1 / 2, 1]),
        ({"WindowCenter": ["1000", "5"], "WindowWidth": ["1001", "3"]}, [0, 0, 1 / 2, 1]),
        ({"WindowCenter": 1000, "WindowWidth": 2000, "VOILUTFunction": "LINEAR_EXACT"}, [0, 0, 1 / 2, 1]),
        ({"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 1000, "WindowWidth": 4001}, [0, 0, 1 / 2, 1]),
        ({"WindowCenter": 1000, "WindowWidth": 2001, "PhotometricInterpretation": "MONOCHROME1"}, [1, 1, 1 / 2, 0]),
        ({"WindowCenter": 1000, "WindowWidth": 0}, [0, 0, 1000 / 65535, 2000 / 65535]),
    ],
)
def test_windows_of_dicom(tags: dict[str, Any], levels: list[float]) -> None:
    stored = np.array([[-5, 0, 1000, 2000]], np.int16)
    data = dicom(stored, **tags)
    found = decode(data, Decoding(floats=True, channels=3))
    np.testing.assert_allclose(found[0] / 255, levels, atol=1e-3)
    wanted = stored * tags.get("RescaleSlope", 1) + tags.get("RescaleIntercept", 0)
    np.testing.assert_array_equal(exact(data), wanted)
    np.testing.assert_allclose(decode(data, Decoding(floats=False, channels=3))[0] / 255, levels, atol=3e-3)
    if "WindowCenter" in tags and "RescaleSlope" not in tags:
        asked = decode(data, Decoding(white=4000.0, floats=True, channels=3))[0, 3]
        assert asked == pytest.approx(127.5), "a given white has precedence"


def test_yes_and_no() -> None:
    mask = RANDOM.random((8, 9)) > 0.5
    for floats in (False, True):
        found = decode(npy(mask), Decoding(floats=floats, channels=3))
        np.testing.assert_array_equal(found, mask * 255)


def test_colour_dicom() -> None:
    wanted = values(np.uint8, 8, 9, 3)
    np.testing.assert_array_equal(decode(dicom(wanted)), wanted)


KINDS = [np.uint16, np.int16, np.int32, np.float32, np.float64]


@given(st.sampled_from(KINDS), st.integers(0, 2**32), st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_levels(kind: type[Any], seed: int, black: float, span: float) -> None:
    """Black is 0 and white 255, between them nothing is rounded, and nothing lies beyond; NaN is black."""
    random = np.random.default_rng(seed)
    array = (random.normal(0, 1, 12) * 10.0 ** random.integers(-3, 9, 12)).astype(kind)
    if np.dtype(kind).kind == "f":
        array[:3] = np.nan, np.inf, -np.inf
    found = to_levels(array, Decoding(black + span, black))
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 255
    exactly = np.where(np.isnan(array), 0, ((array.astype(np.float64) - black) / span * 255).clip(0, 255))
    np.testing.assert_allclose(found, exactly, rtol=1e-5, atol=255 * max(1.0, abs(black)) / span * 1e-6)


def test_a_survey_finds_channels_and_bits(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.npy").write_bytes(npy(RANDOM.random((16, 18, 13)).astype(np.float32)))
    (tmp_path / "odd.npy").write_bytes(npy(RANDOM.random((16, 18, 4))))
    source = open_source(tmp_path)
    found = survey_source(source)
    assert found.decoding == Decoding(1.0, 0.0, floats=True, channels=13)
    assert found.reasons["channels"] == "5 of 6 sampled images have them"
    assert load(source, 0).shape == (16, 18, 13)
    assert glance((tmp_path / "0.npy").read_bytes(), source.decoding, least=4)[1:] == (16, 18)
    with pytest.raises(Unreadable, match="has 4 channels, where the dataset's images have 13"):
        load(source, 5)
    grey = survey([lambda: npy(values(np.uint8, 8, 8)), lambda: values(np.uint8, 8, 8, 3)])
    assert grey.decoding == Decoding(floats=False, channels=3)
    with pytest.raises(UserError, match="--pixels bytes is for images of 1 or 3 channels, not 13"):
        survey_source(source, Decoding(floats=False))


def test_photographs_beside_arrays(tmp_path: Path) -> None:
    """What lies beside photographs as .npy is something else: features, masks."""
    np.save(tmp_path / "features.npy", np.zeros((9, 9)))
    assert len(open_source(tmp_path)) == 1
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    source = open_source(tmp_path)
    assert (len(source), source.passed_over) == (1, {".npy": 1})


# ---- damage


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (npy(np.zeros(7)), r"holds an array of shape \(7,\), no image"),
        (npy(np.zeros((4, 4), complex)), "holds complex128, no real numbers"),
        (npy(np.zeros((40, 50, 60))), "has 60 channels, more than 32"),
        (npy(np.zeros((9, 9)))[:-5], "broken array"),
        (npz(a=np.zeros((2, 2)), b=np.zeros((2, 2))), "holds the arrays a, b; call the image's one image"),
        (b"PK\3\4" + b"\0" * 60, "broken array"),
        (b"\0" * 128 + b"DICM" + b"nonsense", "broken or unsupported DICOM"),
        (dicom(np.zeros((8, 8), np.uint16))[:-40], "broken or unsupported DICOM"),
        (tiff(np.zeros((20, 20, 5), np.uint16), **photometric(5))[:-1500], "TIFF of 5 bands of 16 bits"),
        (b"II*\0" + b"\xff" * 90, "broken: starts as a TIFF file"),
    ],
    ids=range(10),
)
def test_reasons(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        decode(data)


SAMPLES = [
    npy(values(np.float32, 9, 9, 4)), npz(image=values(np.uint8, 9, 9)), dicom(values(np.uint16, 9, 9)),
    tiff(values(np.uint16, 9, 9, 5), **photometric(5)),
    tiff(values(np.uint8, 2, 9, 9), imagej=True, metadata={"axes": "CYX"}),
]  # fmt: skip


@settings(max_examples=30)
@given(st.sampled_from(SAMPLES), st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=4), st.data())
def test_any_damage_gives_an_array_or_a_reason(
    sample: bytes, changes: list[tuple[int, int]], data: st.DataObject
) -> None:
    damaged = bytearray(sample)
    for place, byte in changes:
        damaged[place % len(damaged)] = byte
    cut = damaged[: data.draw(st.integers(1, len(damaged)))]
    for one in (damaged, cut):
        with suppress(Unreadable):
            found = decode(bytes(one), Decoding(floats=True, channels=data.draw(st.sampled_from([3, 4, 5]))))
            assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("package", "data"),
    [("tifffile", SAMPLES[3]), ("pydicom", SAMPLES[2]), ("tifffile", SAMPLES[4])],
)
def test_a_missing_package_is_named(package: str, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(Unreadable, match=rf"needs the package {package}: pip install 'gemel\[formats\]'"):
        decode(data)


# ---- pictures


def test_pictures() -> None:
    """Faint channels are seen; grey and colour of 8 bits stay what they are."""
    photograph = values(np.uint8, 9, 9, 3)
    assert Display().picture(photograph) is photograph
    np.testing.assert_array_equal(Display((2, 1, 0)).picture(photograph), photograph[..., ::-1])
    faint = np.stack([RANDOM.random((30, 30)) * scale for scale in (255, 1, 0.01, 100)], -1).astype(np.float32)
    mean, std = (tuple(one / 255) for one in (faint.mean((0, 1)), faint.std((0, 1))))
    shown = Display((3, 2, 1), mean, std).picture(faint)
    assert (shown.shape, shown.dtype) == ((30, 30, 3), np.uint8)
    assert shown.std((0, 1)).min() > 35
    assert Display(None, mean[:1], std[:1]).picture(faint[..., 1]).ndim == 2
    two = Display().picture(faint[..., :2])
    assert two.shape == (30, 30, 3)
    assert not two[..., 2].any()
    settings = {"composite": [3, 1, 0], "pixels": "floats", "views": {"mean": [0.1] * 4, "std": [1.0] * 4}}
    assert Display.of(settings) == Display((3, 1, 0), (0.1,) * 4, (1.0,) * 4)
    assert channels_last(np.zeros((3, 8, 8, 5)), stacked=True).shape == (3, 8, 8, 5)
