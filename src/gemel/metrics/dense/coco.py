"""COCO's average precision and run-length masks, by pycocotools."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gemel.errors import UserError

Rle = dict[str, Any]
"""size: [height, width]; counts: compressed, as text"""

NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
"""the first six numbers of COCO's summary"""


def require() -> None:
    """Check that pycocotools is installed.

    Raises:
        UserError: it is not.
    """
    _mask()


def encode(mask: NDArray[np.bool_]) -> Rle:
    """Return the run-length code of a mask (H, W)."""
    code = _mask().encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode("ascii")}


def encode_many(masks: NDArray[np.bool_]) -> list[Rle]:
    """Return the codes of masks (n, H, W)."""
    return [encode(one) for one in masks]


def decode(region: Any, height: int, width: int) -> NDArray[np.bool_]:
    """Return the mask (H, W) of an annotation's `segmentation`: polygons, or run lengths, compressed or not.

    Args:
        region: a list of polygons [x0, y0, x1, y1, ...] in pixels, or {"size", "counts"}.
        height: of the image, pixels.
        width: of the image, pixels.
    """
    if isinstance(region, Mapping):
        counts = region["counts"]
        lengths = _lengths(counts) if isinstance(counts, str | bytes) else counts
        return _filled(lengths, *region["size"])
    if not len(region):
        return np.zeros((height, width), bool)
    tool = _mask()
    codes = tool.frPyObjects([list(one) for one in region], height, width)
    return _filled(_lengths(tool.merge(codes)["counts"]), height, width)


def _filled(lengths: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """Return the mask of run lengths, column by column, the first of zeros.

    pycocotools' own decoder makes NumPy warn, and warnings can't be silenced in one thread alone.
    """
    values = np.arange(len(lengths)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, np.asarray(lengths, np.int64)).reshape(width, height).T)


def _lengths(counts: str | bytes) -> list[int]:
    """Return the run lengths of a compressed code.

    Five bits a character; from the fourth number on, differences to the last but one.

    >>> _lengths(b"041")
    [0, 4, 1]
    """
    found: list[int] = []
    value = shift = 0
    for letter in counts.encode("ascii") if isinstance(counts, str) else counts:
        bits = letter - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            found.append(value + (found[-2] if len(found) > 2 else 0))
            value = shift = 0
    return found


def average_precision(
    truth: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]], kind: Literal["bbox", "segm"] = "bbox"
) -> dict[str, float]:
    """Return COCO's ap, ap50, ap75, and ap of small, medium and large objects, 0..1; nan where there is no object.

    Args:
        truth: images, annotations and categories as COCO's files have them.
        predictions: image_id, category_id, score, and bbox [x, y, w, h] or segmentation (run lengths). The area of a
            mask is that of the mask, as in Detectron2; pycocotools takes that of `bbox` where both are given.
        kind: bbox: intersection over union of boxes; segm: of masks.
    """
    _mask()
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        own: Any = COCO()
        own.dataset = {name: [dict(one) for one in truth[name]] for name in ("images", "annotations", "categories")}
        own.createIndex()
        if not predictions:
            return _of_none(own)
        dropped = "bbox" if kind == "segm" else "segmentation"
        found = own.loadRes([{key: one[key] for key in one if key != dropped} for one in predictions])
        judged: Any = COCOeval(own, found, kind)
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    shares = [float(value) for value in judged.stats[: len(NAMES)]]
    return {name: value if value >= 0 else float("nan") for name, value in zip(NAMES, shares, strict=True)}


def _of_none(truth: Any) -> dict[str, float]:
    """Return the numbers of no prediction: 0 where there are objects."""
    areas = [one["area"] for one in truth.dataset["annotations"] if not one.get("iscrowd")]
    edges = {"ap_small": (0, 32**2), "ap_medium": (32**2, 96**2), "ap_large": (96**2, float("inf"))}
    there = {name: any(low <= area <= high for area in areas) for name, (low, high) in edges.items()}
    return {name: 0.0 if there.get(name, bool(areas)) else float("nan") for name in NAMES}


def _mask() -> Any:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise UserError(
            "average precision as COCO has it, and masks, need pycocotools: pip install 'gemel[dense]'"
        ) from error
    return mask
