"""CIFAR-10 and CIFAR-100, in the binary version or the python one.

The python version consists of pickles, and a pickle can run code. It is read by an unpickler that builds numpy arrays
of bytes and nothing else; whatever else a file asks for is refused.
"""

import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemel.data.downstream.parts import Described, Downstream, draw_share, folder_of, lines_of, malformed, pixels
from gemel.errors import UserError

_SIDE = 32
_BYTES = 3 * _SIDE * _SIDE

_Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]


def _binary(described: Described, file: Path, *, coarse: bool) -> _Arrays:
    """Records of one label (CIFAR-100: the coarse one, then the fine one) and 3,072 bytes of pixels."""
    data = np.fromfile(file, np.uint8)
    heads = 2 if coarse else 1
    if not len(data) or len(data) % (heads + _BYTES):
        raise malformed(described, file, f"{len(data)} bytes")
    records = data.reshape(-1, heads + _BYTES)
    return _images(records[:, heads:]), records[:, heads - 1].astype(np.int64)


class _Unpickler(pickle.Unpickler):
    """Builds arrays of numpy, and what a pickle knows itself: numbers, strings, lists, mappings."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Return one of the three callables that a pickled array needs."""
        names = {"_reconstruct": np.empty(0).__reduce__()[0], "ndarray": np.ndarray, "dtype": np.dtype}
        if module_name in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray") and global_name in names:
            return names[global_name]
        if (module_name, global_name) == ("_codecs", "encode"):  # bytes, as protocol 2 of python 3 writes them
            return lambda text, _: text.encode("latin1")
        raise pickle.UnpicklingError(f"{module_name}.{global_name} is asked for")


def _python(described: Described, file: Path, key: str) -> _Arrays:
    broken = (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError)
    try:
        found = _Unpickler(BytesIO(file.read_bytes()), encoding="latin1").load()
        rows = np.asarray(found["data"])
        labels = np.asarray(found[key], np.int64)
    except broken as error:
        raise UserError(f"{described.title}: {file} is no such file ({error}); {described.origin}") from error
    if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != _BYTES or labels.shape != rows.shape[:1]:
        raise malformed(described, file, f"data {rows.dtype} {rows.shape} and {labels.shape} labels")
    return _images(rows), labels


def _images(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(rows.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1))


def _names(described: Described, base: Path, files: list[str], labels: NDArray[np.int64]) -> list[str]:
    """Return the class names of the binary version's text file; else numbers."""
    file = next((base / one for one in files if (base / one).is_file()), None)
    names = lines_of(described, file) if file else [str(number) for number in range(described.classes)]
    if not 0 <= labels.min() <= labels.max() < len(names):
        raise malformed(described, base, f"label {labels.max()}")
    return names


def _cifar(described: Described, root: Path, seed: int, share: float) -> Downstream:
    ten = described.name == "cifar10"
    batches = [f"data_batch_{number}" for number in range(1, 6)] if ten else ["train"]
    last = "test_batch" if ten else "test"
    binary = [root / "cifar-10-batches-bin" if ten else root / "cifar-100-binary", root]
    base = next((one for one in binary if (one / f"{last}.bin").is_file()), None)
    if base is not None:
        folder_of(described, base, [], [f"{one}.bin" for one in (*batches, last)])
        parts = [_binary(described, base / f"{one}.bin", coarse=not ten) for one in (*batches, last)]
    else:
        base = folder_of(described, root, ["cifar-10-batches-py" if ten else "cifar-100-python"], [*batches, last])
        parts = [_python(described, base / one, "labels" if ten else "fine_labels") for one in (*batches, last)]
    images = np.concatenate([one for one, _ in parts[:-1]])
    labels = np.concatenate([one for _, one in parts[:-1]])
    names = _names(
        described, base, ["batches.meta.txt", "fine_label_names.txt"], np.concatenate([labels, parts[-1][1]])
    )
    train = pixels(described, images, labels, names, "train")
    fitted, chosen = draw_share(len(train), share, seed)
    rule = f"{100 * share:.4g} % of train at random, seed {seed}"
    test = pixels(described, *parts[-1], names, "test")
    return Downstream(described, names, train.subset(fitted), train.subset(chosen), test, rule)


_PAGE = "Unpack the binary or the python version of https://www.cs.toronto.edu/~kriz/cifar.html."

SETS = (
    Described(
        "cifar10", "CIFAR-10", 10, "top1",
        "cifar-10-batches-bin/data_batch_{1..5}.bin, test_batch.bin, or the same in cifar-10-batches-py/ without .bin",
        _PAGE, (45_000, 5_000, 10_000), lambda described, root, seed: _cifar(described, root, seed, 0.1),
    ),
    Described(
        "cifar100", "CIFAR-100", 100, "top1",
        "cifar-100-binary/train.bin, test.bin, or cifar-100-python/train, test",
        _PAGE, (44_933, 5_067, 10_000), lambda described, root, seed: _cifar(described, root, seed, 5_067 / 50_000),
    ),
)  # fmt: skip
