"""What a fitted segmenter makes of images: classes of their pixels at the original size, and their confusion."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from gemel.data.decode import Unreadable, load
from gemel.data.dense.label_maps import LabelMaps, Labels
from gemel.data.dense.label_views import bilinear, fitted_sides, planes_of
from gemel.device import device
from gemel.engine.modes import evaluation_mode
from gemel.metrics.dense.miou import confusion
from gemel.supervised.dense.recipes import Segmenting
from gemel.supervised.dense.segmenter import Segmenter, logits_of
from gemel.supervised.dense.task import DenseTask


@torch.no_grad()
def judge(
    task: DenseTask[Any],
    network: Segmenter,
    maps: LabelMaps,
    recipe: Segmenting,
    indices: Sequence[int],
    keep: Callable[[int, Labels], None],
    tell: Callable[[int], None] | None,
) -> tuple[NDArray[np.int64], dict[int, str]]:
    """Return the confusion of classes over the readable images, (C, C), and the reasons of the others.

    Args:
        task: whose device and normalisation are used.
        network: the segmenter.
        maps: images and labels.
        recipe: how images are judged.
        indices: of the images.
        keep: takes each image's predicted classes.
        tell: called with the number of images done.
    """
    counts = np.zeros((len(maps.names),) * 2, np.int64)
    rejected: dict[int, str] = {}
    with evaluation_mode(network):
        for done, index in enumerate(indices, start=1):
            try:
                image = load(maps.images, index)
            except Unreadable as error:
                rejected[index] = error.reason
                continue
            labels = maps.read(index)
            planes = planes_of(image)
            if recipe.test == "middle":
                planes, labels = _middle(planes, recipe.crop), _middle(labels, recipe.crop)
            found = _classes(task, network, planes, recipe)
            keep(index, found)
            counts += confusion(labels, found, len(maps.names))
            if tell is not None:
                tell(done)
    return counts, rejected


def _classes(task: DenseTask[Any], network: Segmenter, planes: Labels, recipe: Segmenting) -> Labels:
    """Return the likeliest class of each pixel, (H, W): logits are resized to the image, then compared."""
    sides = (planes.shape[1], planes.shape[2])
    shown = bilinear(planes, fitted_sides(sides, recipe.box)) if recipe.box is not None else planes
    image = task.normalise(torch.from_numpy(np.ascontiguousarray(shown))[None].to(device()))
    test = "windows" if recipe.test == "windows" else "whole"
    with task.devices.autocast():
        logits = logits_of(network, image, test=test, side=recipe.crop, stride=recipe.window_stride)
    if logits.shape[-2:] != sides:
        logits = interpolate(logits, sides, mode="bilinear", align_corners=recipe.align_corners)
    return logits[0].argmax(0).to(torch.uint8).cpu().numpy()


def _middle(values: Labels, side: int) -> Labels:
    """Return the middle of an image (..., H, W), as much of it as there is."""
    top, left = (max((length - side) // 2, 0) for length in values.shape[-2:])
    return np.ascontiguousarray(values[..., top : top + side, left : left + side])
