"""From what was asked to a run that is ready to start: everything chosen, nothing written."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from gemel import backbones, methods
from gemel.data.batches import Loader
from gemel.data.check.findings import duplicates_of
from gemel.data.listing import printable
from gemel.data.messages import counted
from gemel.data.pixel_values import Decoding
from gemel.data.sources import Source, open_source
from gemel.data.sources.identity import fingerprint
from gemel.engine.environment import environment
from gemel.engine.pretrained_weights import start_from
from gemel.engine.progress import Say
from gemel.errors import UserError
from gemel.launcher import launched
from gemel.methods.base import Method
from gemel.request.defaults import fill, look, recipe_of
from gemel.request.step_time import seconds_an_image
from gemel.request.validate import Asked
from gemel.runs.folder import create
from gemel.runs.run import LEFT_OUT, Run
from gemel.settings.recipes import OPTIMIZERS, VIEWS
from gemel.settings.schema import convert, mistakes_in, schema_of
from gemel.settings.tree import Settings, merge, render
from gemel.training.build import build_method
from gemel.training.prepared import Prepared, without
from gemel.training.stages import check_views

MAY_BE_EMPTY = ("minutes", "weights", "classes", "white", "black", "background")
"""settings of a run that may say: none"""

TABLES: dict[str, Mapping[str, type[BaseModel]]] = {"views": VIEWS, "optimizer": OPTIMIZERS}
"""sections of both stages, and what their names stand for"""


def prepare(asked: Asked, say: Say) -> Prepared:
    """Look at the images and choose what is open; but the epochs of `minutes` and the threads, which are measured.

    Args:
        asked: what the user asked for, checked.
        say: is told each choice with its reason.

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
    recipe, choices = recipe_of(given["method"]["name"], recipe_name, facts)
    schema = schema_of(method)
    has_classes = "classes" in schema.model_fields
    if given.get("classes") and not has_classes:
        raise UserError(f"--classes is not an option of {given['method']['name']}, which discovers no classes")
    fitted = recipe_name is None
    values, more = fill(
        given, recipe, facts, fitted=fitted, has_classes=has_classes, seconds=seconds_an_image, layers=asked.layers
    )
    values["batch_size"] = _shared_evenly(int(values["batch_size"]), say)
    values["labels"] = given.get("labels") or ("none" if source.labels is None else "own")
    settings = Settings.model_validate(convert(Settings, _without_gaps(values, schema), ""))
    if settings.then.epochs and len(method.stages) < 2:
        raise UserError(f"--then.epochs {settings.then.epochs}: {given['method']['name']} has no second stage")
    if source.passed_over:
        say(f"skipped beside {len(source)} images: {counted(source.passed_over)}")
    for choice in (*asked.dropped, *choices, *more):
        say(f"{choice.key}: {_short(choice.value)} ({choice.reason})")
    for warning in facts.warnings:
        say(f"warning: {warning}")
    method = _built(settings, len(without(source, left_out)), say)
    prepared = Prepared(settings, source, method, left_out, asked.claim)
    Loader(prepared.plan)  # too few images for a batch are told before anything is written
    return prepared


def start(prepared: Prepared) -> str:
    """Make the run's folder, which is returned: run.yaml and environment.json."""
    assert prepared.claim is not None, "the first process asks"
    run = create(prepared.claim, render(prepared.settings.model_dump()))
    facts = environment(len(prepared.source), prepared.settings.threads or 1)
    facts |= {"skipped": dict(prepared.source.passed_over), "method": prepared.method.described()}
    run.write_json("environment.json", facts)
    if prepared.settings.unique:
        keys = ((index, printable(prepared.source.key(index)), of) for index, of in prepared.left_out.items())
        run.write_left_out(keys)
    return str(run.path)


def follow(settings: Mapping[str, Any], images: str, left_out: Mapping[int, int]) -> Prepared:
    """What `prepare` gave the first of several processes, made on another from its settings and duplicates.

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
    source.decoding = Decoding.of(settings)
    return Prepared(chosen, source, _built(chosen, len(without(source, left_out))), left_out)


def continued(run: Run) -> Prepared:
    """Return what `prepare` returned when the run began, from its run.yaml.

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
    source.decoding = Decoding.of(run.settings)
    if launched().rank == 0:
        run.clear()
    # The first weights are asked for once more only where there is no checkpoint to bring the later ones.
    begun = run.checkpoint_path.is_file() or run.previous_path.is_file()
    weights = None if begun else settings.weights
    left_out = _left_out(run, source) if settings.unique else {}
    images = len(without(source, left_out))
    return Prepared(settings, source, _built(settings.model_copy(update={"weights": weights}), images), left_out)


def find_duplicates(source: Source, say: Say) -> dict[int, int]:
    """Return the duplicates that training leaves out, each with the image that stays.

    Raises:
        UserError: one image alone stays.
    """
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


def _shared_evenly(batch_size: int, say: Say) -> int:
    """The batch that every process has an equal part of."""
    processes = launched().processes
    rest = batch_size % processes
    if rest == batch_size:
        raise UserError(f"a batch of {batch_size} has no row for each of {processes} processes; raise --batch-size")
    if rest:
        say(f"batch_size: {batch_size - rest} ({batch_size} can't be shared evenly by {processes} processes)")
    return batch_size - rest


def _built(settings: Settings, images: int, say: Say = lambda text: None) -> Method:
    method = build_method(settings, images)
    check_views(settings, method)
    if settings.weights not in (None, "timm"):
        say(f"weights: {settings.weights} ({start_from(method.backbone, str(settings.weights))})")
    return method


def _without_gaps(values: dict[str, Any], schema: type[BaseModel]) -> dict[str, Any]:
    """Every option of the method and of the backbone written out, so that run.yaml leaves nothing to a default."""
    full = dict(values)
    for section, model in (("method", schema), ("backbone", schema_of(backbones.find(values["backbone"]["name"])))):
        named = {key: value for key, value in values[section].items() if key in ("name", "recipe")}
        options = {key: value for key, value in values[section].items() if key not in named}
        if "classes" in model.model_fields:
            options["classes"] = values["classes"]
        found = convert(model, options, section)
        if section == "method" and "classes" in found:
            full["classes"] = found.pop("classes")
        full[section] = named | found
    for section in TABLES:
        full[section] = _written_out(section, values[section], section)
    full["then"] = _second_stage(values.get("then") or {}, full)
    return full


def _written_out(section: str, values: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Views or an optimiser with every number; `key` is how the user speaks of them."""
    name = str(values["name"])
    schema = TABLES[section][name]
    title = f"{name}, which was chosen"
    wrong = mistakes_in(values, schema.model_fields, lambda dotted: f"--{dotted}", section=key, title=title)
    if wrong:
        raise UserError(*(f"{one}; or name another with --{key}" for one in wrong))
    return convert(schema, values, key)


def _second_stage(asked: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    """The second stage written out: what it leaves open is as in the first."""
    found: dict[str, Any] = {"epochs": asked.get("epochs", 0)}
    if str(found["epochs"]) != "0":
        for section in TABLES:
            values = merge({section: first[section]}, {section: asked.get(section) or {}})[section]
            found[section] = _written_out(section, values, f"then.{section}")
    return found


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        rest = ", ".join(f"{key} {one}" for key, one in value.items() if key != "name")
        return f"{value['name']}{f', {rest}' if rest else ''}"
    return str(value)
