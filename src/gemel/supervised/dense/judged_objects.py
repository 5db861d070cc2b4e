"""What a fitted detector finds in images, in pixels of the original ones, as COCO's result files have it."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from gemel.data.decode import Unreadable, load
from gemel.data.dense.box_views import BoxView, put, resized_sides
from gemel.data.dense.objects import Objects
from gemel.device import device
from gemel.engine.modes import evaluation_mode
from gemel.metrics.dense import coco
from gemel.supervised.dense.batches import check_size
from gemel.supervised.dense.detector import Detector, common_sides, padded
from gemel.supervised.dense.recipes import Detecting
from gemel.supervised.dense.region_heads import Found
from gemel.supervised.dense.task import DenseTask

Prediction = dict[str, Any]
"""image_id, category_id, bbox, score, and segmentation where there are masks"""

MASKED = 0.5
"""probability from which on a pixel belongs to an object"""


@torch.no_grad()
def predictions(
    task: DenseTask[Any],
    network: Detector,
    objects: Objects,
    recipe: Detecting,
    indices: Sequence[int],
    tell: Callable[[int], None] | None,
) -> tuple[dict[int, list[Prediction]], dict[int, str]]:
    """Return what is found in each readable image, by its index, and the reasons of the others.

    Args:
        task: whose device and normalisation are used.
        network: the detector.
        objects: whose images are judged.
        recipe: of the sides.
        indices: of the images.
        tell: called with the number of images done.

    Raises:
        UserError: an image has another size than its annotations say.
    """
    found: dict[int, list[Prediction]] = {}
    rejected: dict[int, str] = {}
    with evaluation_mode(network):
        for done, index in enumerate(indices, start=1):
            try:
                image = load(objects.images, index)
            except Unreadable as error:
                rejected[index] = error.reason
                continue
            check_size(objects, index, image.shape[:2])
            size = objects.size(index)
            height, width = resized_sides(size, recipe.test_size, recipe.longest)
            pixels = torch.from_numpy(put(image, BoxView(height, width, False)))
            normed = task.normalise(pixels[None].to(device()))
            batch = padded(list(normed), common_sides([(height, width)], network.multiple))
            with task.devices.autocast():
                (one,) = network(batch, [(height, width)])
            found[index] = _in_original(one, (height, width), size, objects, index)
            if tell is not None:
                tell(done)
    return found, rejected


def _in_original(
    one: Found, shown: tuple[int, int], size: tuple[int, int], objects: Objects, index: int
) -> list[Prediction]:
    """Scale boxes to the original image, clip them, drop those without area, and paste the masks."""
    scale = one.boxes.new_tensor([size[1] / shown[1], size[0] / shown[0]]).repeat(2)
    boxes = one.boxes * scale
    boxes[:, 0::2].clamp_(0, size[1])
    boxes[:, 1::2].clamp_(0, size[0])
    kept = (boxes[:, 2:] > boxes[:, :2]).all(1)
    rows: list[Prediction] = []
    for row in kept.nonzero()[:, 0].tolist():
        x0, y0, x1, y1 = boxes[row].tolist()
        made: Prediction = {
            "image_id": objects.ids[index],
            "category_id": objects.categories[int(one.classes[row])],
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "score": float(one.scores[row]),
        }
        if one.masks is not None:
            made["segmentation"] = coco.encode(pasted(one.masks[row], boxes[row], size).cpu().numpy())
        rows.append(made)
    return rows


def pasted(mask: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the mask of an image, (H, W) bool, from the probabilities in a box, (M, M), at the centres of its pixels.

    Args:
        mask: probabilities.
        box: (4,) in pixels.
        size: height and width of the image.
    """
    x0, y0, x1, y1 = box.tolist()
    # beside the box there is nothing: only the pixels around it are looked up
    left, right = max(int(np.floor(x0)) - 1, 0), min(int(np.ceil(x1)) + 1, size[1])
    top, bottom = max(int(np.floor(y0)) - 1, 0), min(int(np.ceil(y1)) + 1, size[0])
    x = (torch.arange(left, right, device=mask.device, dtype=mask.dtype) + 0.5 - x0) / (x1 - x0) * 2 - 1
    y = (torch.arange(top, bottom, device=mask.device, dtype=mask.dtype) + 0.5 - y0) / (y1 - y0) * 2 - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    share = grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0]
    whole = torch.zeros(size, dtype=torch.bool, device=mask.device)
    whole[top:bottom, left:right] = share >= MASKED
    return whole
