"""What is chosen where the user said nothing, from the images and the machine, each choice with its reason."""

from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gemel.data.augment import background
from gemel.data.decode import Unreadable, load
from gemel.data.listing import printable
from gemel.data.pixel_values import Decoding, is_nearly_one_colour
from gemel.data.sources import Source, VectorSource
from gemel.data.survey import Survey, sample_of, survey_source
from gemel.device import device, supports_bf16
from gemel.engine.packaged_weights import Preprocessing, normalisation
from gemel.errors import UserError
from gemel.launcher import cores, launched
from gemel.methods import find, find_recipe
from gemel.request.validate import Choice
from gemel.settings.recipes import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    VIEWS,
    AdamWOptimizer,
    GlyphViews,
    Recipe,
    Stage,
    VectorViews,
    for_other_family,
)
from gemel.settings.schema import schema_of
from gemel.settings.tree import Layer, in_force, merge, written_out

GLYPH_SIDE = 64
"""grey images up to this side are taken for glyphs"""

SAME_GREYS = 8
"""greys (of 255) that are no more apart than this are the same to a network"""

DARK = 64
"""mean pixel below which a nearly uniform image is called black"""

LEVELS = 0.4
"""how far greys are moved where they are not the same"""

LARGE_SET = 200_000
"""images from which a paper's recipe is worth its epochs"""

FEW, SMALL = 2000, 96
"""up to so many images of so many pixels a side teach a small network more than ResNet-18, in a tenth of the time"""

EPOCHS, CLASSES = (5, 200), (2, 1000)
"""the fewest and the most that are chosen for a recipe fitted to the images"""

SMALLEST = 32
"""pixels, side of the smallest views of photos that are chosen"""

FROZEN = "tf_efficientnet_lite0"
"""the network whose features heads learn from, where the user names none"""

A_KIND = 20
"""for each so many images one neighbour is looked at, up to the recipe's number: more would be of other kinds"""

HEAD_STEPS = 1200
"""that heads on frozen features need, however many images there are"""

FOR_HEADS: Mapping[str, Any] = {
    "views": VectorViews(),
    "optimizer": AdamWOptimizer(lr=3e-3, weight_decay=1e-4, warmup_epochs=0, final=1.0),
    "batch_size": 256,
    "then": Stage(),
}
"""what replaces a recipe's settings of images where its method learns from vectors"""

PATIENCE = 600.0
"""seconds that an unasked-for better network may cost"""

Seconds = Callable[[Mapping[str, Any], int], float]
"""(backbone, image size) -> seconds that an image takes, forward and backward"""


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
    vectors: int | None = None
    """numbers in each of the vectors that stand in place of images; None: images"""


def look(source: Source, given: Mapping[str, Any] = MappingProxyType({})) -> Facts:
    """Choose how the images are decoded, which becomes the source's, and read up to 64 of them, evenly spread.

    Raises:
        UserError: none of them can be read, or the given white is not greater than black.
    """
    if isinstance(source, VectorSource):
        return _of_vectors(source)
    found = survey_source(source, Decoding.of(given))
    source.decoding = found.decoding
    indices = sample_of(len(source))
    sides: list[int] = []
    gray: list[bool] = []
    greys: list[tuple[int, int]] = []
    blank: dict[int, float] = {}
    reasons: list[str] = []
    for index in indices:
        try:
            image = load(source, index)
        except Unreadable as error:
            reasons.append(error.reason)
            continue
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
        pixel_values=tuple(Choice(key, found.settings[key], reason) for key, reason in found.reasons.items()),
        warnings=_warnings(source, blank, len(sides), found),
    )


def _of_vectors(source: VectorSource) -> Facts:
    return Facts(images=len(source), side=0, gray=False, vectors=source.vectors.shape[1], **_common(source))


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


def _grey_levels(plane: NDArray[np.uint8]) -> tuple[int, int]:
    """Of the background, and what is farthest from it."""
    ground = int(background(plane))
    return ground, int(plane.flat[abs(plane.astype(int) - ground).argmax()])


def _ranges(greys: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], tuple[int, int]]:
    (low, high), (dark, light) = np.percentile(greys, [5, 95], axis=0).round().astype(int).T.tolist()
    return (low, high), (dark, light)


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
    own = [key for key in ("backbone", "views", "weights", "image_size") if given.get(key)]
    if own or given["method"].get("recipe") or not has_classes or _is_large(facts):
        return Choice("train", "all", "")
    if facts.gray and facts.side <= GLYPH_SIDE:
        return Choice("train", "all", "glyphs: a network for photographs sees less in them than one that learns them")
    return Choice(
        "train", "heads", f"photographs: classes on {FROZEN}'s features; --train all learns a network of your own"
    )


def recipe_of(words: str, name: str | None, facts: Facts, train: str = "all") -> tuple[Recipe, list[Choice]]:
    """Return the recipe asked for, else the method's first one, its small one, or one for heads.

    Raises:
        UserError: the method has no such recipe.
    """
    if name is not None:
        return find_recipe(f"{words}/{name}")[1], []
    method = find(words)
    if train == "heads":
        known = method.recipes
        base = known.get("heads") or known.get("small") or next(iter(known.values()))
        return base if base.views.name == "vectors" else base.model_copy(update=FOR_HEADS), []
    chosen = next(iter(method.recipes)) if _is_large(facts) or "small" not in method.recipes else "small"
    why = f"{facts.images} images, {'a GPU' if facts.gpu else 'no GPU'}"
    only = "" if "small" in method.recipes else "; the method has no recipe called small"
    return method.recipes[chosen], [Choice("recipe", f"{words}/{chosen}", why + only)]


def _is_large(facts: Facts) -> bool:
    """Whether a paper's recipe fits as it is: its epochs, batch size and classes are not adapted to the images."""
    return facts.gpu and facts.images >= LARGE_SET


def fill(
    given: Mapping[str, Any],
    recipe: Recipe,
    facts: Facts,
    *,
    fitted: bool,
    has_classes: bool,
    seconds: Seconds,
    layers: Sequence[Layer] = (),
) -> tuple[dict[str, Any], list[Choice]]:
    """Return settings without gaps: the user's, then the fitted recipe's.

    Args:
        given: the user's settings.
        recipe: what stands below them.
        facts: of the images and the machine.
        fitted: fit the recipe to the images and the machine; a recipe asked for by name is left as it is.
        has_classes: whether the method discovers classes.
        seconds: measures a network.
        layers: what `given` was merged from: options without a name hold for what the recipe names.
    """
    base = recipe.model_dump(exclude={"source", "images", "method"})
    options = {key: value for key, value in recipe.method.items() if key != "classes"}
    base["method"] = {"name": given["method"]["name"], **options}
    base["then"] = _then(given, recipe, facts, fitted=fitted)
    choices = list(facts.pixel_values)
    if fitted:
        heads = given.get("train") == "heads"
        choices += _for_heads(base, given, facts) if heads else _fitted(base, given, recipe, facts, seconds)
    if has_classes:
        choices += _classes(given, recipe, facts, fitted=fitted)
    if given.get("workers") is None:
        choices.append(_workers(facts))
    if given.get("precision") is None:
        half = supports_bf16()
        reason = f"a GPU {'with' if half else 'without'} bfloat16 units" if facts.gpu else "a CPU"
        choices.append(Choice("precision", "bf16" if half else "32", reason))
    chosen: dict[str, Any] = {
        choice.key: choice.value for choice in choices if not choice.key.startswith(("recipe", "views"))
    }
    below = merge(base, chosen, {key: value for key, value in given.items() if key not in _BY_LAYER})
    kept, dropped = in_force(below, layers or [Layer(dict(given), "call")])
    sections = [{key: layer.values[key] for key in _BY_LAYER if key in layer.values} for layer in kept]
    choices += [Choice("dropped", *one) for one in dropped]
    return written_out(merge(below, *sections)), choices


_BY_LAYER = ("backbone", "views", "optimizer", "then")
"""sections whose options, where they have no name, hold for the recipe's"""


def _fitted(
    base: dict[str, Any], given: Mapping[str, Any], recipe: Recipe, facts: Facts, seconds: Seconds
) -> list[Choice]:
    """Return what fits the recipe to the images and the machine; `base`, the recipe's settings, takes other views."""
    family = (given.get("views") or {}).get("name")
    choices = _family(family, facts)
    views = VIEWS[family or choices[-1].value]()
    if views.name != recipe.views.name:
        base["views"] = views.model_dump() | for_other_family(base["views"])
        base["then"]["views"] = for_other_family(base["then"]["views"])
    glyph = isinstance(views, GlyphViews)
    levels = _levels(given, facts) if glyph else []
    choices += levels
    base["views"] |= {one.key.removeprefix("views."): one.value for one in levels}
    size = given.get("image_size")
    choices += [] if size else [_image_size(glyph, facts)]
    size = int(size or choices[-1].value)
    choices += _sizes(given, recipe, facts)
    if "name" in (given.get("backbone") or {}):
        base["backbone"] = {}  # options given without a name are of the one that the user names
    elif find(given["method"]["name"]).has_own_network:
        stem = {"stem": "small" if size <= 64 else "standard"} if "stem" in recipe.backbone else {}
        choices.append(Choice("backbone", {**recipe.backbone, **stem}, "the method's own network"))
    else:
        choices.append(_backbone(glyph, size, facts, _epochs(given, recipe, facts)[0], seconds))
    return choices


def _for_heads(base: dict[str, Any], given: Mapping[str, Any], facts: Facts) -> list[Choice]:
    """Choose the frozen network, its images, and as many epochs as heads need steps; `base` takes its colours."""
    choices: list[Choice] = []
    base["views"]["neighbours"] = min(base["views"]["neighbours"], max(1, facts.images // A_KIND))
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
        epochs = -(-HEAD_STEPS // max(1, facts.images // batch))
        choices.append(Choice("epochs", epochs, f"{HEAD_STEPS} steps, however many images there are"))
    return choices


def _then(given: Mapping[str, Any], recipe: Recipe, facts: Facts, *, fitted: bool) -> dict[str, Any]:
    """The recipe's second stage, without what is said of other views or another optimiser than the user's.

    With another rate of the first stage its rate keeps its share of it.
    """
    then = recipe.then.model_dump()
    rate = (given.get("optimizer") or {}).get("lr")
    if rate is not None and "lr" in then["optimizer"]:
        then["optimizer"]["lr"] = float(f"{then['optimizer']['lr'] * float(rate) / recipe.optimizer.lr:.6g}")
    for section, own in (("views", recipe.views.name), ("optimizer", recipe.optimizer.name)):
        if (given.get(section) or {}).get("name") not in (None, own):
            then[section] = for_other_family(then[section]) if section == "views" else {}
        elif then[section]:
            then[section]["name"] = own  # a second stage that names the same one keeps the recipe's numbers
    if fitted and then["epochs"]:
        then["epochs"] = max(1, round(then["epochs"] * _epochs(given, recipe, facts)[0] / recipe.epochs))
    return then


def _family(given: str | None, facts: Facts) -> list[Choice]:
    if given:
        return []
    glyph = facts.gray and facts.side <= GLYPH_SIDE
    colour = "grey" if facts.gray else "coloured"
    return [Choice("views", "glyph" if glyph else "photo", f"sampled images are {colour}, about {facts.side} pixels")]


def _levels(given: Mapping[str, Any], facts: Facts) -> list[Choice]:
    """Where greys differ from image to image, they are the easiest classes to find."""
    (low, high), (dark, light) = facts.greys
    if not facts.gray or "levels" in (given.get("views") or {}) or max(high - low, light - dark) <= SAME_GREYS:
        return []
    reason = f"backgrounds reach from {low} to {high}, strokes from {dark} to {light}: no grey shall tell a class"
    return [Choice("views.levels", LEVELS, reason)]


def _are_few_and_small(facts: Facts) -> bool:
    return not facts.gpu and facts.images <= FEW and facts.side <= SMALL


def _image_size(glyph: bool, facts: Facts) -> Choice:
    about = f"images of about {facts.side} pixels"
    if glyph:
        return Choice("image_size", 16 if facts.side <= 32 else 24, f"glyphs of about {facts.side} pixels")
    largest = 224 if facts.gpu else 48 if _are_few_and_small(facts) else 64
    size = min(largest, max(SMALLEST, facts.side))
    bound = f"; at least {SMALLEST}" if size > facts.side else f"; at most {largest}" if size < facts.side else ""
    machine = "a GPU" if facts.gpu else "no GPU: small views keep it affordable"
    return Choice("image_size", size, f"{about}, {machine}{bound}")


def _sizes(given: Mapping[str, Any], recipe: Recipe, facts: Facts) -> list[Choice]:
    choices: list[Choice] = []
    if not given.get("batch_size"):
        batch = recipe.batch_size
        reason = "as the recipe"
        if facts.images < 4 * batch:
            batch = max(2, facts.images // 4 // 8 * 8 or facts.images // 4)
            reason = "at least four steps an epoch" if 4 * batch <= facts.images else "the smallest batch"
            reason = f"{facts.images} images: {reason}"
        choices.append(Choice("batch_size", batch, reason))
    if not given.get("epochs"):
        choices.append(Choice("epochs", *_epochs(given, recipe, facts)))
    return choices


def _epochs(given: Mapping[str, Any], recipe: Recipe, facts: Facts) -> tuple[int, str]:
    """Fewer images than the recipe's need as many steps as they; more are more to learn from in each epoch."""
    if given.get("epochs"):
        return int(given["epochs"]), "given"
    if _is_large(facts):
        return recipe.epochs, "as the recipe"
    share = recipe.images / facts.images
    wanted = round(recipe.epochs * (share if share > 1 else sqrt(share)))
    rule = "as many views in all" if share > 1 else "by the square root of the count"
    low, high = EPOCHS
    bound = f", {wanted}; at least {low}" if wanted < low else f", {wanted}; at most {high}" if wanted > high else ""
    reason = f"the recipe's {recipe.epochs} for {recipe.images} images, {rule}{bound}"
    return min(high, max(low, wanted)), reason


def _backbone(glyph: bool, size: int, facts: Facts, epochs: int, seconds: Seconds) -> Choice:
    if glyph and size <= 32:
        return Choice("backbone", {"name": "convnet"}, f"glyphs at {size} pixels")
    if facts.gpu and size > 96:
        return Choice("backbone", {"name": "resnet50"}, f"photos at {size} pixels, a GPU")
    if _are_few_and_small(facts):
        reason = f"{facts.images} small images, no GPU: a small network learns more from them than ResNet-18"
        return Choice("backbone", {"name": "convnet", "pool": 1}, reason)
    standard = {"name": "resnet18"}
    if size > 64:
        return Choice("backbone", standard, f"photos at {size} pixels{'' if facts.gpu else ', no GPU'}")
    small = {"name": "resnet18", "stem": "small"}
    cost = seconds(small, size) * 2 * facts.images * epochs
    minutes = f"{cost / 60:.0f} minutes for {epochs} epochs" if cost >= 60 else f"{cost:.0f} s for {epochs} epochs"
    if cost <= PATIENCE:
        return Choice("backbone", small, f"{size} pixels: the small stem sees more, about {minutes}")
    return Choice("backbone", standard, f"{size} pixels; the small stem would take about {minutes}")


def _classes(given: Mapping[str, Any], recipe: Recipe, facts: Facts, *, fitted: bool) -> list[Choice]:
    if given.get("classes") not in (None, "auto"):
        return []
    if given.get("train") == "heads" and not facts.stated_classes:
        return [Choice("classes", "auto", "")]
    adapted = fitted and not _is_large(facts)
    if facts.stated_classes and (adapted or not fitted):
        return [Choice("classes", facts.stated_classes, "the data set's description says so")]
    if not adapted:
        default = schema_of(find(given["method"]["name"])).model_fields["classes"].default
        own = "classes" in recipe.method
        return [
            Choice("classes", recipe.method.get("classes", default), "as the recipe" if own else "the method's default")
        ]
    wanted, (low, high) = round(sqrt(facts.images / 2)), CLASSES
    bound = f", {wanted}; at least {low}" if wanted < low else f", {wanted}; at most {high}" if wanted > high else ""
    reason = f"√(n / 2) for {facts.images} images{bound}, a rule of thumb; say it if you know better"
    return [Choice("classes", min(high, max(low, wanted)), reason)]


def _workers(facts: Facts) -> Choice:
    if facts.in_memory:
        return Choice("workers", min(1, facts.cores - 1), f"small images in memory, {facts.cores} cores")
    workers = max(1, min(8, facts.cores - 1))
    return Choice("workers", workers, f"{facts.cores} cores{'; at most 8' if facts.cores > 9 else ''}")
