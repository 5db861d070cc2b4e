"""From the user's words to a run that is ready to start: everything checked and chosen, nothing written."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from gemel import backbones, methods
from gemel.data.batches import Loader, Plan
from gemel.data.sources import Source, open_source
from gemel.errors import UserError
from gemel.methods.base import Method
from gemel.runs import Run, claim_folder, create
from gemel.schema import convert, mistakes_in, schema_of
from gemel.settings import Launch, Layer, Settings, common_mistakes, layer_of_file, merge, render
from gemel.train import checkpoints
from gemel.train.build import build_method
from gemel.train.choices import fill, look, recipe_of
from gemel.train.environment import environment
from gemel.train.measure import seconds_a_step, seconds_an_image

Say = Callable[[str], None]
"""where lines for the user go"""

SMALL_STEP = 0.3
"""seconds of a step on one thread, above which all cores are used without trying"""

OVERHEAD = 1.1
"""of probes, checkpoints and the closing pass, as a share of the steps' time"""


@dataclass
class Prepared:
    """A run that is ready to start.

    Args:
        settings: without gaps.
        source: the images.
        folder: the run's, not made yet.
        method: on its backbone, with its first weights.
    """

    settings: Settings
    source: Source
    folder: Path
    method: Method

    @property
    def plan(self) -> Plan:
        """What this process draws at every step."""
        chosen = self.settings
        assert chosen.views is not None and chosen.image_size is not None and chosen.batch_size is not None
        # The launcher's word: the process group is formed by the trainer, later.
        rank, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        return Plan(
            self.source, chosen.views, chosen.image_size, chosen.seed, chosen.batch_size, rank=rank, processes=processes
        )


def prepare(layers: Sequence[Layer], say: Say) -> Prepared:
    """Check every layer, look at the images, choose what is open, measure a few steps.

    Args:
        layers: flags, or the settings of a call; a file that they name goes below them.
        say: is told each choice with its reason, and the estimate.

    Raises:
        UserError: with every mistake found.
    """
    named = [str(layer.values["config"]) for layer in layers if layer.values.get("config")]
    layers = [*(layer_of_file(path) for path in named), *layers]
    given = merge({"method": {"name": "twist"}}, *(layer.values for layer in layers))
    launch = {key: given.pop(key) for key in list(given) if key in Launch.model_fields}
    mistakes = [mistake for layer in layers for mistake in common_mistakes(layer, methods.available())]
    mistakes += _section_mistakes(layers, given)
    folder = _collect(
        mistakes, claim_folder, launch.get("out"), _stem(given), overwrite=_is_true(launch.get("overwrite"))
    )
    rescan = _is_true(launch.get("rescan"))
    source = _collect(mistakes, open_source, given.get("images", "digits"), labels=given.get("labels"), rescan=rescan)
    if mistakes or source is None or folder is None:
        raise UserError(*dict.fromkeys(mistakes))
    return _resolve(given, source, folder, say)


def start(prepared: Prepared) -> Run:
    """Make the run's folder: run.yaml and environment.json."""
    run = create(prepared.folder, render(prepared.settings.model_dump()))
    run.write_json("environment.json", environment())
    return run


def continued(run: Run) -> Prepared:
    """What `prepare` gave when the run began, from its run.yaml."""
    settings = Settings.model_validate(convert(Settings, run.settings, "run.yaml"))
    source = open_source(settings.images, labels=settings.labels)
    return Prepared(settings, source, run.path, _built(settings))


def _built(settings: Settings) -> Method:
    method = build_method(settings)
    if settings.weights not in (None, "timm"):
        checkpoints.start_from(method.backbone, str(settings.weights))
    return method


def _collect(mistakes: list[str], check: Callable[..., Any], *given: Any, **options: Any) -> Any:
    """What the check returns; its mistakes join the others, so that all are told at once."""
    try:
        return check(*given, **options)
    except UserError as error:
        mistakes += error.mistakes
        return None


def _section_mistakes(layers: Sequence[Layer], given: Mapping[str, Any]) -> list[str]:
    """Check the options of the method and of the backbone, which only their own files know."""
    mistakes: list[str] = []
    for section, find in (("method", methods.find), ("backbone", backbones.find)):
        asked = [layer for layer in layers if isinstance(layer.values.get(section), Mapping)]
        options = [layer for layer in asked if set(layer.values[section]) - {"name", "recipe"}]
        name = given[section].get("name") if isinstance(given.get(section), Mapping) else None
        # The file brings torch, seconds: it is imported where there is something to check, and not for a bare name
        # of a method, which the folder's list has answered.
        if name is None or not (options or (asked and section == "backbone")):
            continue
        constructor = _collect(mistakes if section == "backbone" else [], find, str(name))
        if constructor is not None:
            fields = schema_of(constructor).model_fields
            for layer in options:
                mistakes += mistakes_in(
                    layer.values[section], fields, layer.spell, section=section, title=name, also=("name", "recipe")
                )
    return mistakes


def _resolve(given: dict[str, Any], source: Source, folder: Path, say: Say) -> Prepared:
    method = methods.find(given["method"]["name"])
    recipe_name = given["method"].get("recipe")
    facts = look(source)
    recipe, choices = recipe_of(given["method"]["name"], recipe_name, facts)
    schema = schema_of(method)
    has_classes = "classes" in schema.model_fields
    if given.get("classes") and not has_classes:
        raise UserError(f"--classes is not an option of {given['method']['name']}, which discovers no classes")
    values, more = fill(
        given, recipe, facts, fitted=recipe_name is None, has_classes=has_classes, seconds=seconds_an_image
    )
    values["labels"] = given.get("labels") or ("none" if source.labels is None else "own")
    settings = Settings.model_validate(convert(Settings, _without_gaps(values, schema), ""))
    for choice in (*choices, *more):
        say(f"{choice.key}: {_short(choice.value)} ({choice.reason})")
    prepared = Prepared(settings, source, folder, _built(settings))
    Loader(prepared.plan, epochs=1)  # too few images for a batch are told before anything is written
    _fit_epochs(prepared, say)
    return prepared


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
    return full


def _fit_epochs(prepared: Prepared, say: Say) -> None:
    """Fit the epochs to `minutes`, and say how long it will take."""
    settings, plan = prepared.settings, prepared.plan
    assert settings.optimizer is not None and settings.epochs is not None
    threads, step, reason = _threads(prepared)
    if settings.threads is None:
        say(f"threads: {threads} ({reason})")
        prepared.settings = settings = settings.model_copy(update={"threads": threads})
    epoch = OVERHEAD * step * plan.steps_per_epoch
    if settings.minutes is not None:
        epochs = max(1, int(settings.minutes * 60 / epoch))
        say(f"epochs: {epochs} (fits {settings.minutes:g} minutes, {epoch:.2g} s an epoch)")
        prepared.settings = settings = settings.model_copy(update={"epochs": epochs, "minutes": None})
    assert settings.epochs is not None
    dropped = len(plan.source) - plan.steps_per_epoch * plan.batch_size
    left_out = f"; {dropped} images, others each time, are left out of an epoch" if dropped else ""
    say(
        f"estimate: {clock(epoch * settings.epochs)} for {settings.epochs} epochs of {plan.steps_per_epoch} steps "
        f"at {1000 * step:.0f} ms{left_out}"
    )


def _threads(prepared: Prepared) -> tuple[int, float, str]:
    """Threads, the seconds of a step with them, and the reason: small networks are faster on one."""
    settings, plan = prepared.settings, prepared.plan
    assert settings.optimizer is not None

    def seconds(threads: int) -> float:
        torch.set_num_threads(threads)
        return seconds_a_step(prepared.method, settings.optimizer, plan, settings.workers or 0)

    cores = len(os.sched_getaffinity(0))
    if settings.threads is not None:
        return settings.threads, seconds(settings.threads), "as asked"
    alone = seconds(1) if not torch.cuda.is_available() else SMALL_STEP
    if alone < SMALL_STEP:
        together = seconds(cores)
        if alone < together:
            return 1, alone, f"a step takes {1000 * alone:.0f} ms, with {cores} it takes {1000 * together:.0f}"
    return cores, seconds(cores), f"{cores} cores"


def clock(seconds: float) -> str:
    """Seconds as 1:05 or 2:03:04."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _stem(given: Mapping[str, Any]) -> str:
    method = given["method"]
    return Path(str(method.get("name", "run"))).stem if isinstance(method, Mapping) else "run"


def _is_true(value: Any) -> bool:
    return str(value).lower() in ("true", "yes", "1", "on")


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        rest = ", ".join(f"{key} {one}" for key, one in value.items() if key != "name")
        return f"{value['name']}{f', {rest}' if rest else ''}"
    return str(value)
