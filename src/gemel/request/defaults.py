"""What is chosen where the user said nothing, from the images and the machine, each choice with its reason."""

from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from types import MappingProxyType
from typing import Any

from gemel.device import supports_bf16
from gemel.methods import find, find_recipe
from gemel.request.facts import Facts
from gemel.request.frozen_defaults import FOR_HEADS, for_heads
from gemel.request.validate import Choice
from gemel.settings.recipes import VIEWS, GlyphViews, Recipe, VectorViews
from gemel.settings.run_settings import ON_FEATURES
from gemel.settings.schema import schema_of
from gemel.settings.tree import Layer, in_force, merge, written_out
from gemel.settings.views import for_other_family

LEVELS = 0.4
"""how far greys are moved where they differ"""

TOLD_APART = 24
"""greys (of 255) of different images that are further apart may tell classes; a step of 4-bit images is 17"""

FEW, SMALL = 2000, 96
"""up to so many images of so many pixels a side teach a small network more than ResNet-18, in a tenth of the time"""

EPOCHS, CLASSES = (5, 200), (2, 1000)
"""the fewest and the most that are chosen for a recipe fitted to the images"""

SMALLEST = 32
"""pixels, side of the smallest views of photos that are chosen"""

PATIENCE = 600.0
"""seconds that an unasked-for better network may cost"""

Seconds = Callable[[Mapping[str, Any], int], float]
"""(backbone, image size) -> seconds that an image takes, forward and backward"""


_SET_TOGETHER = ("backbone", "epochs", "minutes", "batch_size", "weights", "then")
"""what the recipe for glyphs sets together: whoever sets one of them gets the small recipe"""


def recipe_of(
    words: str, name: str | None, facts: Facts, train: str = "all", given: Mapping[str, Any] = MappingProxyType({})
) -> tuple[Recipe, list[Choice]]:
    """Return the recipe asked for, else the method's first one, its small one, or one for heads or glyphs.

    Args:
        words: the method.
        name: of its recipe; None: nobody asked for one.
        facts: of the images and the machine.
        train: what learns.
        given: the user's settings.

    Raises:
        UserError: the method has no such recipe.
    """
    if name is not None:
        return find_recipe(f"{words}/{name}")[1], []
    method = find(words)
    if train in ON_FEATURES:
        known = method.recipes
        base = known.get("heads") or known.get("small") or next(iter(known.values()))
        return base if base.views.name == "vectors" else base.model_copy(
            update={"views": VectorViews(global_count=min(2, base.views.global_count)), **FOR_HEADS}
        ), []
    chosen = next(iter(method.recipes)) if facts.is_large or "small" not in method.recipes else "small"
    why = f"{facts.images} images, {'a GPU' if facts.gpu else 'no GPU'}"
    left_open = set(given.get("method") or {}) <= {"name"} and not any(given.get(key) for key in _SET_TOGETHER)
    if chosen == "small" and facts.is_of_glyphs and left_open and "glyphs" in method.recipes:
        chosen, why = "glyphs", f"{facts.images} glyphs"
    only = "" if "small" in method.recipes else "; the method has no recipe called small"
    return method.recipes[chosen], [Choice("recipe", f"{words}/{chosen}", why + only)]


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
        heads = given.get("train") in ON_FEATURES
        choices += for_heads(base, given, facts) if heads else _fitted(base, given, recipe, facts, seconds)
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
    glyph = facts.is_of_glyphs
    colour = "grey" if facts.gray else "coloured"
    return [Choice("views", "glyph" if glyph else "photo", f"sampled images are {colour}, about {facts.side} pixels")]


def _levels(given: Mapping[str, Any], facts: Facts) -> list[Choice]:
    """Where greys differ from image to image, they are the easiest classes to find."""
    (low, high), (dark, light) = facts.greys
    if not facts.gray or "levels" in (given.get("views") or {}) or max(high - low, light - dark) <= TOLD_APART:
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
    if facts.is_large:
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
    if given.get("train") in ON_FEATURES and not facts.stated_classes:
        return [Choice("classes", "auto", "")]
    adapted = fitted and not facts.is_large
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
