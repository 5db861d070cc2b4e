"""Datasets by name: scikit-learn's digits, which is always there, and torchvision's small ones."""

import contextlib
import http.client
import json
import os
import re
import shutil
import sys
import tarfile
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gemel.data.listing import cache_folder
from gemel.errors import UserError


class Loaded(NamedTuple):
    """A dataset's images and what its description says."""

    name: str
    """as tables show it: `cifar10`, `cifar10:test`"""
    images: NDArray[np.uint8]
    """(N, H, W) or (N, H, W, 3)"""
    file: Path | None
    """the .npy file that `images` is mapped from, where there is one"""
    labels: NDArray[np.int64] | None
    """(N,)"""
    label_names: list[str]
    classes: int
    """how many classes the description states"""


class _Known(NamedTuple):
    loader: str  # the class in torchvision.datasets
    splits: dict[str, dict[str, object]]  # the first is the default
    classes: int
    files: str  # what must lie in the folder of datasets


_BY_FLAG: dict[str, dict[str, object]] = {"train": {"train": True}, "test": {"train": False}}


def _by_word(*words: str) -> dict[str, dict[str, object]]:
    return {word: {"split": word} for word in words}


_TAILS: dict[str, dict[str, object]] = {"tail10": {}, "tail100": {}}
"""long-tailed parts of the first split: the largest class is so many times the smallest"""

_KNOWN = {
    "digits": _Known("", {"train": {}, **_TAILS}, 10, ""),
    "cifar10": _Known("CIFAR10", _BY_FLAG | _TAILS, 10, "cifar-10-batches-py/ (unpacked cifar-10-python.tar.gz)"),
    "cifar100": _Known("CIFAR100", _BY_FLAG, 100, "cifar-100-python/ (unpacked cifar-100-python.tar.gz)"),
    "stl10": _Known(
        "STL10", _by_word("train", "test", "unlabeled"), 10, "stl10_binary/ (unpacked stl10_binary.tar.gz)"
    ),
    "svhn": _Known("SVHN", _by_word("train", "test", "extra"), 10, "train_32x32.mat, test_32x32.mat"),
    "mnist": _Known("MNIST", _BY_FLAG, 10, "MNIST/raw/ with the four idx files, unpacked"),
    "fashion-mnist": _Known("FashionMNIST", _BY_FLAG, 10, "FashionMNIST/raw/ with the four idx files, unpacked"),
    "kmnist": _Known("KMNIST", _BY_FLAG, 10, "KMNIST/raw/ with the four idx files, unpacked"),
    "usps": _Known("USPS", _BY_FLAG, 10, "usps.bz2, usps.t.bz2"),
}


def available() -> list[str]:
    """Return the names of the datasets."""
    return list(_KNOWN)


def find(given: str) -> tuple[str, str] | None:
    """Return name and split of `cifar10`, `CIFAR-10` or `cifar10:test`; None if no dataset is called so.

    Raises:
        UserError: the dataset is known and has no such split.
    """
    word, colon, split = given.partition(":")
    plain = re.sub("[-_ ]", "", word.lower())
    name = next((known for known in _KNOWN if known.replace("-", "") == plain), None)
    if name is None:
        return None
    splits = list(_KNOWN[name].splits)
    if colon and split not in splits:
        raise UserError(f"{name} has no split {split!r}; there is {' and '.join(f'{name}:{one}' for one in splits)}")
    return name, split or splits[0]


def load(name: str, split: str) -> Loaded:
    """Return a split of a dataset, downloaded if it is neither in $GEMEL_DATA nor in the user's cache folder.

    Images of torchvision's datasets are written once as an .npy file beside the download and mapped from there:
    processes share them, and an object that holds them is small to send. Where nothing can be written they stay
    in memory.

    Args:
        name: one of `available()`.
        split: one of its splits, as `find` gives them.

    Raises:
        UserError: the dataset is not there and cannot be downloaded.
    """
    if split in _TAILS:
        return _long_tailed(load(name, next(iter(_KNOWN[name].splits))), split)
    if name == "digits":
        return _digits()
    known = _KNOWN[name]
    root = data_folder()
    shown = name if split == next(iter(known.splits)) else f"{name}:{split}"
    stored = root / "arrays" / f"{name}-{split}"
    arrays = _stored(stored)
    if arrays is None:
        arrays = _from_torchvision(name, split, root)
        if _store(stored, arrays):
            arrays = _stored(stored) or arrays
    images, labels, names = arrays
    file = stored / "images.npy" if isinstance(images, np.memmap) else None
    return Loaded(shown, images, file, labels, names, known.classes)


def data_folder() -> Path:
    """Return the folder where datasets are looked for and downloaded to.

    Raises:
        UserError: $GEMEL_DATA is not set, and the user has no home folder.
    """
    folder = os.environ.get("GEMEL_DATA")
    if folder:
        return Path(folder).absolute()
    cache = cache_folder()
    if cache is None:
        raise UserError("there is no home folder to keep datasets in; set GEMEL_DATA to a folder")
    return cache / "datasets"


def _long_tailed(whole: Loaded, split: str) -> Loaded:
    """Take n_k images of class k, n_k = n_0 · ratio^(-k / (C - 1)), as CIFAR-10-LT does (arXiv 1901.05555)."""
    assert whole.labels is not None
    ratio, sizes = float(split.removeprefix("tail")), np.bincount(whole.labels)
    counts = np.round(sizes.min() * ratio ** (-np.arange(len(sizes)) / (len(sizes) - 1))).astype(np.int64)
    kept = np.concatenate([np.flatnonzero(whole.labels == k)[:count] for k, count in enumerate(counts)])
    kept.sort()
    return whole._replace(
        name=f"{whole.name}:{split}", images=np.asarray(whole.images[kept]), file=None, labels=whole.labels[kept]
    )


_Arrays = tuple[NDArray[np.uint8], NDArray[np.int64] | None, list[str]]


def _digits() -> Loaded:
    rows = _digit_rows()
    images = np.rint(rows[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # (1797, 8, 8), from 0..16
    return Loaded("digits", images, None, rows[:, -1].astype(np.int64), [str(name) for name in range(10)], 10)


def _digit_rows() -> NDArray[np.float64]:
    """Return pixels and label of each digit, (1797, 65), of scikit-learn's file; its import would take two seconds."""
    package = find_spec("sklearn")
    for folder in (package and package.submodule_search_locations) or ():
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits  # a release that keeps it elsewhere

    bunch: Any = load_digits()
    return np.column_stack([bunch.data, bunch.target])


def _from_torchvision(name: str, split: str, root: Path) -> _Arrays:
    import torchvision.datasets as sets  # brings torch

    known = _KNOWN[name]
    build = getattr(sets, known.loader)
    failures = (OSError, RuntimeError, EOFError, tarfile.TarError, http.client.HTTPException)
    # torchvision prints what it tries to stdout, which belongs to the answer of a command
    with contextlib.redirect_stdout(sys.stderr):
        try:
            found = build(str(root), download=False, **known.splits[split])
        except failures:
            try:
                found = build(str(root), download=True, **known.splits[split])
            except failures as error:
                reason = " ".join(str(error).split())[:200]
                raise UserError(
                    f"{name} is not in {root} and cannot be downloaded ({reason}); put {known.files} there, "
                    "or set GEMEL_DATA to the folder that holds it"
                ) from error
    return _unpack(found, known.classes)


def _unpack(found: Any, classes: int) -> _Arrays:
    images = np.asarray(found.data)
    if images.ndim == 4 and images.shape[1] == 3:
        images = images.transpose(0, 2, 3, 1)  # (N, 3, H, W) -> (N, H, W, 3)
    targets = found.targets if hasattr(found, "targets") else found.labels
    labels = np.asarray(targets).astype(np.int64)
    names = [str(label) for label in getattr(found, "classes", range(classes))]
    return np.ascontiguousarray(images, np.uint8), labels if (labels >= 0).any() else None, names


def _stored(folder: Path) -> _Arrays | None:
    try:
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
        labels = np.load(folder / "labels.npy", allow_pickle=False)
        names = json.loads((folder / "names.json").read_text())
    except (OSError, ValueError, EOFError):
        return None  # not there, or cut off: made anew
    return images, labels if len(labels) else None, names


def _store(folder: Path, arrays: _Arrays) -> bool:
    """Write the arrays into a folder of another name, then rename it; False where that is not possible."""
    images, labels, names = arrays
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True) as temporary:
            fresh = Path(temporary, folder.name)
            fresh.mkdir()
            np.save(fresh / "images.npy", images)
            np.save(fresh / "labels.npy", np.empty(0, np.int64) if labels is None else labels)
            (fresh / "names.json").write_text(json.dumps(names))
            shutil.rmtree(folder, ignore_errors=True)  # one that is cut off
            fresh.rename(folder)
    except OSError:
        return False
    return True
