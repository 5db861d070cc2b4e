"""Bad input, all of it: files, names, settings and disks end with a reason, and leave nothing half-written."""

import csv
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pyarrow import parquet

import gemel
from conftest import write_photos
from forked import command
from gemel.cli.main import main
from gemel.data.batches import InferenceLoader, Loader
from gemel.data.decode import Unreadable, load
from gemel.data.plan import Plan
from gemel.data.sources import open_source
from gemel.runs.run import Run
from gemel.settings.recipes import PhotoViews

SMALL = ["--epochs", "1", "--image-size", "16", "--batch-size", "8", "--backbone", "convnet", "--backbone.widths", "8",
         "--backbone.strides", "2", "--method.hidden", "8", "--workers", "0", "--threads", "1"]  # fmt: skip

TENFOLD = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{number}: &a{number} [{','.join([f'*a{number - 1}'] * 10)}]\n" for number in range(1, 10)
)


def says(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and errors of a command."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main(words)
    return int(left.value.code or 0), capsys.readouterr().err


def test_a_folder_of_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What can be shown is learned from, all else is told with its reason; a run of it ends well."""
    images = tmp_path / "images"
    photos = write_photos(images, 24)
    picture = Image.open(photos[0])
    picture.convert("CMYK").save(images / "cmyk.jpg")
    Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257).save(images / "16bit.png")
    picture.convert("P").save(images / "palette.png")
    picture.save(images / "animated.gif", save_all=True, append_images=[picture.rotate(90)])
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(images / "rotated.jpg", exif=exif)
    Image.new("RGB", (1, 1), "red").save(images / "one_pixel.png")
    whole = photos[1].read_bytes()
    (images / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (images / "empty.jpg").write_bytes(b"")
    (images / "text.jpg").write_text("not found")
    (images / "loop.jpg").symlink_to("loop.jpg")
    (images / "up").symlink_to(".")
    Image.new("1", (20_000, 10_000)).save(images / "huge.png")
    strange = Path(os.fsdecode(os.fsencode(images) + b"/\xff\xfe.jpg"))
    strange.write_bytes(b"")
    out = tmp_path / "run"
    code, errors = says(["pretrain", str(images), "--out", str(out), "--max-rejected", "1", *SMALL], capsys)
    assert code == 0, errors
    with (out / "rejected.csv").open(encoding="utf-8", newline="") as file:
        reasons = {Path(row["path"]).name: row["reason"] for row in csv.DictReader(file)}
    assert set(reasons) == {"truncated.jpg", "empty.jpg", "text.jpg", "loop.jpg", "huge.png", r"\udcff\udcfe.jpg"}
    assert reasons["truncated.jpg"].startswith("truncated")
    assert reasons["empty.jpg"] == "empty file (0 bytes)"
    assert reasons["text.jpg"] == "text, not an image"
    assert "symbolic links" in reasons["loop.jpg"]
    assert reasons["huge.png"] == "promises more than 100,000,000 pixels" or "20,000 x 10,000" in reasons["huge.png"]
    assert not list(out.rglob("*.part"))
    source = open_source(images)
    rotated = next(place for place in range(len(source)) if source.path(place).endswith("rotated.jpg"))
    assert load(source, rotated).shape == (picture.width, picture.height, 3)


@pytest.mark.parametrize("kind", ["png", "ppm"])
def test_a_huge_image_takes_no_memory(tmp_path: Path, kind: str) -> None:
    """20,000 x 10,000 pixels would be 600 MB; the process may have 200 MB beyond what it has."""
    path = tmp_path / f"huge.{kind}"
    if kind == "png":
        Image.new("1", (20_000, 10_000)).save(path)
    else:
        with path.open("wb") as file:  # whole, but sparse: 600 MB that take no room on the disk
            file.write(b"P6 20000 10000 255\n")
            file.truncate(600_000_019)
    code = (
        "import resource, sys\nfrom gemel.data.decode import Unreadable, load\n"
        "from gemel.data.sources import open_source\n"
        "source = open_source(sys.argv[1])\nbefore = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: load(source, 0)\nexcept Unreadable as error: print(error.reason)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    reason, grown = done.stdout.splitlines()
    assert "more than" in reason
    assert int(grown) < 200_000


@pytest.mark.parametrize("workers", [0, 2])
def test_files_that_vanish(tmp_path: Path, workers: int) -> None:
    photos = sorted(write_photos(tmp_path, 16))
    source = open_source(tmp_path)
    for path in photos[:5]:
        path.unlink()
    loader = InferenceLoader(source, size=16, glyph=False, batch_size=4, workers=workers)
    assert sum(len(places) for _, places in loader) == 11
    assert set(loader.rejected.values()) == {"vanished: no such file"}
    for path in photos[5:]:
        path.unlink()
    with pytest.raises(gemel.UserError, match=r"none of the 16 images of .* can be read") as caught:
        list(Loader(Plan(source, PhotoViews(), 16, 0, 8), workers=workers))
    assert "Traceback" not in str(caught.value), "a worker's mistake comes home as a sentence"


def test_one_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photos(tmp_path / "images", 1)
    code, errors = says(["pretrain", str(tmp_path / "images"), "--out", str(tmp_path / "run"), *SMALL], capsys)
    assert code == 2
    assert "holds one image" in errors
    assert not (tmp_path / "run").exists()


def test_names_that_are_not_utf_8(tmp_path: Path, digits_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (photo,) = write_photos(tmp_path / "images", 1)
    strange = os.fsdecode(os.fsencode(photo.parent) + b"/\xfcber.jpg")
    photo.rename(strange)
    for name in ("f.parquet", "f.npz", "f.csv"):
        words = ["classify", "--into", str(tmp_path / "links")] if name == "f.csv" else ["embed"]
        where = [str(digits_run.path), str(tmp_path / "images"), "--out", str(tmp_path / name)]
        code, errors = says([words[0], *where, *words[1:]], capsys)
        assert code == 0, errors
    assert parquet.read_table(tmp_path / "f.parquet").column("path").to_pylist()[0].endswith("\\udcfcber.jpg")
    assert "\\udcfcber.jpg" in (tmp_path / "f.csv").read_text(encoding="utf-8")
    (link,) = [path for path in (tmp_path / "links").rglob("*") if path.is_symlink()]
    assert link.resolve().is_file(), "the link leads to the file"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "give a mapping"),
        ("3\n", "holds 3; give a mapping"),
        ("epochs: 3\nepochs: 4\n", "the key epochs is given twice, the second time in line 2"),
        ("views: {flip: 0.1, flip: 0.2}\n", "the key flip is given twice"),
        (f"epochs: {'9' * 400}\n", "must be less than or equal to 1000000"),
        (f"epochs: {'9' * 5000}\n", "can't be read"),
        (f"epochs: 0x{'f' * 5000}\n", "a number of 20000 bits"),
        (f"views: {'[' * 3000}{']' * 3000}\n", "nests too deep"),
        (f"{TENFOLD}method: {{name: *a9}}\n", "aliases stand for more than 100,000 values"),
        ("epochs: &a [*a]\n", "holds itself"),
        ("epochs: 2001-13-45\n", "can't be read"),
        ("epochs: !!int x\nminutes: !!bool x\n", "can't be read"),
        ("images: !!python/object/apply:os.system ['touch ran']\n", "not YAML"),
        ("images: ''\n", "is empty"),
        ("images: " + "x" * 2_000_000, "more than 1,000,000 bytes"),
    ],
    ids=lambda text: text[:20],
)
def test_settings_files(text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    out = ["--out", str(tmp_path / "run")]
    code, errors = says(["pretrain", "--config", str(file), *out], capsys)
    assert code == 2
    assert message in errors
    assert len(errors) < 1000
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epochs", "1e400"], "--epochs must be"),
        (["--seed", str(2**70)], "--seed must be less than"),
        (["--batch-size", "9" * 5000], "--batch-size"),
        (["--minutes", "1e400"], "--minutes must be a finite number"),
        (["--config", "a\0b"], "null byte"),
        (["--labels", "x" * 300], "too long for a path"),
        (["--accumulate", "4"], "--accumulate is refused: the losses are made of the whole batch's statistics"),
        (["--accumulate-grad-batches", "4"], "take more processes, a smaller --image-size or --precision bf16"),
        (["--gradient-accumulation-steps", "4"], "refused"),
    ],
)
def test_flags(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, errors = says(["pretrain", *words], capsys)
    assert code == 2
    assert message in errors
    assert len(errors) < 1000


def test_accumulation_by_the_other_doors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("optimizer: {name: sgd, accumulate_steps: 2}\n")
    assert "optimizer.accumulate_steps in" in says(["pretrain", "--config", str(file)], capsys)[1]
    with pytest.raises(gemel.UserError, match="gradient_accumulation_steps is refused"):
        gemel.pretrain("digits", gradient_accumulation_steps=4)


def test_weights_that_would_run_code(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return (os.system, (f"touch {marker}",))

    torch.save({"state_dict": Evil()}, tmp_path / "zipped.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"state_dict": Evil()}, protocol=2))
    for name in ("zipped.pth", "plain.pth"):
        words = ["pretrain", str(photos), "--weights", str(tmp_path / name), "--out", str(tmp_path / "run"), *SMALL]
        code, errors = says(words, capsys)
        assert code == 2
        assert "can't be read as tensors" in errors
        assert not marker.exists()
        assert not (tmp_path / "run").exists()
    torch.load(tmp_path / "zipped.pth", weights_only=False)
    assert marker.exists(), "the file is one that would have run code"


def test_a_full_disk(tmp_path: Path, digits_run: Run, photos: Path) -> None:
    """A limit on the size of files stands for it: what was there stays, nothing half-written is left."""
    for name in ("f.parquet", "f.npz", "f.csv"):
        (tmp_path / name).write_text("as it was")
        words = ["classify" if name == "f.csv" else "embed", str(digits_run.path), str(photos), "--out"]
        code, _, errors = command(*words, str(tmp_path / name), largest=1000).end()
        assert code == 1, errors
        assert "File too large" in errors
        assert "Traceback" not in errors
        assert (tmp_path / name).read_text() == "as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.csv", "f.npz", "f.parquet"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc, which root cannot write to either")
def test_outputs_that_cannot_be_written(digits_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert says(["pretrain", "--out", "/proc/x", *SMALL], capsys)[0] == 2
    code, errors = says(["embed", str(digits_run.path), "digits", "--out", "/proc/f.npz"], capsys)
    assert code == 2
    assert "nothing can be written in /proc" in errors
    assert says(["report", str(digits_run.path), "--out", "/proc/x.html"], capsys)[0] == 2
    words = ["classify", str(digits_run.path), str(tmp_path), "--out", str(tmp_path / "f.csv"), "--into", "/proc/x"]
    assert says(words, capsys)[0] == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permissions(tmp_path: Path) -> None:
    (path,) = write_photos(tmp_path, 1)
    path.chmod(0)
    with pytest.raises(Unreadable, match="permission denied"):
        load(open_source(tmp_path), 0)
