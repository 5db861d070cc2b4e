import io
import logging
import os
import pickle
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps
from sklearn.datasets import load_sample_images

from gemel.data import quiet_readers as room
from gemel.data.decode import Unreadable, decode, load
from gemel.data.sources import open_source

PHOTOGRAPH = Image.fromarray(load_sample_images().images[0]).resize((40, 30))
GREY = PHOTOGRAPH.convert("L")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def with_orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    exif[0x010F] = "a camera"
    return exif


def reason(data: bytes) -> str:
    with pytest.raises(Unreadable) as caught:
        decode(data)
    assert caught.value.reason
    assert caught.value.reason.isprintable()
    assert str(pickle.loads(pickle.dumps(caught.value))) == caught.value.reason  # workers send it home
    return caught.value.reason


FILES = {
    "jpeg": encoded(PHOTOGRAPH, "JPEG", exif=with_orientation(6)),
    "progressive": encoded(PHOTOGRAPH, "JPEG", progressive=True),
    "cmyk": encoded(PHOTOGRAPH.convert("CMYK"), "JPEG"),
    "png": encoded(PHOTOGRAPH, "PNG", exif=with_orientation(3)),
    "palette": encoded(PHOTOGRAPH.convert("P"), "PNG", transparency=3),
    "alpha": encoded(PHOTOGRAPH.convert("RGBA"), "PNG"),
    "bits": encoded(PHOTOGRAPH.convert("1"), "PNG"),
    "gif": encoded(PHOTOGRAPH, "GIF", save_all=True, append_images=[PHOTOGRAPH.rotate(90)]),
    "tiff": encoded(PHOTOGRAPH, "TIFF", exif=with_orientation(8)),
    "lzw": encoded(PHOTOGRAPH, "TIFF", compression="tiff_lzw"),
    "float": encoded(PHOTOGRAPH.convert("F"), "TIFF"),
    "bmp": encoded(PHOTOGRAPH, "BMP"),
    "webp": encoded(PHOTOGRAPH, "WEBP", exif=with_orientation(2)),
    "lossless": encoded(PHOTOGRAPH.convert("RGBA"), "WEBP", lossless=True),
    "ppm": encoded(PHOTOGRAPH, "PPM"),
    "pgm": encoded(GREY, "PPM"),
}


@pytest.mark.parametrize("name", FILES)
def test_as_pillow(name: str) -> None:
    pixels = decode(FILES[name])
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous
    with Image.open(io.BytesIO(FILES[name])) as image:
        upright = ImageOps.exif_transpose(image)
    mode = "L" if upright.mode in ("1", "L", "F") else "RGB"
    if "transparency" in upright.info:
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright.convert("RGBA"))
    expected = np.asarray(upright.convert(mode))
    tolerance = 1 if name == "float" else 0  # Pillow cuts, we round
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("value", range(1, 9))
def test_orientation(kind: str, value: int) -> None:
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    turned = decode(encoded(PHOTOGRAPH, kind, exif=with_orientation(value), **options))
    plain = decode(encoded(PHOTOGRAPH, kind, **options))
    by_hand = {
        1: plain, 2: plain[:, ::-1], 3: plain[::-1, ::-1], 4: plain[::-1], 5: plain.transpose(1, 0, 2),
        6: np.rot90(plain, -1), 7: plain[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(plain),
    }  # fmt: skip
    np.testing.assert_array_equal(turned, by_hand[value])


def test_a_broken_exif_block_does_not_spoil_the_picture() -> None:
    data = encoded(PHOTOGRAPH, "WEBP", lossless=True, exif=b"Exif\0\0MM\0\0nonsense")
    np.testing.assert_array_equal(decode(data), np.asarray(PHOTOGRAPH))
    strange = encoded(PHOTOGRAPH, "PNG", exif=with_orientation(77))
    np.testing.assert_array_equal(decode(strange), np.asarray(PHOTOGRAPH))


def test_shapes_of_modes() -> None:
    for mode, kind in (("1", "PNG"), ("L", "PNG"), ("LA", "PNG"), ("L", "JPEG"), ("I;16", "PNG"), ("LA", "TIFF")):
        assert decode(encoded(Image.new(mode, (5, 3)), kind)).shape == (3, 5)
    for mode, kind in (
        ("P", "PNG"),
        ("RGBA", "PNG"),
        ("CMYK", "TIFF"),
        ("YCbCr", "JPEG"),
        ("LAB", "TIFF"),
        ("P", "GIF"),
    ):
        assert decode(encoded(Image.new(mode, (5, 3)), kind)).shape == (3, 5, 3)


def test_reasons() -> None:
    assert reason(b"") == "empty file (0 bytes)"
    assert reason(bytes(1000)) == "nothing but zero bytes (1,000 of them)"
    assert reason(b"<html>nicht gefunden: \xc3\xa4</html>") == "text, not an image"
    assert reason("ä".encode() * 257) == "text, not an image"
    assert reason(b"\x01\x02\x03" * 9).startswith("not an image, or of an unknown format")
    assert reason(FILES["jpeg"][:200]).startswith("truncated")
    assert reason(FILES["jpeg"][:4]).startswith("broken: starts as a JPEG")
    assert reason(FILES["png"][:-200]).startswith("truncated")
    assert reason(b"II*\0\x08\0\0\0\1\0").startswith("broken: starts as a TIFF")
    assert reason(encoded(PHOTOGRAPH, "ICO")).startswith("not an image")  # Pillow knows it, we don't
    assert reason(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") == "text, not an image"


def test_promises_of_too_many_pixels() -> None:
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False  # half an image must not pass for one
    one_too_many = b"P5 100000001 1 255\n"
    assert reason(one_too_many) == "promises 100,000,001 x 1 pixels, more than 100,000,000"
    assert reason(b"P5 400000 1000 255\n") == "promises more than 100,000,000 pixels"
    assert reason(b"P5 95000 1000 255\n" + bytes(9)).startswith("truncated")  # Pillow alone would warn
    bomb = bytearray(FILES["png"])
    bomb[16:24] = (60_000).to_bytes(4) * 2  # the width and height of IHDR, whose checksum fails first
    assert reason(bytes(bomb)).startswith("broken")
    assert "pixels" in reason(FILES["gif"][:6] + b"\xff\xff\xff\xff" + FILES["gif"][10:])


def test_the_largest_that_is_read() -> None:
    pixels = decode(encoded(Image.new("1", (10_000, 10_000)), "PNG"))
    assert pixels.shape == (10_000, 10_000)


@settings(max_examples=1000)
@given(
    st.sampled_from(list(FILES)),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=12),
    st.integers(0, 4000),
    st.booleans(),
)
def test_damaged_files(name: str, changes: list[tuple[int, int]], cut: int, is_cut: bool) -> None:
    data = bytearray(FILES[name])
    for place, value in changes:
        data[place % len(data)] = value
    try:
        pixels = decode(bytes(data[: cut % len(data)] if is_cut else data))
    except Unreadable as error:
        assert error.reason.isprintable()  # noqa: PT017  either is allowed
    else:
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 2 or pixels.shape[2:] == (3,)
        assert pixels.size


@settings(max_examples=300)
@given(st.binary(max_size=200), st.sampled_from([data[:24] for data in FILES.values()]))
def test_any_bytes(data: bytes, start: bytes) -> None:
    for one in (data, start + data):
        with pytest.raises(Unreadable):
            decode(one)


def test_warnings_of_others_stay_as_they_were() -> None:
    before, handlers = list(warnings.filters), list(logging.getLogger("PIL").handlers)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(30):
                decode(FILES["palette"])
        except BaseException as error:  # noqa: BLE001  a thread's exceptions are lost otherwise
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert warnings.filters == before
    assert logging.getLogger("PIL").handlers == handlers
    with pytest.raises(UserWarning, match="ours"):
        warnings.warn("ours", stacklevel=1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_while_another_thread_decodes_does_not_hang() -> None:
    with room._lock:  # pyright: ignore[reportPrivateUsage]
        child = os.fork()
        if not child:
            os._exit(0 if decode(FILES["png"]).size else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_load(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(FILES["png"])
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "c.png").write_bytes(FILES["png"])
    source = open_source(tmp_path)
    assert load(source, 0).shape == (30, 40, 3)
    with pytest.raises(Unreadable, match="empty file"):
        load(source, 1)
    (tmp_path / "c.png").unlink()
    with pytest.raises(Unreadable, match="vanished: no such file"):
        load(source, 2)
    (tmp_path / "c.png").mkdir()
    with pytest.raises(Unreadable, match="not a regular file"):
        load(source, 2)
    assert load(open_source("digits"), 0).shape == (8, 8)


@pytest.mark.skipif(os.name == "nt", reason="no pipes")
def test_a_pipe_is_no_image_and_does_not_hang(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(FILES["png"])
    source = open_source(tmp_path)
    (tmp_path / "a.png").unlink()
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(Unreadable, match="not a regular file"):
        load(source, 0)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(FILES["png"])
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(Unreadable, match="permission denied"):
        load(open_source(tmp_path), 0)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc")
def test_no_file_stays_open(tmp_path: Path) -> None:
    for name, data in FILES.items():
        (tmp_path / f"{name}.png").write_bytes(data[:-100])
        (tmp_path / f"{name}_whole.png").write_bytes(data)
    source = open_source(tmp_path)
    before = sorted(Path("/proc/self/fd").iterdir())
    for index in range(len(source)):
        try:
            load(source, index)
        except Unreadable:
            continue
    assert sorted(Path("/proc/self/fd").iterdir()) == before
