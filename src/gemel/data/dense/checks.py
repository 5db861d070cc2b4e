"""What can be wrong between images and their annotations, found before anything is fitted."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from gemel.data.batches import default_workers
from gemel.data.dense.label_maps import LabelMaps
from gemel.data.dense.objects import Objects
from gemel.data.listing import printable
from gemel.data.quiet_readers import quiet_readers
from gemel.data.sources import Source
from gemel.errors import UserError

NAMED = 5
"""faulty images that a message names"""

Found = TypeVar("Found")


def check_objects(objects: Objects) -> None:
    """Hold the sizes of the images, by their headers, against those of the annotations; take them where none is stated.

    An image that its EXIF tag turns is annotated upright. Images that can't be read are left for later.

    Raises:
        UserError: sizes differ; the first few images are named.
    """
    wrong: list[str] = []
    for index, found in enumerate(_mapped(objects.images, lambda index: upright_size(objects.images, index))):
        stated = objects.size(index)
        if found is None:
            continue
        if 0 in stated or stated == found[::-1]:
            objects.sizes[index] = found
        elif stated != found:
            path = printable(objects.images.path(index))
            wrong.append(f"{path} is {found[1]} x {found[0]}, annotated as {stated[1]} x {stated[0]}")
    if wrong:
        raise UserError(f"{len(wrong)} images have another size than their annotations say: {'; '.join(wrong[:NAMED])}")


def check_labels(maps: LabelMaps) -> NDArray[np.int64]:
    """Read every label map, and hold its size against its image's; return the pixels of each class, (C,).

    Raises:
        UserError: with what is wrong, the first few images named.
    """

    def look(index: int) -> tuple[NDArray[np.int64], str]:
        try:
            labels = maps.read(index)
        except UserError as error:
            return np.zeros(256, np.int64), str(error)
        counts, found = np.bincount(labels.ravel(), minlength=256), upright_size(maps.images, index)
        if found is None or found == labels.shape:
            return counts, ""
        path = printable(maps.images.path(index))
        sides = f"{labels.shape[1]} x {labels.shape[0]}"
        return counts, f"{path} is {found[1]} x {found[0]} pixels, its label map {sides}"

    total, wrong = np.zeros(256, np.int64), list[str]()
    for counts, mistake in _mapped(maps.images, look):
        total += counts
        wrong += [mistake] if mistake else []
    if wrong:
        more = [f"... and {len(wrong) - NAMED} more label maps like these"] if len(wrong) > NAMED else []
        raise UserError(*wrong[:NAMED], *more)
    if not total[: len(maps.names)].any():
        raise UserError(f"no pixel of {maps.images.name} belongs to a class: all are ignored")
    return total[: len(maps.names)]


def upright_size(source: Source, index: int) -> tuple[int, int] | None:
    """Return height and width of an image by its header, turned as its EXIF tag says; None where it can't be read."""
    file = source.file(index)
    if file is None:
        pixels = source.read(index)
        return (pixels.shape[0], pixels.shape[1]) if isinstance(pixels, np.ndarray) else None
    try:
        with quiet_readers(), Image.open(file) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
            return (image.width, image.height) if turned else (image.height, image.width)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _mapped(source: Source, look: Callable[[int], Found]) -> Iterator[Found]:
    """Yield what is found of each image, by several threads where there are many."""
    indices: Sequence[int] = range(len(source))
    workers = default_workers(source)
    if not workers:
        yield from map(look, indices)
        return
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(look, indices, chunksize=64)
