"""segmentation: a class for each pixel, by a segmenter fitted on the network (TWIST's Table 6)."""

import json
import time
from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, PositiveFloat

from gemel.backbones.parts.stages import Stages
from gemel.data import dense
from gemel.data.dense.checks import check_labels
from gemel.data.dense.label_maps import LabelMaps, Labels
from gemel.data.dense.sets import LabelSet
from gemel.data.sources import Source
from gemel.device import device
from gemel.distributed import gather, merged, rank, world_size
from gemel.engine.caller import preserved
from gemel.engine.processes import first_says
from gemel.errors import UserError
from gemel.evaluations.base import Evaluation, Progress, Subject
from gemel.evaluations.dense_pictures import keep, of_labels, spread_indices
from gemel.evaluations.dense_trials import (
    PICTURES,
    SHOWN,
    Place,
    Trial,
    check_network,
    comparable,
    question_of,
    say,
    summary,
    told,
    trials_of,
)
from gemel.evaluations.fit_common import own_recipe
from gemel.metrics.dense import miou
from gemel.runs.files import write_atomically
from gemel.settings.recipes import Count
from gemel.supervised.dense.recipes import SEGMENTING, Segmenting, resolved
from gemel.supervised.recipes import Precision, find_recipe

if TYPE_CHECKING:  # torchvision's detectors take seconds to import
    from gemel.supervised.dense.segmenter import Segmenter

Box = Annotated[int, Field(ge=32, le=16384)]


class Segmentation(Evaluation):
    """Fit a fully convolutional network (FCN) on a dilated copy of the network, and judge the class of each pixel.

    Defaults are the recipe's. A ResNet of four stages is needed; all its layers learn.

    Args:
        data: voc2012aug, voc2012, cityscapes, masks (a set of your own), or digit-scenes, which needs no files
        root: the set's folder, or the one that holds it
        recipe: whose numbers: twist, byol, small; left out: the method's or twist; small for digit-scenes
        steps: of the fit
        batch_size: images per step, over all processes; another than the recipe's scales lr and steps
        lr: highest learning rate
        crop: side of a training crop, pixels
        scale: longer and shorter side that images are fitted into before the crop's factor of 0.5 to 2, pixels
        channels: of the head
        predictions: folder for a PNG of the classes of each judged image
        trials: fits with seeds seed, seed + 1, ...; the result is their mean
        seed: random seed of the heads, the order and the crops
        precision: bf16: the network runs in bfloat16
    """

    takes_images = False

    def __init__(
        self,
        *,
        data: str = "",
        root: Path | None = None,
        recipe: str | None = None,
        steps: Count | None = None,
        batch_size: Count | None = None,
        lr: PositiveFloat | None = None,
        crop: Annotated[int, Field(ge=32, le=4096)] | None = None,
        scale: tuple[Box, ...] = (),
        channels: Count | None = None,
        predictions: Path | None = None,
        trials: Annotated[int, Field(ge=1, le=100)] = 1,
        seed: Annotated[int, Field(ge=0, lt=2**32)] = 0,
        precision: Literal["32", "bf16"] = "32",
    ) -> None:
        self.recipe = None if recipe is None else find_recipe(SEGMENTING, recipe, "segmentation")
        self.described, self.root = dense.described("segmentation", data, root), root
        if scale and len(scale) != 2:
            raise UserError(f"--scale {','.join(map(str, scale))}: give the longer and the shorter side, as 2048,512")
        if self.recipe == "byol" and lr is None:
            raise UserError("--recipe byol sweeps the learning rate on images held out; give one with --lr")
        box = (max(scale), min(scale)) if scale else None
        self.given = {
            "steps": steps, "batch_size": batch_size, "lr": lr, "crop": crop, "box": box, "channels": channels,
        }  # fmt: skip
        self.predictions = predictions
        self.seeds = range(seed, seed + trials)
        self.precision: Precision = precision

    def run(
        self, subject: Subject, train: Source, test: Source | None, *, tell: Progress | None
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Return miou, pixel_accuracy and mean_class_accuracy; of several trials means and deviations."""
        sets = dense.open_labels(self.described, self.root, seed=0)
        name, recipe, published, scaled = self._numbers(subject)
        check_network(subject.network, recipe.batch_size)
        pixels = [check_labels(part) for part in (sets.train, sets.judged)]
        learned, judged = (part > 0 for part in pixels)
        missing = [sets.train.names[one] for one in np.flatnonzero(judged & ~learned)]
        say(tell, scaled, missing)
        question = question_of(subject, recipe, [sets.train.hash(), sets.judged.hash()], self.precision, {})
        fit = partial(_trial, subject, sets, recipe, self.precision, tell, list(self.seeds), self.predictions)

        def needed(place: Place, seed: int) -> list[Path]:
            pngs = [_png(sets.judged, one, self.predictions, seed, len(self.seeds)) for one in range(len(sets.judged))]
            return [place.folder / PICTURES, *(one for one in pngs if one is not None)]

        with preserved():
            found, folder = trials_of(subject, "segmentation", question, self.seeds, fit, needed)
        counts = len(sets.train), len(sets.judged)
        return summary(found), {
            "data": self.described.name,
            "test": "of the set",
            "labels": "own",
            "recipe": name,
            **recipe.model_dump(mode="json"),
            "optimizer": "SGD; all parameters decay",
            "scaled_from": scaled,
            "seed": self.seeds[0],
            "trials": len(self.seeds),
            "precision": self.precision,
            "processes": world_size(),
            "device": str(device()),
            "trained_images": counts[0],
            "judged_images": counts[1],
            "published_images": list(self.described.counts),
            "classes_not_in_training": missing,
            **found[0].facts,
            "seconds": sum(one.facts["seconds"] for one in found),
            "comparable": comparable(subject, name, (recipe, published), self.described, counts, self.precision),
            "predictions": folder,
        }

    def _numbers(self, subject: Subject) -> tuple[str, Segmenting, Segmenting, str]:
        """Return the recipe's name, the numbers in force, those published, and what was scaled."""
        kind = "cityscapes" if self.described.name == "cityscapes" else "voc"
        own = "small" if self.described.name == "digit-scenes" else own_recipe(subject, "segmentation")
        name = self.recipe or (own if own in SEGMENTING and own != "byol" else "twist")
        published = SEGMENTING[name][kind]
        recipe, scaled = resolved(published, self.given)
        return name, recipe, published, scaled


def _trial(
    subject: Subject,
    sets: LabelSet,
    recipe: Segmenting,
    precision: Precision,
    tell: Progress | None,
    seeds: list[int],
    predictions: Path | None,
    seed: int,
    place: Place,
    question: Mapping[str, Any],
) -> Trial:
    """Fit and judge a segmenter."""
    from gemel.engine.devices import Devices
    from gemel.supervised.dense.batches import LabelStream
    from gemel.supervised.dense.fit import fit, forget
    from gemel.supervised.dense.judged_labels import judge
    from gemel.supervised.dense.task import SegmentationTask, rows_of_process

    began, facts, judged = time.monotonic(), subject.facts, sets.judged
    network = segmenter_of(subject, recipe, len(sets.train.names), seed)
    parameters = sum(one.numel() for one in network.parameters())
    task = SegmentationTask(
        network, facts["mean"], facts["std"], LabelStream(sets.train, recipe, seed), Devices(precision)
    )
    note = told(tell, seeds.index(seed), len(seeds), recipe.steps + len(judged))
    fit(task, question, folder=subject.folder, log=place.folder, name="the fit", tell=lambda done, _: note(done))
    shown: dict[int, Labels] = {}
    keeper = partial(_keep, judged, set(spread_indices(len(judged), SHOWN)), shown, predictions, seed, len(seeds))
    share = rows_of_process(len(judged))
    own, rejected = judge(
        task, network, judged, recipe, share, keeper, lambda done: note(recipe.steps + done * world_size())
    )
    counts: NDArray[np.int64] = gather(torch.from_numpy(own)[None]).sum(0).numpy()
    unreadable, not_learned = merged(rejected), len(merged(task.stream.rejected))
    texts = merged({index: json.dumps(one.tolist()) for index, one in shown.items()})
    if not counts.any():
        raise UserError(f"none of the {len(judged)} images to be judged can be read; the first: {unreadable}")
    found = {
        "parameters": parameters, "unreadable": not_learned, "unreadable_judged": len(unreadable),
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    made = _judged(judged, counts, texts, place, seed, found) if rank() == 0 else None
    trial = Trial(*first_says(made))
    forget(question, subject.folder)
    return trial


def _judged(
    maps: LabelMaps,
    counts: NDArray[np.int64],
    texts: Mapping[int, str],
    place: Place,
    seed: int,
    facts: dict[str, Any],
) -> Trial:
    """Compute the metrics, and write pictures and numbers."""
    metrics, iou = miou.scores(counts)
    rounded = [round(one, 6) if np.isfinite(one) else None for one in iou]
    shares = {"class_iou": dict(zip(maps.names, rounded, strict=True)), "confusion": counts.tolist()}
    trial = Trial(seed, metrics, shares | facts)
    pictures = {index: np.array(json.loads(text), np.uint8) for index, text in sorted(texts.items())}
    keep(place.folder, PICTURES, of_labels(maps, pictures))
    place.write(trial)
    return trial


def _keep(
    maps: LabelMaps,
    wanted: set[int],
    shown: dict[int, Labels],
    folder: Path | None,
    seed: int,
    trials: int,
    index: int,
    classes: Labels,
) -> None:
    """Keep an image's classes for the report, and as a PNG where a folder is given."""
    if index in wanted:
        shown[index] = classes
    path = _png(maps, index, folder, seed, trials)
    if path is not None:
        write_atomically(path, lambda temporary: Image.fromarray(classes).save(temporary, "PNG"))


def _png(maps: LabelMaps, index: int, folder: Path | None, seed: int, trials: int) -> Path | None:
    """Return where an image's predicted classes go; None where no folder was given."""
    if folder is None:
        return None
    inner = folder / f"trial-{seed}" if trials > 1 else folder
    return inner / f"{Path(maps.images.key(index)).stem}.png"


def segmenter_of(subject: Subject, recipe: Segmenting, classes: int, seed: int) -> "Segmenter":
    """Return a segmenter on a copy of a network, its heads drawn by a seed."""
    from gemel.supervised.dense.segmenter import Segmenter

    network = deepcopy(subject.network).cpu().requires_grad_(True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Segmenter(Stages(network), classes, recipe)
