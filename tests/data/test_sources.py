import os
import pickle
import random
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision.datasets
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from gemel.data import datasets, listing
from gemel.data.decode import FORMATS
from gemel.data.listing import Paths
from gemel.data.sources import ArraySource, Source, open_source, printable
from gemel.errors import UserError

AS_ROOT = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
LONG_AGO = 1_600_000_000


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches and data sets of each test for itself; relative paths are below `here`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GEMEL_DATA", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def fill(*names: str, folder: str = "photos") -> None:
    for name in names:
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def paths(source: Source) -> list[str]:
    return [source.path(index) for index in range(len(source))]


def mistake(images: Any, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        open_source(images, **options)
    return str(caught.value)


# ---- folders


def test_a_folder() -> None:
    names = [
        "b.jpg", "a/z.PNG", "a.jpeg", "a/b/c.TiFf", "a-b/x.webp", "a0/y.gif", "B.bmp", "ä/ö ü.pgm", "a/b.tif", "c.ppm",
    ]  # fmt: skip
    fill(*names, "notes.txt", "jpg", ".hidden.jpg", ".git/x.jpg", "lost+found/x.jpg", "a/.x/y.jpg", "x.jpg.part")
    source = open_source("photos")
    assert paths(source) == sorted(f"photos/{name}" for name in names)
    assert len(source) == len(names)
    assert source.name == "photos"
    assert (source.labels, source.label_names, source.stated_classes) == (None, [], None)
    for index, path in enumerate(paths(source)):
        assert source.read(index) == Path(path).relative_to("photos").as_posix().encode()


@pytest.mark.parametrize(
    ("given", "shown"),
    [("photos", "photos/"), ("photos/", "photos/"), ("./photos", "./photos/"), (Path("photos"), "photos/"),
     ("../here/photos", "../here/photos/")],
)  # fmt: skip
def test_paths_are_shown_as_the_folder_was_given(given: str | Path, shown: str) -> None:
    fill("a/b.jpg")
    assert paths(open_source(given)) == [shown + "a/b.jpg"]
    absolute = str(Path("photos").absolute())
    assert paths(open_source(absolute)) == [absolute + "/a/b.jpg"]


def test_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd()))
    fill("b.jpg")
    assert len(open_source("~/photos")) == 1


def test_a_change_of_the_working_folder_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    fill("b.jpg")
    source = open_source("photos")
    monkeypatch.chdir("/")
    assert source.path(0) == "photos/b.jpg"
    assert source.read(0) == b"b.jpg"


@given(st.integers(0, 2**32))
def test_order_does_not_depend_on_the_file_system(seed: int) -> None:
    """Whatever order the names come in, the walk gives them sorted."""
    names = [f"{a}{b}.jpg" for a in ("", "a/", "a-/", "a.b/", "b/a/") for b in ("a", "b", "-", "a.b")]
    shuffled = random.Random(seed)
    real = os.scandir

    class Shuffled:
        def __init__(self, place: bytes) -> None:
            with real(place) as entries:
                self.entries = sorted(entries, key=lambda _: shuffled.random())

        def __enter__(self) -> list[os.DirEntry[bytes]]:
            return self.entries

        def __exit__(self, *_: object) -> None: ...

    fill(*names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", Shuffled)
        found = paths(open_source("photos"))
    assert found == sorted(f"photos/{name}" for name in names)


def test_links() -> None:
    fill("a/one.jpg", "b/two.jpg")
    fill("three.jpg", "deep/four.jpg", folder="elsewhere")
    Path("photos/0-link").symlink_to("../elsewhere")
    Path("photos/again").symlink_to("b")  # a folder in the tree: goes by its own name
    Path("photos/a/up").symlink_to("..")  # a loop
    Path("photos/a/itself").symlink_to("itself")
    Path("photos/file.jpg").symlink_to("../elsewhere/three.jpg")
    Path("photos/nowhere.jpg").symlink_to("missing.jpg")
    Path("photos/folder.jpg").symlink_to("b")
    source = open_source("photos")
    assert paths(source) == [
        "photos/0-link/deep/four.jpg", "photos/0-link/three.jpg", "photos/a/one.jpg", "photos/b/two.jpg",
        "photos/file.jpg", "photos/nowhere.jpg",
    ]  # fmt: skip
    assert source.read(4) == b"three.jpg"
    with pytest.raises(FileNotFoundError):
        source.read(5)  # reported as unreadable, not passed over
    Path("linked").symlink_to("photos")
    assert len(open_source("linked")) == 6


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_utf_8() -> None:
    fill("b.jpg")
    place = os.fsencode("photos") + b"/\xfcber/\xff.jpg"
    path = Path(os.fsdecode(place))
    path.parent.mkdir()
    path.write_bytes(b"here")
    source = open_source("photos", labels="folders")
    assert source.path(1) == "photos/\udcfcber/\udcff.jpg"
    assert source.read(1) == b"here"
    assert printable(source.path(1)) == "photos/\\udcfcber/\\udcff.jpg"
    assert source.label_names == ["\\udcfcber"]
    assert printable("ä\n") == "ä\n"


def test_many_files_are_small_to_send() -> None:
    fill(*(f"folder/image-{number:05}.jpg" for number in range(500)))
    source = open_source("photos")
    sent = pickle.dumps(source)
    assert len(sent) < 500 * 40
    assert paths(pickle.loads(sent)) == paths(source)


def test_index_out_of_range() -> None:
    fill("b.jpg")
    for index in (-1, 1):
        with pytest.raises(IndexError):
            open_source("photos").read(index)


def test_folders_without_images() -> None:
    Path("empty").mkdir()
    assert "empty is empty" in mistake("empty")
    fill("a.txt", "b/c.TXT", "d.py", "README", ".hidden.jpg", folder="texts")
    message = mistake("texts")
    assert (
        "4 other files (2 .txt, 1 .py, 1 no ending)" in message
        or "4 other files (2 .txt, 1 no ending, 1 .py)" in message
    )
    assert "jpg" in message


@AS_ROOT
def test_folders_that_may_not_be_read() -> None:
    fill("a/b.jpg", "c/d.jpg")
    Path("photos/a").chmod(0)
    try:
        assert "photos/a cannot be read" in mistake("photos")
    finally:
        Path("photos/a").chmod(0o700)


def test_folders_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """As root, too."""
    fill("a/b.jpg", "c/d.jpg", "e/f.jpg")
    real = os.scandir

    def refuse(place: bytes) -> Any:
        if place.endswith(b"/a"):
            raise PermissionError(13, "Permission denied")
        if place.endswith(b"/c"):
            raise FileNotFoundError(2, "vanished in this moment")
        return real(place)

    monkeypatch.setattr(os, "scandir", refuse)
    assert "photos/a cannot be read: Permission denied" in mistake("photos")
    monkeypatch.setattr(os, "scandir", lambda place: real(place) if place[-2:] != b"/a" else refuse(b"/c"))
    assert len(open_source("photos")) == 2


def test_every_ending_of_the_formats_that_are_read() -> None:
    Image.init()
    endings = {ending[1:] for ending, format in Image.EXTENSION.items() if format in (*FORMATS, "MPO")}
    assert {"jpe", "jfif", "apng", "pnm"} <= endings <= {suffix.decode() for suffix in listing.SUFFIXES}
    names = [f"{number}.{suffix.decode()}" for number, suffix in enumerate(sorted(listing.SUFFIXES))]
    fill(*names, "x.JPE", "a.avif", "b.AVIF", "notes.txt", "Makefile", "x.000123")
    source = open_source("photos")
    assert len(source) == len(names) + 1
    assert source.passed_over == {".avif": 2, ".txt": 1, "no ending": 2}


def test_links_to_images_that_are_listed_themselves() -> None:
    """As `gemel classify --into` makes them: absolute links, some to links."""
    fill("a/1.jpg", "a/2.jpg", ".hidden/3.jpg")
    fill("4.jpg", folder="elsewhere")
    Path("photos/a/4.jpg").symlink_to("../../elsewhere/4.jpg")
    Path("photos/a/3.jpg").symlink_to("../.hidden/3.jpg")
    expected = ["photos/a/1.jpg", "photos/a/2.jpg", "photos/a/3.jpg", "photos/a/4.jpg"]
    assert paths(open_source("photos")) == expected
    for name in ("1", "2", "3", "4"):
        link = Path(f"photos/Sorted/00/{name}.jpg")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(f"photos/a/{name}.jpg").absolute())
    Path("photos/b.jpg").symlink_to("Sorted/00/1.jpg")
    Path("photos/c.jpg").symlink_to("a/../Sorted/../a/2.jpg")
    Path("same").symlink_to("photos")
    for folder in ("photos", "same"):
        source = open_source(folder)
        assert paths(source) == [path.replace("photos", folder) for path in expected]
        assert source.passed_over == {"link to a listed image": 6}
    assert len(open_source("photos/Sorted")) == 4, "links alone are images"


def test_folders_of_runs_hold_no_images() -> None:
    fill("a/1.jpg", "runs/twist-1/run.yaml", "runs/twist-1/pictures/2.jpg", "runs/twist-1/3.png", "runs/4.jpg")
    source = open_source("photos")
    assert paths(source) == ["photos/a/1.jpg", "photos/runs/4.jpg"]
    assert source.passed_over == {"folder of a gemel run": 1}
    assert len(open_source("photos/runs/twist-1")) == 2, "the folder that is named is searched"


# ---- the cache of listings


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Folders that were walked through; five images are enough for the cache."""
    made: list[bytes] = []
    real = listing._walk  # pyright: ignore[reportPrivateUsage]

    def walk(root: bytes) -> listing.Listing:
        made.append(root)
        return real(root)

    monkeypatch.setattr(listing, "_walk", walk)
    monkeypatch.setattr(listing, "CACHED_FROM", 4)
    fill("a/1.jpg", "a/2.jpg", "b/c/3.jpg", "b/c/4.jpg", "5.jpg")
    age()
    return made


def age() -> None:
    """Make every folder lie still since long."""
    for folder, _, _ in os.walk("photos"):
        os.utime(folder, (LONG_AGO, LONG_AGO))


def stored() -> list[Path]:
    return list(Path(os.environ["XDG_CACHE_HOME"]).rglob("*.listing"))


def test_a_second_start_reuses_the_listing(walks: list[bytes]) -> None:
    fill("notes.txt")
    age()
    first = paths(open_source("photos"))
    again = open_source("./photos/")
    assert paths(again) == ["./" + path for path in first]
    assert again.passed_over == {".txt": 1}
    assert len(walks) == 1
    open_source("photos", rescan=True)
    assert len(walks) == 2
    Path("photos/a/1.jpg").write_bytes(b"other")  # in place
    assert open_source("photos").read(1) == b"other"
    assert len(walks) == 2


def test_changes_are_seen(walks: list[bytes]) -> None:
    open_source("photos")
    changes = [
        lambda: fill("b/c/6.jpg"),
        lambda: Path("photos/a/1.jpg").unlink(),
        lambda: fill("new/7.jpg"),
        lambda: Path("photos/b").rename("photos/bb"),
        lambda: Path("photos/a/empty").mkdir(),
    ]
    for number, change in enumerate(changes, 2):
        change()
        found = paths(open_source("photos"))
        assert found == sorted(str(path) for path in Path("photos").rglob("*.jpg"))
        assert len(walks) == number
        age()
        open_source("photos", rescan=True)
        walks.pop()


def test_another_folder_in_the_same_place(walks: list[bytes]) -> None:
    open_source("photos")
    Path("photos").rename("old")
    fill("9.jpg")
    age()
    assert paths(open_source("photos")) == ["photos/9.jpg"]
    assert len(walks) == 2


def test_a_folder_that_has_just_changed_is_not_remembered(walks: list[bytes]) -> None:
    """Another file in the same tick of the clock would not change the folder's time."""
    os.utime("photos/b")
    open_source("photos")
    assert stored() == []
    time.sleep(0.15)
    open_source("photos")
    assert len(stored()) == 1
    assert len(walks) == 2


def test_small_folders_are_not_remembered(walks: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "CACHED_FROM", 5)
    open_source("photos")
    assert stored() == []


@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "text", "folder"])
def test_a_corrupt_cache_is_renewed(walks: list[bytes], damage: str) -> None:
    first = paths(open_source("photos"))
    [file] = stored()
    data = file.read_bytes()
    file.unlink()
    if damage == "folder":
        file.mkdir()
    else:
        changed = data[:900] + bytes([data[900] ^ 1]) + data[901:]
        file.write_bytes({"empty": b"", "cut": data[:-9], "changed": changed, "text": b"x" * 5000}[damage])
    assert paths(open_source("photos")) == first
    assert len(walks) == 2
    if damage != "folder":
        assert paths(open_source("photos")) == first
        assert len(walks) == 2


def test_a_cache_of_another_version(walks: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    open_source("photos")
    monkeypatch.setattr(listing, "_FORMAT", 99)
    open_source("photos")
    assert len(walks) == 2


def test_a_cache_folder_that_cannot_be_written(walks: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("file").absolute()))
    assert len(open_source("photos")) == 5
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("new").absolute()))
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert len(open_source("photos")) == 5
    assert not list(Path("new/gemel/listings").iterdir())
    assert len(walks) == 2


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/someone")
    assert listing.cache_folder() == Path("/home/someone/.cache/gemel")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # a user without a home
    assert listing.cache_folder() is None
    fill("a.jpg")
    assert len(open_source("photos")) == 1


def test_the_table_of_paths() -> None:
    table = Paths.of([b"a", b"", b"bcd"])
    assert (list(table), len(table), table[1:], table[-2:]) == ([b"a", b"", b"bcd"], 3, [b"", b"bcd"], [b"", b"bcd"])
    assert list(Paths.of([])) == []


# ---- lists


def test_a_list() -> None:
    fill("a/1.jpg", "2.png", "no ending")
    absolute = str(Path("photos/2.png").absolute())
    text = f"\ufeff# a comment\n\na/1.jpg  \r\nno ending\n./2.png\n../photos/a/1.jpg\n{absolute}"
    Path("photos/list.txt").write_bytes(text.encode())
    source = open_source("photos/list.txt")
    assert paths(source) == [
        "photos/a/1.jpg", "photos/no ending", "photos/./2.png", "photos/../photos/a/1.jpg", absolute,
    ]  # fmt: skip
    assert [source.read(index) for index in range(5)] == [b"a/1.jpg", b"no ending", b"2.png", b"a/1.jpg", b"2.png"]
    assert source.name == "photos/list.txt"
    os.chdir("photos")
    assert paths(open_source("list.txt"))[0] == "a/1.jpg"


def test_mistakes_in_lists() -> None:
    fill("1.jpg")
    Path("photos/list.lst").write_text("1.jpg\n\n" + "\n".join(f"missing{number}.jpg" for number in range(9)))
    message = mistake("photos/list.lst")
    assert "9 of the 10 files" in message
    assert "line 3: missing0.jpg; line 4: missing1.jpg" in message
    assert "missing5" not in message
    Path("nothing.txt").write_text("# nothing\n\n")
    assert "names no files" in mistake("nothing.txt")
    Path("folder.txt").write_text("photos\n")
    assert "line 1: photos" in mistake("folder.txt")
    assert "is one image; give its folder" in mistake("photos/1.jpg")
    Path("archive.zip").write_bytes(b"PK\3\4\0\0\0")
    assert "can't be read as a zip archive" in mistake("archive.zip")
    Path("archive.bin").write_bytes(b"PK\3\4\0\0\0")
    assert "not a text file" in mistake("archive.bin")


@AS_ROOT
def test_a_list_that_may_not_be_read() -> None:
    Path("list.txt").write_text("a")
    Path("list.txt").chmod(0)
    assert "cannot be read" in mistake("list.txt")


# ---- data sets


@pytest.mark.parametrize("is_found", [True, False])
def test_digits(is_found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By scikit-learn's file, or by scikit-learn where that lies elsewhere."""
    if not is_found:
        monkeypatch.setattr(datasets, "find_spec", lambda name: None)
    source = open_source("digits")
    assert len(source) == 1797
    assert source.path(12) == "digits/0012"
    assert (source.name, source.stated_classes) == ("digits", 10)
    assert source.label_names == [str(digit) for digit in range(10)]
    bunch: Any = load_digits()
    assert source.labels is not None
    np.testing.assert_array_equal(source.labels, bunch.target)
    assert source.labels.dtype == np.int64
    images = np.stack([np.asarray(source.read(index)) for index in range(len(source))])
    np.testing.assert_array_equal(images, [[[round(v * 255 / 16) for v in row] for row in one] for one in bunch.images])
    image = source.read(5)
    assert isinstance(image, np.ndarray)
    image[:] = 0  # a copy
    assert np.asarray(source.read(5)).any()
    assert paths(pickle.loads(pickle.dumps(source))) == paths(source)


def test_digits_without_labels() -> None:
    source = open_source("digits", labels="none")
    assert (source.labels, source.label_names, source.stated_classes) == (None, [], 10)
    assert open_source("digits", labels="own").labels is not None


def test_a_folder_goes_before_a_data_set() -> None:
    fill("1.jpg", folder="digits")
    assert len(open_source("digits")) == 1


def test_unknown_names() -> None:
    fill("1.jpg", folder="photos")
    assert "did you mean photos?" in mistake("photoz")
    assert "did you mean digits?" in mistake("digit")
    assert "digits, cifar10, cifar100" in mistake("something else")
    assert "did you mean work/photos?" in mistake("work/fotos") or "no folder" in mistake("work/fotos")
    assert "no folder" in mistake("no/such/folder")
    assert "no folder" in mistake("zero\0byte")
    assert "no folder" in mistake("")
    assert "digits has no split 'test'" in mistake("digits:test")
    assert "cifar10:train and cifar10:test" in mistake("cifar10:val")
    assert "neither a folder nor a file" in mistake("/dev/null")


def idx(array: np.ndarray[Any, Any]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4) for size in array.shape) + array.tobytes()


def write_mnist(folder: Path) -> np.ndarray[Any, Any]:
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(256, size=(60, 28, 28)).astype(np.uint8)
    for name, count in (("train", 60), ("t10k", 20)):
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(images[:count]))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(np.arange(count, dtype=np.uint8) % 10))
    return images


@pytest.mark.parametrize("place", ["data", "cache/gemel/datasets"])
def test_torchvision_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    images = write_mnist(tmp_path / place / "MNIST/raw")
    if place == "data":
        monkeypatch.setenv("GEMEL_DATA", "../data")
    for _ in range(2):  # unpacked, then mapped
        source = open_source("MNIST")
        assert (source.name, len(source), source.stated_classes) == ("mnist", 60, 10)
        assert source.label_names[3] == "3 - three"
        assert source.labels is not None
        assert source.labels.tolist() == [number % 10 for number in range(60)]
        np.testing.assert_array_equal(np.stack([source.read(index) for index in range(60)]), images)
        sent = pickle.dumps(source)
        assert len(sent) < 5000
        np.testing.assert_array_equal(pickle.loads(sent).read(7), images[7])
        monkeypatch.setattr(torchvision.datasets, "MNIST", None)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GEMEL_DATA", str(tmp_path / place))
    test = open_source("mnist:test")
    assert (len(test), test.path(3)) == (20, "mnist:test/03")


def test_arrays_that_are_cut_off_are_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_mnist(tmp_path / "data/MNIST/raw")
    monkeypatch.setenv("GEMEL_DATA", str(tmp_path / "data"))
    open_source("mnist")
    file = tmp_path / "data/arrays/mnist-train/images.npy"
    file.write_bytes(file.read_bytes()[:-1])
    for _ in range(2):
        np.testing.assert_array_equal(open_source("mnist").read(59), images[59])


def test_a_data_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_mnist(tmp_path / "data/MNIST/raw")
    (tmp_path / "data/arrays").write_text("in the way")
    monkeypatch.setenv("GEMEL_DATA", str(tmp_path / "data"))
    source = pickle.loads(pickle.dumps(open_source("mnist")))
    np.testing.assert_array_equal(source.read(59), images[59])


def test_colours_and_unlabelled_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMEL_DATA", str(tmp_path / "data"))
    images = np.random.default_rng(0).integers(256, size=(4, 3, 9, 9)).astype(np.uint8)

    def stl10(root: str, *, split: str, download: bool) -> Any:
        assert Path(root) == tmp_path / "data"
        labels = np.full(4, -1) if split == "unlabeled" else np.arange(4)
        return SimpleNamespace(
            data=images, labels=labels.astype(np.uint8 if split == "test" else int), classes=list("abcd")
        )

    def cifar10(root: str, *, train: bool, download: bool) -> Any:
        return SimpleNamespace(data=images.transpose(0, 2, 3, 1), targets=[0, 1, 2, 3], classes=list("abcd"))

    def usps(root: str, *, train: bool, download: bool) -> Any:
        return SimpleNamespace(data=torch.from_numpy(images[:, 0]), targets=torch.arange(4))

    monkeypatch.setattr(torchvision.datasets, "STL10", stl10)
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", cifar10)
    monkeypatch.setattr(torchvision.datasets, "USPS", usps)
    for name in ("stl10", "stl10:test", "stl10:unlabeled", "cifar10"):
        np.testing.assert_array_equal(open_source(name).read(2), images[2].transpose(1, 2, 0))
    assert np.asarray(open_source("usps").read(1)).shape == (9, 9)
    assert open_source("usps").label_names == [str(label) for label in range(10)]
    unlabeled = open_source("stl10:unlabeled")
    assert (unlabeled.labels, unlabeled.label_names, unlabeled.stated_classes) == (None, [], 10)
    labelled = open_source("stl10:test").labels
    assert labelled is not None
    assert labelled.tolist() == [0, 1, 2, 3]


def test_a_download_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    asked: list[bool] = []

    def cifar10(root: str, *, train: bool, download: bool) -> Any:
        asked.append(download)
        print("Downloading")
        if download:
            raise URLError("no network")
        raise RuntimeError("Dataset not found or corrupted.")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", cifar10)
    message = mistake("cifar10")
    assert str(tmp_path / "cache/gemel/datasets") in message
    assert "no network" in message
    assert "cifar-10-batches-py" in message
    assert "GEMEL_DATA" in message
    assert asked == [False, True]
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(listing, "cache_folder", lambda: None)
    monkeypatch.setattr("gemel.data.datasets.cache_folder", lambda: None)
    assert "set GEMEL_DATA" in mistake("cifar10")


# ---- own sources


def test_arrays() -> None:
    images = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    source = ArraySource("mine", images, labels=np.array([0, 1, -1, 0]), label_names=["a", "b"], stated_classes=2)
    assert paths(source) == ["mine/0", "mine/1", "mine/2", "mine/3"]
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.read(3), images[3])
    assert copy.label_names == ["a", "b"]


def test_arrays_and_paths_from_python() -> None:
    images = np.random.default_rng(0).integers(256, size=(3, 5, 6, 3)).astype(np.uint8)
    for words in (images, list(images), [images[0], images[1, ..., 0], images[2, :2]]):
        source = open_source(words, labels=["a", "b", "a"])
        assert paths(source) == ["array/0", "array/1", "array/2"]
        assert (source.in_memory, source.label_names) == (True, ["a", "b"])
        np.testing.assert_array_equal(source.read(1), words[1])
    fill("a/1.jpg", "2.jpg")
    source = open_source([Path("photos/a/1.jpg"), "photos/2.jpg", "photos/./2.jpg"])
    assert paths(source) == ["photos/a/1.jpg", "photos/2.jpg", "photos/./2.jpg"]
    os.chdir("photos")
    assert source.read(1) == b"2.jpg"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((9, 40, 40, 40)), r"9 arrays of float64 and shape \[\(40, 40, 40\)\] are no images; give numbers"),
        (np.zeros((4, 20, 20), complex), "arrays of complex128"),
        (np.zeros((0, 20, 20), np.uint8), "0 arrays"),
        (np.zeros((20, 20), np.uint8), "give numbers of one type and shape"),
        ([np.zeros((2, 2), np.uint8), np.zeros((2, 2))], "float64, uint8"),
        ([np.zeros((2, 2), np.uint8), "a.jpg"], "images are a folder, a list of paths, an array"),
        (["missing.jpg"] * 9000, "9000 of the 9000 files in list of paths are not there"),
        ([], "names no files"),
        (3, "not 3"),
        ("x" * 500_000, "no folder"),
    ],
    ids=range(10),
)
def test_mistakes_in_what_python_gives(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        open_source(given)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(("split", "ratio"), [("tail10", 10), ("tail100", 100)])
def test_long_tailed_digits(split: str, ratio: int) -> None:
    """Class sizes fall by one factor from class to class; the images are those of the whole set."""
    tail, whole = open_source(f"digits:{split}"), open_source("digits")
    assert tail.labels is not None
    assert whole.labels is not None
    sizes = np.bincount(tail.labels)
    assert sizes[0] / sizes[-1] == pytest.approx(ratio, rel=0.2)
    steps = np.log(sizes[:-1] / sizes[1:])
    assert steps == pytest.approx(np.log(ratio) / 9, abs=0.25)
    image = tail.read(0)
    assert isinstance(image, np.ndarray)
    assert any(np.array_equal(image, whole.read(place)) for place in np.flatnonzero(whole.labels == tail.labels[0]))
