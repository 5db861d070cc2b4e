"""What learns, a network or heads on the features of a frozen one; and what is chosen for heads."""

from collections.abc import Mapping
from typing import Any

from gemel.engine.packaged_weights import Preprocessing, normalisation
from gemel.errors import UserError
from gemel.request.facts import Facts
from gemel.request.validate import Choice
from gemel.settings.recipes import IMAGENET_MEAN, IMAGENET_STD, AdamWOptimizer, PhotoViews, Stage

FROZEN = "tf_efficientnet_lite0"
"""the network whose features heads learn from, where the user names none"""

HEAD_STEPS = 600
"""steps that heads on frozen features need, however many images there are"""

PICTURES = 32
"""pixels of the shorter side above which grey images hold what a network for photographs can see"""

LAST_STEPS, LAST_RATE = 100, 3e-4
"""steps that the last stage may learn for, behind heads that have, and its rate at the beginning"""

CROPS = PhotoViews(
    global_count=4, kinds=("whole", "random"), scale=(0.4, 1.0), flip=0.0, jitter=0.5, brightness=0.3, contrast=0.3,
    hue=0.05, gray=0.0, blur=0.0, solarize=0.0,
)  # fmt: skip
"""what the last stage learns from: each image as a whole, and weak crops of it"""

FOR_HEADS: Mapping[str, Any] = {
    "optimizer": AdamWOptimizer(lr=1e-2, weight_decay=1e-4, warmup_epochs=0, final=0.0),
    "batch_size": 256,
    "then": Stage(),
}
"""what replaces a recipe's settings of images where its method learns from vectors"""


def train_of(given: Mapping[str, Any], facts: Facts, *, has_classes: bool) -> Choice:
    """Return what learns, and why; no reason where the user said it.

    Raises:
        UserError: vectors have no network that could learn.
    """
    asked = given.get("train")
    if facts.vectors:
        if asked not in (None, "heads") or given.get("backbone") or given.get("weights"):
            raise UserError("vectors have no network of theirs; leave --train, --backbone and --weights out")
        return Choice("train", "heads", "" if asked else f"vectors of {facts.vectors} numbers")
    if asked:
        return Choice("train", asked, "")
    own = [key for key in ("backbone", "views", "weights", "image_size") if given.get(key) not in (None, "packaged")]
    if own or given["method"].get("recipe") or not has_classes or facts.is_large:
        return Choice("train", "all", "")
    if not facts.is_of_colours:
        return Choice("train", "all", f"{facts.channels} channels: no network of others has learned from such images")
    if facts.is_of_glyphs and facts.side <= PICTURES:
        why = f"glyphs of about {facts.side} pixels: a network for photographs sees less in them than one that learns"
        return Choice("train", "all", why)
    what = "glyphs" if facts.is_of_glyphs else "photographs"
    return Choice("train", "heads", f"{what}: classes on {FROZEN}'s features; --train all learns a network of your own")


def for_heads(base: dict[str, Any], given: Mapping[str, Any], facts: Facts) -> list[Choice]:
    """Choose the frozen network, its images, and as many epochs as heads need steps; `base` takes its colours."""
    choices: list[Choice] = []
    if facts.vectors:
        base["backbone"] = {"name": "vectors", "width": facts.vectors}
    else:
        name = (given.get("backbone") or {}).get("name")
        if name is None:
            choices.append(Choice("backbone", {"name": FROZEN}, "a small network trained on ImageNet, in a package"))
            base["backbone"], name = {}, FROZEN
        weights = given.get("weights")
        if weights is None:
            weights = "packaged" if name == FROZEN else "timm"
            choices.append(Choice("weights", weights, ""))
        seen = normalisation(name, weights) or Preprocessing(IMAGENET_MEAN, IMAGENET_STD, 224)
        base["views"] |= {"mean": seen.mean, "std": seen.std}
        if not given.get("image_size"):
            choices.append(Choice("image_size", seen.size, f"as {name} was trained"))
    batch = int(given.get("batch_size") or min(base["batch_size"], facts.images))
    if not given.get("batch_size"):
        choices.append(Choice("batch_size", batch, "" if batch == base["batch_size"] else f"{facts.images} images"))
    if not given.get("epochs"):
        epochs = max(1, round(HEAD_STEPS / max(1, facts.images // batch)))
        choices.append(Choice("epochs", epochs, f"{HEAD_STEPS} steps, however many images there are"))
    if given.get("train") == "last":
        crops = CROPS.model_copy(update={key: base["views"][key] for key in ("mean", "std")})
        rate = AdamWOptimizer(lr=LAST_RATE, weight_decay=1e-4, warmup_epochs=0, final=0.0)
        epochs = max(1, round(LAST_STEPS / max(1, facts.images // batch)))
        base["then"] = {"epochs": epochs, "views": crops.model_dump(), "optimizer": rate.model_dump()}
    return choices
