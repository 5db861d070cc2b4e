"""Datasets of the transfer protocols, read from the folders in which their authors or torchvision leave them.

Nothing is downloaded, and no checksum is verified: a part of a dataset, or one of your own in the same layout, is read
as well. See docs/transfer.md for every layout.
"""

from pathlib import Path

from gemel.data.downstream import cifar, lists, matlab, voc
from gemel.data.downstream.parts import Described, Downstream
from gemel.errors import UserError, unknown

_SETS: dict[str, Described] = {one.name: one for one in (*lists.SETS, *cifar.SETS, *matlab.SETS, *voc.SETS)}

TABLE_4 = (
    "food101", "cifar10", "cifar100", "sun397", "cars", "aircraft", "voc2007", "dtd", "pets", "caltech101",
    "flowers102",
)  # fmt: skip
"""the eleven datasets of TWIST's Table 4, in its order"""


def available() -> list[str]:
    """Return the names of the datasets, Table 4's first."""
    return [*TABLE_4, *sorted(set(_SETS) - set(TABLE_4))]


def describe(name: str) -> Described:
    """Return what is known of a dataset without its files.

    Raises:
        UserError: there is none of that name.
    """
    if name not in _SETS:
        raise UserError(unknown("--data", name, available()))
    return _SETS[name]


def open_set(name: str, root: Path, *, seed: int = 0) -> Downstream:
    """Return a dataset's images to fit on, to validate on and to test on.

    Args:
        name: one of `available()`.
        root: the dataset's folder, or the one that it lies in.
        seed: of the validation images, where the dataset has no official ones.

    Raises:
        UserError: unknown name; no such folder; another layout (what is missing, what was found, where to get it).
    """
    described = describe(name)
    if not root.is_dir():
        raise UserError(f"--root {root} is no folder; give the one that holds {described.layout}. {described.origin}")
    return described.read(described, root.absolute(), seed)
