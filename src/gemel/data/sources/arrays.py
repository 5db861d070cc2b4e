"""Images in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from gemel.data.labels import by_values
from gemel.data.pixel_values import CHANNELS, channels_last
from gemel.data.sources.base import Source
from gemel.data.sources.vectors import IMAGE_ARRAYS
from gemel.errors import UserError, brief


class ArraySource(Source):
    """Images in an array, or in a list of arrays or of encoded files.

    Args:
        name: paths are `name/0012`.
        images: (N, H, W) or (N, H, W, C) of any type of numbers; or N arrays of (H, W) or (H, W, C), or files as bytes.
        file: the .npy file that the images are mapped from; such a source is pickled without its pixels.
    """

    in_memory = True

    def __init__(
        self, name: str, images: NDArray[Any] | Sequence[Any], file: Path | None = None, **described: Any
    ) -> None:
        super().__init__(name, **described)
        self._images = images
        self._file = file
        self._digits = len(str(len(images) - 1))

    def __len__(self) -> int:
        return len(self._images)

    def path(self, index: int) -> str:
        """Return the dataset's name and the image's index in it."""
        return f"{self.name}/{index:0{self._digits}d}"

    def read(self, index: int) -> bytes | NDArray[Any]:
        """Return a copy of the pixels: the array itself may be mapped read-only."""
        found = self._images[index]
        return found if isinstance(found, bytes) else np.array(found)

    def version(self, index: int) -> bytes:
        """Return the name and the pixels."""
        found = self._images[index]
        if isinstance(found, bytes):
            return f"{self.path(index)} ".encode() + found
        kind = "" if found.dtype == np.uint8 else f"{found.dtype} "
        return f"{self.path(index)} {found.shape} {kind}".encode() + found.tobytes()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | ({"_images": None} if self._file else {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self._file:
            self._images = channels_last(np.load(self._file, mmap_mode="r", allow_pickle=False), stacked=True)


def open_arrays(given: Any) -> Source | None:
    """Return the images of an array, a list of arrays or of bytes, or an .npy or .npz file; None for something else.

    Channels may come first or last: the axis of fewer. An .npz file holds `images`, and may hold `labels`.

    Raises:
        UserError: no images, another type or another shape.
    """
    if isinstance(given, str):
        return _of_file(given)
    if isinstance(given, np.ndarray):
        return ArraySource("array", _stacked("array", given))
    if not isinstance(given, list | tuple) or not given:
        return None
    items = cast(Sequence[Any], given)
    if all(isinstance(one, bytes) for one in items):
        return ArraySource("list of files", items)
    if not all(isinstance(one, np.ndarray) for one in items):
        return None
    images = [channels_last(one) for one in items]
    _check("array", len(images), {one.shape for one in images}, {one.dtype for one in images})
    return ArraySource("array", images)


def _of_file(given: str) -> Source | None:
    path = Path(given)
    if path.suffix.lower() not in (".npy", ".npz") or not path.is_file():
        return None
    if path.suffix.lower() == ".npy":
        images = np.load(path, mmap_mode="r", allow_pickle=False)
        return ArraySource(given, _stacked(given, images), path.absolute())
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        name = next(one for one in IMAGE_ARRAYS if one in arrays.files)
        source = ArraySource(given, _stacked(given, arrays[name]))
        label = next((one for one in ("labels", "label") if one in arrays.files), None)
        labels = None if label is None else arrays[label]
    if labels is not None:
        if labels.shape != (len(source),):
            raise UserError(f"{brief(given)} holds {len(source)} images and labels of shape {labels.shape}")
        source.labels, source.label_names = by_values(map(str, labels.tolist()))
    return source


def _stacked(name: str, images: NDArray[Any]) -> NDArray[Any]:
    found = channels_last(images, stacked=True)
    _check(name, len(found) if found.ndim else 0, {found.shape[1:]}, {found.dtype})
    return found


def _check(name: str, count: int, shapes: set[tuple[int, ...]], kinds: set[np.dtype[Any]]) -> None:
    fits = all(0 not in one and (len(one) == 2 or (len(one) == 3 and one[2] <= CHANNELS)) for one in shapes)
    if not fits or len(kinds) > 1 or any(one.kind not in "buif" for one in kinds) or not count:
        types, shown = brief(", ".join(sorted(map(str, kinds)))), brief(sorted(shapes))
        where = "" if name == "array" else f" in {brief(name)}"
        raise UserError(
            f"{count} arrays of {types} and shape {shown}{where} are no images; give numbers of one type and shape "
            f"(N, H, W) or (N, H, W, C) of at most {CHANNELS} channels, or a list of arrays (H, W) or (H, W, C)"
        )
