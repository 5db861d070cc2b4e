"""From what was asked to a run that is ready to start: everything chosen, nothing written."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from gemel import backbones, methods
from gemel.backbones.base import Backbone
from gemel.backbones.vectors import fitted, vectors, worth
from gemel.data.batches import Loader
from gemel.data.check.findings import duplicates_of
from gemel.data.listing import printable
from gemel.data.messages import counted
from gemel.data.neighbour_table import count_for, neighbours
from gemel.data.pixel_values import Decoding, Display
from gemel.data.sources import Source, VectorSource, open_source
from gemel.data.sources.identity import fingerprint
from gemel.engine.environment import environment
from gemel.engine.in_shares import check_network
from gemel.engine.packaged_weights import Origin, origin_of, start_from_words
from gemel.engine.progress import Say
from gemel.errors import UserError
from gemel.launcher import launched
from gemel.methods.base import Method
from gemel.request.defaults import fill, recipe_of
from gemel.request.facts import Facts, look
from gemel.request.frozen_defaults import train_of
from gemel.request.memory import in_memory
from gemel.request.step_time import seconds_an_image
from gemel.request.validate import Asked, Choice
from gemel.request.without_gaps import without_gaps
from gemel.runs.folder import create
from gemel.runs.run import KINDS, LEFT_OUT, Run
from gemel.settings.recipes import VectorViews
from gemel.settings.run_settings import ON_FEATURES
from gemel.settings.schema import convert, schema_of
from gemel.settings.tree import Settings, render
from gemel.training.build import build_backbone, build_method, facts_of, has_frozen_network
from gemel.training.kinds import count_kinds
from gemel.training.prepared import Prepared, without
from gemel.training.stages import check_views

MAY_BE_EMPTY = (
    "minutes", "weights", "part", "memory", "shares", "classes", "white", "black", "background", "pixels", "channels",
    "composite", "image_size",
)  # fmt: skip
"""settings of a run that may say: none"""

Freeze = Callable[[Backbone, dict[str, Any], Source], VectorSource]
"""(frozen network, facts as in backbone.json, images) -> their features"""


def prepare(asked: Asked, say: Say, freeze: Freeze) -> Prepared:
    """Look at the images and choose what is open; but the epochs of `minutes` and the threads, which are measured.

    Args:
        asked: what the user asked for, checked.
        say: is told each choice with its reason.
        freeze: gives the features of a frozen network.

    Raises:
        UserError: the images can't be read, are too few for a batch, or something does not fit together.
    """
    given, source = asked.settings, asked.source
    method = methods.find(given["method"]["name"])
    recipe_name = given["method"].get("recipe")
    if len(source) < 2:
        raise UserError(f"{source.name} holds one image; two at least are needed to learn from")
    facts = look(source, given)
    left_out = find_duplicates(source, say) if given.get("unique") else {}
    facts = facts._replace(images=len(source) - len(left_out))
    schema = schema_of(method)
    has_classes = "classes" in schema.model_fields
    if given.get("classes") and not has_classes:
        raise UserError(f"--classes is not an option of {given['method']['name']}, which discovers no classes")
    train = train_of(given, facts, has_classes=has_classes)
    recipe, choices = recipe_of(given["method"]["name"], recipe_name, facts, train.value, given)
    fitted = recipe_name is None
    values, more = fill(
        given | {"train": train.value},
        recipe,
        facts,
        fitted=fitted,
        has_classes=has_classes,
        seconds=seconds_an_image,
        layers=asked.layers,
    )
    values |= of_channels(values, given, source, facts)
    values["batch_size"] = _shared_evenly(int(values["batch_size"]), given.get("shares"), say)
    values["labels"] = given.get("labels") or ("none" if source.labels is None else "own")
    settings = Settings.model_validate(convert(Settings, without_gaps(values, schema), ""))
    if settings.then.epochs and settings.train != "last" and len(method.stages) < 2:
        raise UserError(f"--then.epochs {settings.then.epochs}: {given['method']['name']} has no second stage")
    _tell(say, source, (*asked.dropped, train, *choices, *more), facts.warnings)
    if settings.train in ON_FEATURES:
        _refuse_parts(settings)
        prepared = on_vectors(settings, source, left_out, say, freeze)
    else:
        prepared = _on_images(settings, source, left_out, say)
    prepared.claim = asked.claim
    Loader(prepared.plan)  # too few images for a batch are told before anything is written
    return prepared


def of_channels(values: Mapping[str, Any], given: Mapping[str, Any], source: Source, facts: Facts) -> dict[str, Any]:
    """Return the settings that follow from the pixels: how they are read, the network's channels, mean and deviation.

    Raises:
        UserError: network, views or composite do not go with the channels.
    """
    if facts.vectors:
        return {}
    decoding, backbone, views = source.decoding, dict(values["backbone"]), dict(values["views"])
    found: dict[str, Any] = {key: decoding.settings[key] for key in ("pixels", "channels", "pages")}
    mistakes = list[str]()
    if not decoding.is_of_colours and "in_channels" not in (given.get("backbone") or {}):
        if "in_channels" in schema_of(backbones.find(backbone["name"])).model_fields:
            backbone["in_channels"] = decoding.shown
        else:
            mistakes.append(f"--backbone {backbone['name']} is for colours; choose one with in_channels, as resnet18")
    asked = given.get("views") or {}
    if facts.normalisation is not None:
        named = dict(zip(("mean", "std"), facts.normalisation, strict=True))
        views |= {key: one for key, one in named.items() if key not in asked}
    if len(views.get("mean", (0, 0, 0))) != decoding.shown:
        mistakes.append(f"--views.mean has {len(views['mean'])} numbers, and the images {decoding.shown} channels")
    kinds = views.get("kinds", "random")
    if decoding.floats and "strong" in ([kinds] if isinstance(kinds, str) else kinds):
        mistakes.append("strong views are of 8 bits and three colours; give --pixels bytes, or other --views.kinds")
    composite = given.get("composite")
    if composite is not None and max(map(int, composite)) >= decoding.shown:
        words = ",".join(map(str, composite))
        mistakes.append(f"--composite {words}: the images have channels 0 to {decoding.shown - 1}")
    if mistakes:
        raise UserError(*mistakes)
    found |= {"backbone": backbone, "views": views}
    source.display = Display.of({**given, **found})
    return found


def _tell(say: Say, source: Source, choices: Sequence[Choice], warnings: Sequence[str]) -> None:
    if source.passed_over:
        say(f"skipped beside {len(source)} images: {counted(source.passed_over)}")
    for choice in choices:
        if choice.reason:  # what the user asked for needs none
            say(f"{choice.key}: {_short(choice.value)} ({choice.reason})")
    for warning in warnings:
        say(f"warning: {warning}")


def on_vectors(settings: Settings, source: Source, left_out: Mapping[int, int], say: Say, freeze: Freeze) -> Prepared:
    """Return what is ready to train heads on given vectors or on a frozen network's features; all processes must ask.

    Raises:
        UserError: too many images can't be read, or there are fewer than classes.
    """
    frozen, found = None, source
    if has_frozen_network(settings):
        frozen = build_backbone(settings)
        say(f"weights: {settings.weights} ({_started(frozen, settings)})")
        found = freeze(frozen.eval(), facts_of(settings, frozen.width), source)
        if len(found.rejected) > settings.max_rejected * len(source):
            first = next(iter(found.rejected.items()))
            raise UserError(
                f"{len(found.rejected)} of {len(source)} images can't be read, above --max-rejected "
                f"{settings.max_rejected:g}; the first: {printable(source.path(first[0]))} ({first[1]})"
            )
    if not isinstance(found, VectorSource) or not isinstance(settings.views, VectorViews):
        raise UserError(f"--train {settings.train} goes with --views vectors; leave --views out")
    if left_out:
        found = found.only(np.setdiff1d(np.arange(len(source)), list(left_out)))
    rows = torch.from_numpy(found.vectors)
    shown = settings.views
    kept = worth(shown.components, rows.shape[1], len(found))
    components = vectors(width=rows.shape[1], components=kept, whitening=shown.whitening)
    seen = fitted(components, rows)
    seen = seen if found.rows is None else seen[torch.from_numpy(found.rows)]  # one for each image
    classes, kinds = settings.classes, None
    if classes == "auto":
        kinds = count_kinds(seen, most=len(found) // 5, seed=settings.seed)
        say(f"classes: {kinds.number} ({kinds.reason})")
        classes = kinds.number
        settings = settings.model_copy(update={"classes": classes})
    if classes is not None and classes > len(found):
        raise UserError(f"--classes {classes} of {len(found)} images; give at most as many")
    near = shown.neighbours if classes is None else count_for(len(found), classes, shown.neighbours)
    found.neighbours = neighbours(seen, near) if near else None
    method = build_method(settings, len(found), rows.shape[1])
    method.backbone.load_state_dict(components.state_dict())
    return Prepared(settings, source, method, left_out, frozen=frozen, vectors=found, kinds=kinds)


def start(prepared: Prepared) -> str:
    """Make the run's folder, which is returned: run.yaml and environment.json."""
    assert prepared.claim is not None, "the first process asks"
    run = create(prepared.claim, render(prepared.settings.model_dump()))
    facts = environment(len(prepared.source), prepared.settings.threads or 1)
    facts |= {"skipped": dict(prepared.source.passed_over), "method": prepared.method.described()}
    origin = _origin(prepared.settings)
    facts |= {} if origin is None else {"weights": origin._asdict()}
    run.write_json("environment.json", facts)
    if prepared.kinds is not None:
        run.write_json(KINDS, prepared.kinds._asdict())
    if prepared.settings.unique:
        keys = ((index, printable(prepared.source.key(index)), of) for index, of in prepared.left_out.items())
        run.write_left_out(keys)
    return str(run.path)


def follow(settings: Mapping[str, Any], images: str, left_out: Mapping[int, int]) -> Prepared:
    """What `prepare` gave the first of several processes, made on another from its settings; heads yet without vectors.

    Raises:
        UserError: the images are not the first process's.
    """
    chosen = Settings.model_validate(settings)
    methods.find(chosen.method["name"], named=True)  # the first process has checked that the call names it
    source = open_source(chosen.images, labels=chosen.labels)
    if fingerprint(source) != images:
        raise UserError(
            f"{source.name} holds {len(source)} images for process {launched().rank}, and others for the first one; "
            "all machines must see the same files at the same place"
        )
    source.decoding, source.display = Decoding.of(settings), Display.of(settings)
    method: Any = None if chosen.train in ON_FEATURES else _built(chosen, len(without(source, left_out)))
    return Prepared(chosen, source, method, left_out)


def continued(run: Run, freeze: Freeze, *, first_weights: bool = False) -> Prepared:
    """Return what `prepare` returned when the run began, from its run.yaml.

    Args:
        run: what is continued.
        freeze: gives the features of a frozen network.
        first_weights: bring the first weights also where a checkpoint has later ones.

    Raises:
        UserError: run.yaml was changed or the images are not there.
    """
    settings = Settings.model_validate(convert(Settings, run.settings, "run.yaml"))
    gaps = [key for key, value in settings.model_dump().items() if value is None and key not in MAY_BE_EMPTY]
    if gaps:
        raise UserError(f"{run.path / 'run.yaml'} leaves {', '.join(gaps)} open; it was changed since the run began")
    try:
        source = open_source(settings.images, labels=settings.labels)
    except UserError as error:
        raise UserError(
            *error.mistakes,
            f"{run.path} learns from {settings.images}: put the images back there (a link will do), or write where "
            f"they are now as `images` (and `labels`) into {run.path / 'run.yaml'}",
        ) from error
    source.decoding, source.display = Decoding.of(run.settings), Display.of(run.settings)
    if launched().rank == 0:
        run.clear()
    left_out = _left_out(run, source) if settings.unique else {}
    if settings.train in ON_FEATURES:
        return on_vectors(settings, source, left_out, lambda text: None, freeze)
    # The first weights are asked for once more only where there is no checkpoint to bring the later ones.
    begun = not first_weights and (run.checkpoint_path.is_file() or run.previous_path.is_file())
    weights = None if begun else settings.weights
    images = len(without(source, left_out))
    return Prepared(settings, source, _built(settings.model_copy(update={"weights": weights}), images), left_out)


def find_duplicates(source: Source, say: Say) -> dict[int, int]:
    """Return the duplicates that training leaves out, each with the image that stays.

    Raises:
        UserError: one image alone stays, or there are vectors in place of images.
    """
    if source.width is not None:
        raise UserError(f"--unique compares images, and {source.name} holds vectors; leave it out")
    say(f"unique: looking for duplicates among {len(source):,} images")
    found = duplicates_of(source)
    say(f"unique: {len(found):,} of {len(source):,} images are left out of training (duplicates of others)")
    if len(source) - len(found) < 2:
        raise UserError(f"--unique leaves one image of {source.name}; two at least are needed to learn from")
    return found


def _left_out(run: Run, source: Source) -> dict[int, int]:
    """Return the duplicates that the run left out when it began; its images must be the same.

    Raises:
        UserError: left_out.csv is missing or damaged, or names other images.
    """
    rows = run.left_out()
    if any(index >= len(source) or printable(source.key(index)) != name for index, name, _ in rows):
        raise UserError(f"{source.name} holds other images than when {run.path} began: {LEFT_OUT} does not fit")
    return {index: of for index, _, of in rows}


def _shared_evenly(batch_size: int, shares: int | None, say: Say) -> int:
    """The batch that every process, or every share, has an equal part of."""
    processes = launched().processes
    count, those = (processes, "processes") if shares is None else (shares, "shares")
    rest = batch_size % count
    if rest == batch_size:
        raise UserError(f"a batch of {batch_size} has no row for each of {count} {those}; raise --batch-size")
    if rest:
        say(f"batch_size: {batch_size - rest} ({batch_size} can't be shared evenly by {count} {those})")
    return batch_size - rest


def _check_shares(settings: Settings, method: Method) -> None:
    """Check that this number of processes can hold the shares between them, and that all sums can be by shares.

    Raises:
        UserError: something does not go with shares.
    """
    shares, processes, mistakes = settings.shares, launched().processes, list[str]()
    if shares is None:
        return
    if shares % processes:
        mistakes.append(
            f"--shares {shares}: {processes} processes can't have as many each; start a number that divides it"
        )
    if settings.part or settings.memory:
        mistakes.append("--shares and --part both divide a batch, in different ways; leave one of them out")
    if method.refuses_shares:
        mistakes.append(f"--shares: {method.refuses_shares}")
    if mistakes:
        raise UserError(*mistakes)
    assert settings.image_size is not None
    check_network(method.backbone, settings.image_size)


def _refuse_parts(settings: Settings) -> None:
    """Refuse what would have no effect: heads see vectors.

    Raises:
        UserError: the network is to see the batch in parts.
    """
    given = [name for name in ("part", "memory", "shares") if getattr(settings, name) is not None]
    if given:
        words = " and ".join(f"--{name}" for name in given)
        raise UserError(f"{words}: heads learn from vectors, not from images; leave it out, or take --train all")


def _on_images(settings: Settings, source: Source, left_out: Mapping[int, int], say: Say) -> Prepared:
    method = _built(settings, len(without(source, left_out)), say)
    if settings.memory and settings.part is None:
        settings = in_memory(settings, method, say)
    return Prepared(settings, source, method, left_out)


def _built(settings: Settings, images: int, say: Say = lambda text: None) -> Method:
    method = build_method(settings, images)
    check_views(settings, method)
    _check_shares(settings, method)
    if settings.weights is not None:
        say(f"weights: {settings.weights} ({_started(method.backbone, settings)})")
    return method


def _started(backbone: Backbone, settings: Settings) -> str:
    """Load the first weights into a backbone, which has timm's already; return where they come from."""
    assert settings.backbone is not None
    if settings.weights in (None, "timm"):
        return str(_origin(settings))
    return start_from_words(backbone, settings.backbone["name"], settings.weights)


def _origin(settings: Settings) -> Origin | None:
    """Where the first weights come from, if that is a package or timm."""
    assert settings.backbone is not None
    return origin_of(settings.backbone["name"], settings.weights)


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        rest = ", ".join(f"{key} {one}" for key, one in value.items() if key != "name")
        return f"{value['name']}{f', {rest}' if rest else ''}"
    return str(value)
