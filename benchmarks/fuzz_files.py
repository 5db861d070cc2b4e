"""Damaged image files, made from real photographs and digits, and what becomes of them on the way to a run."""

import csv
import io
import multiprocessing
import os
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from gemel.cli.main import main
from gemel.data.batches import InferenceLoader, Loader
from gemel.data.decode import Unreadable, load
from gemel.data.plan import Plan
from gemel.data.sources import Source, open_source
from gemel.settings.recipes import PhotoViews

Random = np.random.Generator
Damage = Callable[[bytearray, Random, list[bytes]], bytearray]

TINY = [
    "--epochs", "1", "--image-size", "16", "--batch-size", "32", "--backbone", "convnet", "--backbone.widths", "8",
    "--backbone.strides", "2", "--method.hidden", "8", "--classes", "4", "--workers", "2", "--threads", "1",
]  # fmt: skip
"""a run that takes seconds"""

PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""of an interlaced PNG: first column and row, steps across and down"""

SLOPE_LIMIT = 2000.0
"""bytes of memory a file, above which it is not called flat: a leak of the smallest image here would be more"""


def originals(seed: int) -> list[tuple[str, bytes]]:
    """(ending, bytes) of whole files in every format that is read, several pictures each."""
    random = np.random.default_rng(seed)
    photographs, digits = load_sample_images().images, load_digits().images
    files: list[tuple[str, bytes]] = []
    for number in range(6):
        photograph = photographs[number % 2]
        top, left = int(random.integers(0, 300)), int(random.integers(0, 500))
        side = int(random.integers(24, 120))
        picture = Image.fromarray(photograph[top : top + side, left : left + side + 9])
        digit = Image.fromarray((digits[int(random.integers(len(digits)))] * 15.9).astype(np.uint8)).resize((28, 28))
        wide = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
        for one in (picture, digit):
            files += [("jpg", _file(one, "JPEG")), ("jpg", _file(one, "JPEG", progressive=True))]
            files += [("png", _file(one, "PNG")), ("png", _file(one.convert("P"), "PNG"))]
            files += [("gif", _file(one, "GIF", save_all=True, append_images=[one.rotate(90), one.rotate(180)]))]
            files += [("webp", _file(one.convert("RGB"), "WEBP")), ("bmp", _file(one, "BMP"))]
            files += [("tif", _file(one, "TIFF")), ("tif", _file(one, "TIFF", compression="tiff_lzw"))]
            files += [("ppm", _file(one, "PPM")), ("webp", _file(one.convert("RGBA"), "WEBP", lossless=True))]
        files += [("jpg", _file(picture.convert("CMYK"), "JPEG")), ("png", _file(wide, "PNG"))]
        files += [("tif", _file(picture, "TIFF", compression="jpeg")), ("png", _interlaced(picture))]
    return files


def _file(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _interlaced(picture: Image.Image) -> bytes:
    """Pillow writes no interlaced PNG, so the seven passes are laid out here."""
    pixels = np.asarray(picture)
    rows: list[bytes] = []
    for x, y, across, down in PASSES:
        rows += [b"\0" + row.tobytes() for row in pixels[y::down, x::across] if row.size]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", picture.width, picture.height, 8, 2, 0, 0, 1)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _cut(data: bytearray, random: Random, _others: list[bytes]) -> bytearray:
    return data[: int(random.integers(0, len(data)))]


def _flip(data: bytearray, random: Random, _others: list[bytes]) -> bytearray:
    for place in random.integers(0, len(data), int(random.integers(1, 9))):
        data[int(place)] ^= 1 << int(random.integers(8))
    return data


def _zeros(data: bytearray, random: Random, _others: list[bytes]) -> bytearray:
    start = int(random.integers(0, len(data)))
    run = min(len(data) - start, int(random.integers(1, 400)))
    data[start : start + run] = bytes(run)
    return data


def _header(data: bytearray, random: Random, others: list[bytes]) -> bytearray:
    length = int(random.integers(2, 40))
    return bytearray(others[int(random.integers(len(others)))][:length]) + data[length:]


def _splice(data: bytearray, random: Random, others: list[bytes]) -> bytearray:
    other = others[int(random.integers(len(others)))]
    return data[: int(random.integers(0, len(data)))] + other[int(random.integers(0, len(other))) :]


def _noise(_data: bytearray, random: Random, _others: list[bytes]) -> bytearray:
    return bytearray(random.bytes(int(random.integers(0, 3000))))


def _sizes(data: bytearray, random: Random, _others: list[bytes]) -> bytearray:
    """The first fields of all formats hold sizes: one of them becomes huge, zero or negative."""
    place = int(random.integers(4, min(len(data), 200) - 4))
    length = int(random.choice([2, 4]))
    value = [b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00", b"\x00\x00\x4e\x20"]
    data[place : place + length] = value[int(random.integers(len(value)))][:length]
    return data


def _whole(data: bytearray, _random: Random, _others: list[bytes]) -> bytearray:
    return data


DAMAGES: dict[str, Damage] = {
    "truncated": _cut,
    "bits flipped": _flip,
    "run of zeros": _zeros,
    "another's header": _header,
    "spliced": _splice,
    "random bytes": _noise,
    "sizes overwritten": _sizes,
    "wrong ending": _whole,
}


def write_files(folder: Path, count: int, seed: int) -> dict[str, str]:
    """Write `count` files; what was done to each, by its path."""
    random = np.random.default_rng(seed)
    whole = originals(seed)
    others = [data for _, data in whole]
    endings = sorted({ending for ending, _ in whole})
    done: dict[str, str] = {}
    for number in range(count):
        kind = list(DAMAGES)[number % len(DAMAGES)]
        ending, data = whole[int(random.integers(len(whole)))]
        if kind == "wrong ending":
            ending = endings[(endings.index(ending) + 1 + int(random.integers(len(endings) - 1))) % len(endings)]
        path = folder / f"{number % 7}" / f"{number:05}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(DAMAGES[kind](bytearray(data), random, others))
        done[str(path)] = kind
    return done


class Findings:
    """What was counted, and what ought not to have been."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []
        self.faults: list[str] = []

    def check(self, holds: bool, fault: str) -> None:
        if not holds:
            self.faults.append(fault)


def campaign(folder: Path, count: int, seed: int, found: Findings) -> list[tuple[str, int, int]]:
    """Take the files through every room; rows (damage, images, rejected)."""
    images = folder / "images"
    kinds = write_files(images, count, seed)
    source = open_source(images)
    reasons, slope = decode_all(source, found)
    found.rows.append(("memory a file, second pass over all of them", f"{slope:+.0f} bytes"))
    found.check(slope < SLOPE_LIMIT, f"memory grows by {slope:.0f} bytes a file")
    take_through_loaders(source, reasons, found)
    take_through_runs(images, folder, {source.path(place): reason for place, reason in reasons.items()}, found)
    total, bad = Counter(kinds.values()), Counter(kinds[source.path(place)] for place in reasons)
    return [(kind, total[kind] - bad[kind], bad[kind]) for kind in DAMAGES]


def decode_all(source: Source, found: Findings) -> tuple[dict[int, str], float]:
    """Reasons of the unreadable files; and the growth of memory in bytes a file, over the second of two passes."""
    reasons: dict[int, str] = {}
    places: list[int] = []
    memory: list[int] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(2 * len(source)):
            place = number % len(source)
            try:
                pixels = load(source, place)
                kind = np.float32 if source.decoding.floats else np.uint8  # some of the images have 16 bits
                valid = pixels.dtype == kind and pixels.size > 0 and (pixels.ndim == 2 or pixels.shape[2:] == (3,))
                valid = valid and bool(np.isfinite(pixels).all())
                found.check(valid, f"{source.path(place)}: {pixels.dtype} {pixels.shape}")
            except Unreadable as error:
                reasons[place] = error.reason
                found.check(bool(error.reason) and error.reason.isprintable(), f"{source.path(place)}: no reason")
            except Exception as error:  # noqa: BLE001  that there is none is what is tested
                found.faults.append(f"{source.path(place)}: {type(error).__name__}: {error}")
            if number >= len(source):
                places.append(number)
                memory.append(resident())
    return reasons, float(np.polyfit(places, memory, 1)[0])


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def take_through_loaders(source: Source, reasons: dict[int, str], found: Findings) -> None:
    """Both loaders with two workers: the same files are refused, all others come out."""
    crops = InferenceLoader(source, size=32, glyph=False, batch_size=64, workers=2)
    seen = [place for _, places in crops for place in places.tolist()]
    found.check(crops.rejected == reasons, "the inference loader refused other files than the decoder")
    found.check(len(seen) == len(source) - len(reasons), "the inference loader lost images")
    plan = Plan(source, PhotoViews(), 24, seed=0, batch_size=min(64, len(source)))
    loader = Loader(plan, workers=2)
    batches = sum(1 for _ in loader)
    found.check(batches == plan.steps_per_epoch, "the loader lost batches")
    found.check(set(loader.rejected) <= set(reasons), "the loader refused other files than the decoder")
    found.rows.append(("workers that died in two loaders with two workers each", "0"))


def forked(words: list[str], printed: Path) -> tuple[int | None, str]:
    """Run a command in a process of its own, which need not import anything; its exit code, and what it printed."""
    process = multiprocessing.get_context("fork").Process(target=_run, args=(words, printed))
    process.start()
    process.join()
    return process.exitcode, printed.read_text(encoding="utf-8")


def _run(words: list[str], printed: Path) -> None:
    target = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(target, stream)
    main(words)


def take_through_runs(images: Path, folder: Path, reasons: dict[str, str], found: Findings) -> None:
    """Two runs in processes of their own: one that accepts every loss, one with the default limit of 5 %."""
    for words, code in ((["--max-rejected", "1"], 0), ([], 2)):
        out = folder / f"run-{code}"
        left, printed = forked(["pretrain", str(images), "--out", str(out), *TINY, *words], folder / "printed")
        shown = "\n".join(printed.splitlines()[-3:])
        found.rows.append((f"gemel pretrain {' '.join(words) or '(at most 5 % rejected)'}", f"leaves with {left}"))
        found.check(left == code, f"pretrain left with {left}, not {code}: {shown}")
        found.check("Traceback" not in printed, f"pretrain showed a traceback: {shown}")
        half = [str(path) for path in out.rglob("*.part")]
        found.check(not half, f"half-written files: {half}")
        with (out / "rejected.csv").open(newline="", encoding="utf-8") as file:
            told = {row["path"]: row["reason"] for row in csv.DictReader(file)}
        complete = told == reasons if code == 0 else told.items() <= reasons.items()
        found.check(complete and bool(told), f"rejected.csv has {len(told)} rows for {len(reasons)} files")
        kept = (out / "checkpoints" / "last.ckpt").is_file()
        found.check(kept, "no checkpoint was kept")
