"""detection: boxes, and masks of instances, found by a detector fitted on the network (TWIST's Table 5)."""

import json
import time
from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveFloat

from gemel.backbones.parts.stages import Stages
from gemel.data import dense
from gemel.data.dense.checks import check_objects
from gemel.data.dense.objects import Objects
from gemel.data.dense.sets import ObjectSet
from gemel.data.sources import Source
from gemel.device import device
from gemel.distributed import merged, rank, world_size
from gemel.engine.caller import preserved
from gemel.engine.processes import first_says
from gemel.errors import UserError
from gemel.evaluations.base import Evaluation, Progress, Subject
from gemel.evaluations.dense_pictures import keep, of_objects
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
from gemel.metrics.dense import coco, voc
from gemel.runs.files import write_text
from gemel.settings.recipes import Count
from gemel.supervised.dense.recipes import RECIPES, Detecting, resolved
from gemel.supervised.recipes import Precision, find_recipe

if TYPE_CHECKING:  # torchvision's detectors take seconds to import
    from gemel.supervised.dense.detector import Detector

Sides = Annotated[int, Field(ge=32, le=4096)]

PREDICTIONS = "predictions.json"


class Detection(Evaluation):
    """Fit Faster R-CNN, or Mask R-CNN, on a copy of the network, with Detectron2's numbers, and judge what it finds.

    Defaults are the recipe's. A ResNet of four stages is needed; all its layers learn.

    Args:
        data: voc0712, voc2007, coco, boxes (a set of your own in COCO's form), or digit-scenes, which needs no files
        root: the set's folder, or the one that holds it
        recipe: whose numbers: twist, barlow_twins, moco, moco-2x, small; left out: the method's or twist; small for
            digit-scenes
        detector: fpn: feature pyramid; c4: fourth stage on each region
        masks: learn and judge masks of instances too
        steps: of the fit
        batch_size: images per step, over all processes; another than the recipe's scales lr, steps and warm-up
        lr: highest learning rate
        warmup: steps until the highest rate
        sizes: shorter sides of the training images, pixels
        test_size: shorter side of the judged images, pixels
        longest: longest side of an image, pixels
        channels: of the pyramid and its heads
        convs: convolutions of the box head
        width: of the box head's fully connected layer
        rois: regions sampled per image
        norm: frozen: the network's batch norms stay as they are
        precise: batches on which batch norm's statistics are measured at the end
        trials: fits with seeds seed, seed + 1, ...; the result is their mean
        seed: random seed of the detector, the order, the sides and the samples
        precision: bf16: the network runs in bfloat16
    """

    takes_images = False

    def __init__(
        self,
        *,
        data: str = "",
        root: Path | None = None,
        recipe: str | None = None,
        detector: Literal["fpn", "c4"] | None = None,
        masks: bool | None = None,
        steps: Count | None = None,
        batch_size: Count | None = None,
        lr: PositiveFloat | None = None,
        warmup: NonNegativeInt | None = None,
        sizes: tuple[Sides, ...] = (),
        test_size: Sides | None = None,
        longest: Sides | None = None,
        channels: Count | None = None,
        convs: NonNegativeInt | None = None,
        width: Count | None = None,
        rois: Count | None = None,
        norm: Literal["batch", "frozen"] | None = None,
        precise: NonNegativeInt | None = None,
        trials: Annotated[int, Field(ge=1, le=100)] = 1,
        seed: Annotated[int, Field(ge=0, lt=2**32)] = 0,
        precision: Precision = "32",
    ) -> None:
        self.recipe = None if recipe is None else find_recipe(RECIPES, recipe, "detection")
        self.described, self.root = dense.described("detection", data, root), root
        self.given: dict[str, Any] = {
            "detector": detector, "steps": steps, "batch_size": batch_size, "lr": lr, "warmup": warmup,
            "sizes": sizes or None, "test_size": test_size, "longest": longest, "channels": channels, "convs": convs,
            "width": width, "rois": rois, "norm": norm, "precise": precise, "masks": masks,
        }  # fmt: skip
        self.seeds = range(seed, seed + trials)
        self.precision: Precision = precision

    def run(
        self, subject: Subject, train: Source, test: Source | None, *, tell: Progress | None
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Return ap, ap50, ap75, ...; with masks the same after mask_; of several trials means and deviations."""
        if self.described.metric == "coco" or self.given["masks"]:
            coco.require()
        sets = dense.open_objects(self.described, self.root, seed=0)
        name, recipe, published, scaled = self._numbers(subject, sets)
        check_network(subject.network, recipe.batch_size)
        for part in (sets.train, sets.judged):
            check_objects(part)
        say(tell, scaled, _not_learned(sets))
        question = question_of(
            subject, recipe, [sets.train.hash(), sets.judged.hash()], self.precision, {"metric": self.described.metric}
        )
        fit = partial(_trial, subject, sets, recipe, self.precision, tell, list(self.seeds))
        with preserved():
            found, folder = trials_of(
                subject, "detection", question, self.seeds, fit, lambda place, _: [place.folder / PREDICTIONS]
            )
        counts = len(sets.train), len(sets.judged)
        return summary(found), {
            "data": self.described.name,
            "test": "of the set",
            "labels": "own",
            "recipe": name,
            **recipe.model_dump(mode="json"),
            "optimizer": "SGD; decay 0 on norms",
            "scaled_from": scaled,
            "seed": self.seeds[0],
            "trials": len(self.seeds),
            "crop": "shorter side resized",
            "precision": self.precision,
            "processes": world_size(),
            "device": str(device()),
            **_facts(sets, found),
            "published_images": list(self.described.counts),
            "comparable": comparable(subject, name, (recipe, published), self.described, counts, self.precision),
            "predictions": folder,
        }

    def _numbers(self, subject: Subject, sets: ObjectSet) -> tuple[str, Detecting, Detecting, str]:
        """Return the recipe's name, the numbers in force, those published, and what was scaled.

        Raises:
            UserError: masks are asked of a set without, or the recipe has no numbers for such a set.
        """
        kind = "voc" if self.described.metric == "voc" else "coco"
        own = "small" if self.described.name == "digit-scenes" else own_recipe(subject, "detection")
        name = self.recipe or (own if kind in RECIPES.get(own, {}) else "twist")
        if kind not in RECIPES[name]:
            raise UserError(f"--recipe {name} has no numbers for --data {self.described.name}; moco has")
        published, there = RECIPES[name][kind], sets.train.regions is not None and sets.judged.regions is not None
        if self.given["masks"] and not there:
            raise UserError(
                f"--masks: not every object of {self.described.title} has a mask (segmentation); leave it out"
            )
        masks = published.masks and there if self.given["masks"] is None else self.given["masks"]
        recipe, scaled = resolved(published, self.given | {"masks": masks})
        return name, recipe, published, scaled


def _trial(
    subject: Subject,
    sets: ObjectSet,
    recipe: Detecting,
    precision: Precision,
    tell: Progress | None,
    seeds: list[int],
    seed: int,
    place: Place,
    question: Mapping[str, Any],
) -> Trial:
    """Fit and judge a detector."""
    from gemel.engine.devices import Devices
    from gemel.supervised.dense.batches import BoxStream
    from gemel.supervised.dense.fit import fit, forget
    from gemel.supervised.dense.judged_objects import predictions
    from gemel.supervised.dense.task import DetectionTask, rows_of_process

    began, facts = time.monotonic(), subject.facts
    network = detector_of(subject, recipe, len(sets.train.names), seed)
    shape = _shape(network)
    task = DetectionTask(network, facts["mean"], facts["std"], BoxStream(sets.train, recipe, seed), Devices(precision))
    note = told(tell, seeds.index(seed), len(seeds), recipe.steps + len(sets.judged))
    fit(task, question, folder=subject.folder, log=place.folder, name="the fit", tell=lambda done, _: note(done))
    task.measure_norms(recipe.precise)
    share = rows_of_process(len(sets.judged))
    found, rejected = predictions(
        task, network, sets.judged, recipe, share, lambda done: note(recipe.steps + done * world_size())
    )
    texts, unreadable = merged({index: json.dumps(rows) for index, rows in found.items()}), merged(rejected)
    if not texts:
        raise UserError(f"none of the {len(sets.judged)} images to be judged can be read; the first: {unreadable}")
    left_out = {
        "unreadable": len(merged(task.stream.rejected)), "unreadable_judged": len(unreadable),
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    made = _judged(sets, texts, recipe, place, seed, shape | left_out) if rank() == 0 else None
    trial = Trial(*first_says(made))
    forget(question, subject.folder)
    return trial


def _judged(
    sets: ObjectSet, texts: Mapping[int, str], recipe: Detecting, place: Place, seed: int, facts: dict[str, Any]
) -> Trial:
    """Compute the metrics, and write predictions, pictures and numbers."""
    objects = sets.judged
    found = {index: json.loads(text) for index, text in sorted(texts.items())}
    rows = [one for each in found.values() for one in each]
    if sets.described.metric == "voc":
        metrics, empty = voc_scores(objects, list(found), rows)
        facts |= {"classes_without_truth": [objects.names[one] for one in empty]}
    else:
        metrics = coco_scores(objects, list(found), rows, masks=recipe.masks)
    write_text(place.folder / PREDICTIONS, json.dumps(rows))
    keep(place.folder, PICTURES, of_objects(objects, found, SHOWN))
    trial = Trial(seed, {name: value for name, value in metrics.items() if np.isfinite(value)}, facts)
    place.write(trial)
    return trial


def coco_scores(objects: Objects, images: list[int], rows: list[dict[str, Any]], *, masks: bool) -> dict[str, float]:
    """Return COCO's metrics of boxes, and with `masks` of masks, after mask_; nan where there is no such object.

    Args:
        objects: the truth.
        images: those that were judged.
        rows: predictions in the form of COCO's result files.
        masks: whether they have masks.
    """
    truth = objects.truth(images)
    found = coco.average_precision(truth, rows)
    if masks:
        of_masks = coco.average_precision(truth, rows, "segm")
        found |= {f"mask_{name}": value for name, value in of_masks.items()}
    return found


def voc_scores(objects: Objects, images: list[int], rows: list[dict[str, Any]]) -> tuple[dict[str, float], list[int]]:
    """Return VOC's metrics, and the classes without an object that is judged.

    Args:
        objects: the truth.
        images: those that were judged.
        rows: predictions in the form of COCO's result files: pixels from 0, which VOC counts from 1.
    """
    number = {objects.ids[index]: index for index in images}
    of_image = np.repeat(np.arange(len(objects)), np.diff(objects.starts))
    judged = np.isin(of_image, images)
    boxes = objects.boxes + np.array([1, 1, 0, 0])
    found_image = np.array([number[one["image_id"]] for one in rows], np.int64)
    found_class = np.array([one["category_id"] for one in rows], np.int64)
    found_boxes = np.array([one["bbox"] for one in rows], np.float64).reshape(-1, 4)
    found_boxes = np.concatenate([found_boxes[:, :2] + 1, found_boxes[:, :2] + found_boxes[:, 2:]], 1)
    scores = np.array([one["score"] for one in rows], np.float64)
    truth: list[voc.Objects] = []
    predicted: list[voc.Objects] = []
    for label, category in enumerate(objects.categories):
        own, seen = judged & (objects.classes == label), found_class == category
        truth.append(voc.Objects(of_image[own], boxes[own], objects.difficult[own]))
        predicted.append(voc.Objects(found_image[seen], found_boxes[seen], scores[seen]))
    return voc.mean_average_precision(truth, predicted)


def detector_of(subject: Subject, recipe: Detecting, classes: int, seed: int) -> "Detector":
    """Return a detector on a copy of a network, its new layers drawn by a seed."""
    from gemel.supervised.dense.detector import PyramidDetector, StageDetector

    network, frozen = deepcopy(subject.network).cpu().requires_grad_(True), recipe.norm == "frozen"
    before, after = recipe.boxes_kept
    common: dict[str, Any] = {
        "masks": recipe.masks, "sampled": recipe.rois, "anchors": recipe.anchors, "before": before, "after": after,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if recipe.detector == "c4":
            stages = Stages(network, last=3, frozen_norms=frozen)
            return StageDetector(network, stages, classes, **common)
        return PyramidDetector(
            Stages(network, frozen_norms=frozen),
            classes,
            channels=recipe.channels,
            convs=recipe.convs,
            width=recipe.width,
            anchor_scale=recipe.anchor_scale,
            **common,
        )


def _shape(network: "Detector") -> dict[str, Any]:
    return {
        "parameters": sum(one.numel() for one in network.parameters()),
        "strides": network.stages.strides,
        "anchor_sizes": network.anchor_sizes,
    }


def _not_learned(sets: ObjectSet) -> list[str]:
    """Return the classes that are judged and that no training image shows."""
    there, learned = (set(part.classes.tolist()) for part in (sets.judged, sets.train))
    return [sets.judged.names[number] for number in sorted(there - learned)]


def _facts(sets: ObjectSet, trials: list[Trial]) -> dict[str, Any]:
    """Return counts, and what each trial found beside its metrics."""
    train, judged = sets.train, sets.judged
    return {
        "trained_images": len(train.learned()),
        "judged_images": len(judged),
        "without_object_images": len(train) - len(train.learned()),
        "crowds_left_out": int(train.crowd.sum()),
        "annotations_left_out": train.notes,
        "classes_not_in_training": _not_learned(sets),
        **trials[0].facts,
        "seconds": sum(one.facts["seconds"] for one in trials),
    }
