"""Archives, shards, tables and databases: the folder's images, read at random; damage is told, changes are noticed."""

import io
import os
import pickle
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from packed import KINDS, write_images
from pyarrow import parquet

import gemel
from conftest import TINY
from gemel.data.batches import Loader
from gemel.data.decode import Unreadable, load
from gemel.data.messages import in_full
from gemel.data.plan import Plan
from gemel.data.sources import Source, members, open_source, rows
from gemel.data.sources.identity import first_listed, groups, version_key
from gemel.data.sources.tar_archive import BLOCK
from gemel.errors import UserError
from gemel.settings.recipes import PhotoViews

COUNT = 12

NEEDS_LMDB = pytest.mark.skipif("lmdb" not in KINDS, reason="lmdb, of gemel[formats], is not installed")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images, and the same images in every other way beside it."""
    place = tmp_path_factory.mktemp("packed")
    files = write_images(place / "images", COUNT)
    for write in KINDS.values():
        write(place, place / "images", files)
    return place


def named(place: Path, kind: str) -> str:
    words = {
        "folder": "images", "zip": "images.zip", "tar": "images.tar", "shards": "shards", "parquet": "images.parquet",
        "datasets": "dataset", "csv": "images.csv", "paths": "paths.parquet", "lmdb": "images.lmdb",
    }  # fmt: skip
    return f"memory://{place.name}" if kind == "remote" else str(place / words[kind])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gemel" / "listings"


def contents(source: Source) -> list[Any]:
    return [source.read(index) for index in range(len(source))]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_images_in_the_same_order(kind: str, place: Path) -> None:
    folder, source = open_source(place / "images"), open_source(named(place, kind))
    assert contents(source) == contents(folder)
    assert not source.in_memory
    paths = [source.path(index) for index in range(COUNT)]
    assert len(set(paths)) == COUNT
    assert all(path.startswith((str(place), f"memory://{place.name}")) for path in paths)
    copied = pickle.loads(pickle.dumps(source))  # for another process
    assert len(pickle.dumps(source)) < 20_000
    assert copied.read(7) == source.read(7)
    assert len({version_key(source), version_key(folder)}) == (1 if kind in ("csv", "paths") else 2)
    assert len(first_listed(source)) == COUNT
    plans = [Plan(one, PhotoViews(), 16, 3, 4) for one in (folder, source)]
    for one, two in zip(*(Loader(plan, workers=2) for plan in plans), strict=True):
        assert all(torch.equal(first, second) for first, second in zip(one.views, two.views, strict=True))


@pytest.mark.parametrize("kind", ["shards", "parquet", "datasets", "csv", "paths"])
def test_labels_that_come_along(kind: str, place: Path) -> None:
    source, folder = open_source(named(place, kind)), open_source(place / "images", labels="folders")
    assert source.label_names == ["a", "b"]
    np.testing.assert_array_equal(source.labels, folder.labels)
    assert open_source(named(place, kind), labels="none").labels is None


@pytest.mark.parametrize("kind", ["parquet", "csv", "paths"])
def test_any_column_may_be_the_labels(kind: str, place: Path) -> None:
    source = open_source(named(place, kind), labels="weight")
    assert source.label_names == ["1.5"]
    with pytest.raises(UserError, match=r"labels 'wieght': no such file; .* the table has the columns .*weight"):
        open_source(named(place, kind), labels="wieght")


@pytest.mark.parametrize("kind", ["zip", "tar", "shards", "remote"])
def test_folders_inside_are_labels(kind: str, place: Path, tmp_path: Path) -> None:
    folder = open_source(place / "images", labels="folders")
    np.testing.assert_array_equal(open_source(named(place, kind), labels="folders").labels, folder.labels)
    cells = [f"{folder.key(index)},{index}" for index in range(COUNT)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *cells]))
    np.testing.assert_array_equal(open_source(named(place, kind), labels=tmp_path / "labels.csv").labels, range(COUNT))


def test_what_is_passed_over_is_counted(place: Path) -> None:
    assert open_source(place / "shards").passed_over == {"further image of a sample": COUNT}
    assert open_source(str(place / "shards" / "part-{000..002}.tar")).passed_over["further image of a sample"] == COUNT
    assert len(open_source(str(place / "shards" / "part-*.tar"))) == COUNT
    assert len(open_source([place / "shards" / f"part-00{number}.tar" for number in range(2)])) == 8
    with pytest.raises(UserError, match=r"1 of 4 files of .* are not there: .*part-003.tar"):
        open_source(str(place / "shards" / "part-{000..003}.tar"))


@NEEDS_LMDB
def test_values_that_are_no_images(place: Path) -> None:
    source = open_source(place / "images.lmdb")
    assert source.passed_over == {"value that is no image": 1}
    again = open_source(place / "images.lmdb")  # twice in a process, which the library refuses
    assert again.read(3) == source.read(3)


def test_patterns_are_written_out(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """A run is continued from any working folder."""
    monkeypatch.chdir(place)
    assert in_full("shards/part-{000..002}.tar") == str(place / "shards" / "part-{000..002}.tar")
    assert in_full("memory://x/{a}") == "memory://x/{a}"


def test_an_archive_of_one_folder(place: Path, tmp_path: Path) -> None:
    """`zip -r photos.zip photos`: labels and keys are those below the one folder that holds all."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in (place / "images").rglob("*.png"):
            archive.write(file, Path("photos") / file.relative_to(place / "images"))
        archive.writestr("__MACOSX/photos/._0001.png", b"hidden")
        archive.writestr("photos/notes.txt", b"text")
    source = open_source(tmp_path / "a.zip", labels="folders")
    assert (source.label_names, source.key(0), source.passed_over) == (["a", "b"], "a/0000.png", {".txt": 1})
    assert source.path(0) == f"{tmp_path}/a.zip/photos/a/0000.png"


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zip(kind: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", kind) as archive:
        archive.writestr("ä/b.png", b"old")
        archive.writestr("ä/b.png", b"0123456789" * 100)
        archive.writestr("empty.png", b"")
    data = b"before" + (tmp_path / "a.zip").read_bytes()  # as programs that unpack themselves begin
    (tmp_path / "a.zip").write_bytes(data)
    source = open_source(tmp_path / "a.zip")
    assert [source.key(index) for index in range(2)] == ["empty.png", "ä/b.png"]
    assert source.passed_over == {"replaced by a later member": 1}
    if kind == zipfile.ZIP_LZMA:
        with pytest.raises(Unreadable, match="compressed by zip's method 14; pack it with deflate"):
            load(source, 1)
        return
    assert contents(source) == [b"", b"0123456789" * 100]


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tars")


ENTRIES = st.lists(st.tuples(st.text("aä/. 1", min_size=1, max_size=130), st.binary(max_size=1200)), max_size=8)


@given(ENTRIES, st.data())
def test_tars_of_all_formats(tars: Path, entries: list[tuple[str, bytes]], data: st.DataObject) -> None:
    """Long names, prefixes and records of POSIX, GNU's long names: as tarfile reads them."""
    file = tars / f"{time.time_ns()}.tar"
    kind = data.draw(st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    with tarfile.open(file, "w", format=kind) as archive:
        for name, content in entries:
            member = tarfile.TarInfo(f"{name}.png")
            member.size, member.mtime = len(content), data.draw(st.sampled_from([1.5, 7]))
            try:
                archive.addfile(member, io.BytesIO(content))
            except ValueError:  # too long for USTAR
                continue
    with tarfile.open(file) as archive:
        wanted = {one.name.removeprefix("./"): archive.extractfile(one).read() for one in archive}  # type: ignore[union-attr]
    wanted = {name: one for name, one in wanted.items() if not name.startswith(".") and "/." not in name}
    if not wanted:
        with pytest.raises(UserError, match="no images in"):
            open_source(file)
        return
    source = open_source(file)
    top = source.path(0).removesuffix(source.key(0)).removeprefix(f"{file}/")
    assert {top + source.key(index): source.read(index) for index in range(len(source))} == wanted
    file.unlink()


def test_a_damaged_member_is_skipped_and_told(place: Path, tmp_path: Path) -> None:
    data = bytearray((place / "images.zip").read_bytes())
    with zipfile.ZipFile(place / "images.zip") as archive:
        first = archive.getinfo("a/0000.png")
    data[first.header_offset + 60] ^= 255
    (tmp_path / "images.zip").write_bytes(data)
    source = open_source(tmp_path / "images.zip")
    loader = Loader(Plan(source, PhotoViews(), 16, 0, 4))
    assert sum(len(batch.index) for batch in loader) == COUNT
    assert list(loader.rejected) == [0]
    assert loader.rejected[0].startswith("damaged in the archive")
    with pytest.raises(Unreadable, match="damaged in the archive"):
        load(source, 0)
    assert contents(source.subset(np.arange(1, COUNT))) == contents(open_source(place / "images"))[1:]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("images.tar", lambda data: data[: len(data) // 2 // BLOCK * BLOCK + 7], "is damaged or cut short"),
        (
            "images.tar",
            lambda data: data[: data.rindex(b"ustar")] + b"x" + data[data.rindex(b"ustar") + 1 :],
            "is damaged or cut short",
        ),
        ("images.tar", lambda data: b"\x1f\x8b" + data[2:], r"compressed as a whole \(gzip\)"),
        ("images.tar", lambda data: b"text" * 300, "is no tar archive"),
        ("images.tar", lambda data: b"", "no images in"),
        ("images.zip", lambda data: data[: len(data) // 2], "can't be read as a zip archive"),
        ("images.parquet", lambda data: data[: len(data) // 2], "can't be read as vectors"),
        ("dataset/data-00000-of-00002.arrow", lambda data: b"nonsense" * 9, "can't be read as a table"),
        ("images.tar.gz", lambda data: data, "is compressed as a whole"),
        ("many.{1..900000}.tar", lambda data: data, "means 900,000 files"),
    ],
    ids=range(10),
)
def test_damaged_archives(
    name: str, change: Callable[[bytes], bytes], message: str, place: Path, tmp_path: Path
) -> None:
    path = tmp_path / Path(name).name
    if "{" not in name:
        path.write_bytes(change((place / name).read_bytes() if (place / name).is_file() else b"x"))
    with pytest.raises(UserError, match=message):
        open_source(path)


@pytest.mark.parametrize("kind", ["zip", "tar", "parquet", "datasets", pytest.param("lmdb", marks=NEEDS_LMDB)])
def test_a_change_is_noticed(kind: str, tmp_path: Path) -> None:
    files = write_images(tmp_path / "images", COUNT)
    words = str(tmp_path / KINDS[kind](tmp_path, tmp_path / "images", files))
    source = open_source(words)
    before = version_key(source)
    packed = next(file for file in ([Path(words)] if Path(words).is_file() else sorted(Path(words).iterdir()))
                  if file.suffix in (".zip", ".tar", ".parquet", ".arrow", ".mdb"))  # fmt: skip
    source.read(0)
    os.utime(packed, ns=(1, 1))
    with pytest.raises(OSError, match="has changed since it was listed"):
        source.read(1)
    assert version_key(open_source(words)) != before


def test_the_table_of_many_members_is_kept(
    cache: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans: list[int] = []
    add = members.Found.add
    monkeypatch.setattr(members.Found, "add", lambda self, *words: (scans.append(1), add(self, *words)))
    monkeypatch.setattr(members, "CACHED_FROM", 4)
    archive = tmp_path / "images.zip"
    archive.write_bytes((place / "images.zip").read_bytes())
    os.utime(archive, ns=(10**18, 10**18))
    first = open_source(archive)
    assert len(list(cache.glob("*.members"))) == 1
    scans.clear()
    again = open_source(archive)
    assert not scans
    assert contents(again) == contents(first)
    assert [again.path(index) for index in range(COUNT)] == [first.path(index) for index in range(COUNT)]
    open_source(archive, rescan=True)
    assert scans
    os.utime(archive, ns=(10**18, 10**18 + 1))
    scans.clear()
    open_source(archive)
    assert scans
    shards = [(place / "shards" / f"part-00{number}.tar") for number in range(3)]
    for one in shards:
        os.utime(one, ns=(10**18, 10**18))
    wanted = open_source(shards).labels
    scans.clear()
    np.testing.assert_array_equal(open_source(shards).labels, wanted)
    assert not scans


def test_several_threads_and_copies(place: Path, tmp_path: Path) -> None:
    source, wanted = open_source(place / "images.parquet"), contents(open_source(place / "images"))
    failed: list[int] = []

    def read(seed: int) -> None:
        for index in np.random.default_rng(seed).integers(0, COUNT, 200).tolist():
            if source.read(index) != wanted[index]:
                failed.append(index)

    threads = [threading.Thread(target=read, args=[seed]) for seed in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not failed
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        for name in ("a.png", "b.png"):
            archive.writestr(name, wanted[0])
    np.testing.assert_array_equal(groups(open_source(tmp_path / "twice.zip")), [0, 0])


def test_row_groups_are_let_go(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "KEPT_BYTES", 1)
    assert contents(open_source(place / "images.parquet")) == contents(open_source(place / "images"))


def test_columns_of_bytes_and_rows_without_an_image(tmp_path: Path, place: Path) -> None:
    data = (place / "images" / "a" / "0000.png").read_bytes()
    (tmp_path / "0.png").write_bytes(data)
    structs = [{"bytes": data, "path": "x.png"}, {"bytes": None, "path": "0.png"}, {"bytes": None, "path": None}]
    for number, column in enumerate((pa.array([data, data, None]), pa.array(structs))):
        parquet.write_table(pa.table({"picture": column}), tmp_path / f"{number}.parquet")
        source = open_source(tmp_path / f"{number}.parquet")
        assert [source.read(index) for index in range(2)] == [data, data]
        with pytest.raises(Unreadable, match="the row holds no image"):
            load(source, 2)
    for split in ("train", "test"):
        parquet.write_table(pa.table({"image": [data]}), tmp_path / f"{split}-00000-of-00001.parquet")
    with pytest.raises(UserError, match=r"holds several splits: test, train; give one, as '.*/test-\*.parquet'"):
        open_source(str(tmp_path / "t*-of-*.parquet"))
    assert len(open_source(str(tmp_path / "train-*.parquet"))) == 1


def test_splits_of_a_dataset_dictionary(place: Path, tmp_path: Path) -> None:
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(UserError, match=rf"holds several splits; give one of them: {tmp_path}/train, {tmp_path}/test"):
        open_source(tmp_path)


def test_what_the_datasets_library_writes(place: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the datasets library, which gemel does without")
    files = sorted((place / "images").rglob("*.png"))
    made = datasets.Dataset.from_dict({"image": [str(file) for file in files], "label": [0, 1] * (COUNT // 2)})
    made = made.cast_column("image", datasets.Image()).cast_column("label", datasets.ClassLabel(names=["x", "y"]))
    made.save_to_disk(tmp_path / "saved", num_shards=2)
    made.to_parquet(tmp_path / "made.parquet")
    for words in ("saved", "made.parquet"):
        source = open_source(tmp_path / words)
        assert contents(source) == contents(open_source(place / "images"))
        assert (source.label_names, source.labels.tolist()) == (["x", "y"], [0, 1] * (COUNT // 2))


def test_addresses(place: Path) -> None:
    with pytest.raises(UserError, match="fsspec knows no memry://; did you mean memory"):
        open_source("memry://photos")
    with pytest.raises(UserError, match="no images at memory://nowhere"):
        open_source("memory://nowhere")


@pytest.mark.parametrize("package", [pytest.param("lmdb", marks=NEEDS_LMDB), "fsspec"])
def test_a_missing_package_is_named(package: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"needs the package {package}: pip install 'gemel\[formats\]'"):
        open_source(place / "images.lmdb" if package == "lmdb" else "memory://x")


def test_arrays_of_files_and_from_files(place: Path, tmp_path: Path) -> None:
    wanted = contents(open_source(place / "images"))
    source = open_source(wanted)
    assert contents(source) == wanted
    images = np.random.default_rng(0).integers(0, 65536, (4, 5, 20, 20)).astype(np.uint16)
    np.save(tmp_path / "images.npy", images)
    np.savez(tmp_path / "images.npz", images=np.moveaxis(images, 1, -1), labels=["x", "y", "x", "y"])
    for words in (images, list(images), tmp_path / "images.npy", tmp_path / "images.npz"):
        source = open_source(words)
        assert source.in_memory
        np.testing.assert_array_equal(source.read(2), np.moveaxis(images[2], 0, -1))
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read(2), source.read(2))
    assert open_source(tmp_path / "images.npz").label_names == ["x", "y"]


def test_the_same_weights_from_an_archive(place: Path, tmp_path: Path) -> None:
    words: dict[str, Any] = TINY | {"method": {"name": "barlow_twins", "projector": [8, 8]}}
    runs = [
        gemel.pretrain(named(place, kind), out=tmp_path / kind, epochs=1, batch_size=4, image_size=16, **words)
        for kind in ("folder", "zip")
    ]
    one, two = (gemel.backbone(run).state_dict() for run in runs)
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert runs[1].settings["images"] == named(place, "zip")
