"""What a glance at the images and the machine tells: sizes, colours, greys, and what is odd about them."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gemel.data.augment import background
from gemel.data.decode import Unreadable, load
from gemel.data.listing import printable
from gemel.data.pixel_values import COLOURS_SEEN, Decoding, Moments, is_nearly_one_colour
from gemel.data.sources import Source
from gemel.data.survey import Survey, sample_of, survey_source
from gemel.device import device
from gemel.errors import UserError
from gemel.launcher import cores, launched
from gemel.request.validate import Choice

GLYPH_SIDE = 64
"""grey images up to this side are taken for glyphs"""

SAME_GREYS = 8
"""greys (of 255) that are no more apart than this are the same: the page is blank"""

DARK = 64
"""mean pixel below which a nearly uniform image is called black"""

LARGE_SET = 200_000
"""images from which a paper's recipe is worth its epochs"""


class Facts(NamedTuple):
    """What a glance at the images and the machine tells."""

    images: int
    side: int
    """median of the shorter sides, pixels"""
    gray: bool
    stated_classes: int | None
    in_memory: bool
    gpu: bool
    cores: int
    """for this process"""
    greys: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (255, 255))
    """from where to where nine tenths of the backgrounds are, and of the strokes' greys; of grey images only"""
    pixel_values: tuple[Choice, ...] = ()
    """white, black and background, where the images depend on them and the user did not say"""
    warnings: tuple[str, ...] = ()
    channels: int = 3
    """of the views"""
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """mean and deviation of each channel over the sampled images, as shares of 255; None: pixels are bytes"""
    vectors: int | None = None
    """numbers in each of the vectors that stand in place of images; None: images"""

    @property
    def is_large(self) -> bool:
        """Whether a paper's recipe fits as it is: its epochs, batch size and classes are not adapted to the images."""
        return self.gpu and self.images >= LARGE_SET

    @property
    def is_of_glyphs(self) -> bool:
        """Whether the images are taken for letters, digits and symbols."""
        return not self.vectors and self.gray and self.side <= GLYPH_SIDE

    @property
    def is_of_colours(self) -> bool:
        """Whether the images are grey or of three colours, as those that published networks have seen."""
        return self.channels == COLOURS_SEEN


def look(source: Source, given: Mapping[str, Any] = MappingProxyType({})) -> Facts:
    """Choose how the images are decoded, which becomes the source's, and read up to 64 of them, evenly spread.

    Raises:
        UserError: none of them can be read, or the given white is not greater than black.
    """
    if source.width is not None:
        return _of_vectors(source)
    found = survey_source(source, Decoding.of(given))
    source.decoding = decoding = found.decoding
    indices = sample_of(len(source))
    sides: list[int] = []
    gray: list[bool] = []
    greys: list[tuple[int, int]] = []
    blank: dict[int, float] = {}
    reasons: list[str] = []
    moments = Moments(decoding.shown)
    for index in indices:
        try:
            image = load(source, index)
        except Unreadable as error:
            reasons.append(error.reason)
            continue
        moments.add(image)
        sides.append(min(image.shape[:2]))
        gray.append(image.ndim == 2 or bool((image == image[..., :1]).all()))
        ground, far = _grey_levels(image if image.ndim == 2 else image[..., 0])
        if gray[-1] and abs(far - ground) > SAME_GREYS:  # a blank page has no strokes
            greys.append((ground, far))
        if is_nearly_one_colour(image):
            blank[index] = float(image.mean())
    if not sides:
        raise UserError(f"none of {len(indices)} sampled images of {source.name} can be read; the first: {reasons[0]}")
    return Facts(
        images=len(source),
        side=int(np.median(sides)),
        gray=float(np.mean(gray)) > 0.9,
        **_common(source),
        greys=_ranges(greys) if greys else Facts._field_defaults["greys"],
        pixel_values=tuple(Choice(key, decoding.settings[key], reason) for key, reason in found.reasons.items()),
        channels=decoding.shown,
        normalisation=moments.found() if decoding.floats else None,
        warnings=_warnings(source, blank, len(sides), found),
    )


def _of_vectors(source: Source) -> Facts:
    return Facts(images=len(source), side=0, gray=False, vectors=source.width, **_common(source))


def _common(source: Source) -> dict[str, Any]:
    return {
        "stated_classes": source.stated_classes,
        "in_memory": source.in_memory,
        "gpu": device().type == "cuda",
        "cores": max(1, cores() // launched().local_processes),
    }


def _warnings(source: Source, blank: Mapping[int, float], readable: int, found: Survey) -> tuple[str, ...]:
    """Tell that most of the sampled images show nothing; `blank` holds the mean of each."""
    if len(blank) <= readable / 2:
        return ()
    mean = float(np.median(list(blank.values())))
    colour = "black" if mean < DARK else "white" if mean > 255 - DARK else "one colour"
    check = [
        *(["--white, the value that is shown as white"] if found.is_wide else []),
        *(["--background, which shows through transparent pixels"] if found.has_alpha else []),
        f"files such as {printable(source.path(next(iter(blank))))}",
    ]
    return (f"{len(blank)} of {readable} sampled images are nearly {colour}; check {' and '.join(check)}",)


def _grey_levels(plane: NDArray[Any]) -> tuple[int, int]:
    """Of the background, and what is farthest from it."""
    ground = int(background(plane))
    return ground, int(plane.flat[abs(plane.astype(int) - ground).argmax()])


def _ranges(greys: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], tuple[int, int]]:
    (low, high), (dark, light) = np.percentile(greys, [5, 95], axis=0).round().astype(int).T.tolist()
    return (low, high), (dark, light)
