"""Pretraining: resolve the settings, then backbone, method, data and trainer make a run."""

import copy
import logging
import os
import platform
import subprocess
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning.pytorch import Callback, Trainer
from pydantic import BaseModel

from gemel import __version__, backbones, methods
from gemel.data.batches import Loader, Plan
from gemel.data.sources import Source, open_source
from gemel.distributed import rank, world_size
from gemel.errors import UserError
from gemel.methods.base import Method
from gemel.runs import Run, claim_folder, create
from gemel.schema import convert, mistakes_in, schema_of
from gemel.settings import Launch, Layer, Settings, common_mistakes, layer_of_file, merge, render
from gemel.train import checkpoints, choices
from gemel.train.build import build_method
from gemel.train.callbacks import Keeper, Recorder, RejectionGuard, Reporter, Say, clock
from gemel.train.module import Pretrainer
from gemel.train.probes import Probe

PROBES = 20
"""probes in a run, about"""

ROWS = 400
"""rows of metrics.csv in a run, about"""


class Interrupted(RuntimeError):
    """A signal ended the training; the checkpoint is written."""


@dataclass
class Prepared:
    """A run that is ready to start: everything checked, nothing written."""

    settings: Settings
    source: Source
    folder: Path
    method: Method
    choices: list[choices.Choice] = field(default_factory=lambda: [])
    seconds_per_step: float = 0.0

    @property
    def plan(self) -> Plan:
        """What this process draws at every step."""
        chosen = self.settings
        assert chosen.views is not None and chosen.image_size is not None and chosen.batch_size is not None
        return Plan(
            self.source, chosen.views, chosen.image_size, chosen.seed, chosen.batch_size,
            rank=rank() or int(os.environ.get("RANK", 0)), processes=int(os.environ.get("WORLD_SIZE", 1)),
        )  # fmt: skip


def prepare(layers: Sequence[Layer], say: Say) -> Prepared:
    """Check every layer, look at the images, choose what is open, measure a few steps.

    Raises:
        UserError: with every mistake found.
    """
    layers = _with_config(layers)
    mistakes = [mistake for layer in layers for mistake in common_mistakes(layer, methods.available())]
    given = merge({"method": {"name": "twist"}}, *(layer.values for layer in layers))
    mistakes += _section_mistakes(layers, given)
    launch = {key: given.pop(key) for key in list(given) if key in Launch.model_fields}
    source: Source | None = None
    try:
        folder = claim_folder(launch.get("out"), _method_name(given), overwrite=_truth(launch.get("overwrite")))
    except UserError as error:
        mistakes += error.mistakes
        folder = Path()
    try:
        source = open_source(
            given.get("images", "digits"), labels=given.get("labels"), rescan=_truth(launch.get("rescan"))
        )
    except UserError as error:
        mistakes += error.mistakes
    if mistakes or source is None:
        raise UserError(*dict.fromkeys(mistakes))
    return _resolve(given, source, folder, say)


def train(prepared: Prepared, run: Run, say: Say, *, quiet: bool = False) -> None:
    """Train from the run's checkpoint, or from the start, to the end; write backbone.safetensors.

    Raises:
        Interrupted: by SIGINT or SIGTERM, checkpoint written.
        UserError: too many unreadable images; the checkpoint is kept.
    """
    settings, plan = prepared.settings, prepared.plan
    assert settings.epochs is not None and settings.optimizer is not None and settings.views is not None
    state = checkpoints.load(run)
    start = int(state["step"]) if state else 0
    loader = Loader(plan, epochs=settings.epochs, start=start, workers=settings.workers or 0)
    steps = settings.epochs * plan.steps_per_epoch
    warmup = min(settings.optimizer.warmup_epochs / settings.epochs, 0.1)
    module = Pretrainer(
        prepared.method, settings.optimizer, settings.views,
        batch_size=plan.batch_size, steps=steps, warmup=warmup, start=start,
    )  # fmt: skip
    recorder = Recorder(
        run, Probe(plan, module.normalise), steps_per_epoch=plan.steps_per_epoch, every=max(1, steps // ROWS),
        probe_every=max(plan.steps_per_epoch, steps // PROBES), board=_board(settings, run), start=start,
    )  # fmt: skip
    keeper = Keeper(run, seconds=settings.checkpoint_seconds, counts={"stage": 0, "name": _method_name(run.settings)})
    guard = RejectionGuard(
        run, loader.rejected, plan.source.path, count=len(plan.source), share=settings.max_rejected
    )  # fmt: skip
    extra: list[Callback] = [] if quiet else [Reporter(recorder, steps_per_epoch=plan.steps_per_epoch, say=say)]
    trainer = _trainer(settings, run, [recorder, guard, keeper, *extra])
    if state:
        _restore(state, module, trainer)
    if start < steps:
        with _silence():
            trainer.fit(module, train_dataloaders=loader)
    if keeper.interrupted is not None:
        raise Interrupted(f"interrupted at step {module.done} of {steps}; gemel resume {run.path} continues")
    _finish(prepared, run, module)


def start(prepared: Prepared) -> Run:
    """Make the run's folder: run.yaml and environment.json."""
    run = create(prepared.folder, render(prepared.settings.model_dump()))
    run.write_json("environment.json", environment())
    return run


def continued(run: Run) -> Prepared:
    """What `prepare` gave when the run began, from its run.yaml."""
    settings = Settings.model_validate(convert(Settings, run.settings, "run.yaml"))
    source = open_source(settings.images, labels=settings.labels)
    built = build_method(settings)
    if settings.weights not in (None, "timm"):
        checkpoints.start_from(built.backbone, str(settings.weights))
    return Prepared(settings, source, run.path, built)


def environment() -> dict[str, Any]:
    """Versions, hardware, commit: what a number depends on beside the settings."""
    import lightning
    import numpy
    import PIL
    import timm
    import torchvision

    commit = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "gemel": __version__,
        "commit": commit or "not in a checkout",
        "python": platform.python_version(),
        "system": platform.platform(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "lightning": lightning.__version__,
        "timm": timm.__version__,
        "numpy": numpy.__version__,
        "pillow": PIL.__version__,
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "processes": world_size(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _with_config(layers: Sequence[Layer]) -> list[Layer]:
    files = [layer_of_file(str(layer.values["config"])) for layer in layers if layer.values.get("config")]
    return [*files, *layers]


def _truth(value: Any) -> bool:
    return str(value).lower() in ("true", "yes", "1", "on")


def _method_name(given: Mapping[str, Any]) -> str:
    method = given["method"]
    return Path(str(method["name"])).stem if isinstance(method, Mapping) else "run"


def _section_mistakes(layers: Sequence[Layer], given: Mapping[str, Any]) -> list[str]:
    """Check the options of the method and of the backbone, which only their files know; import none in vain."""
    mistakes: list[str] = []
    for section in ("method", "backbone"):
        name = (given.get(section) or {}).get("name")
        asked = [layer for layer in layers if set(layer.values.get(section) or {}) - {"name", "recipe"}]
        named = any(layer.values.get(section) for layer in layers)
        if not name or not named or (section == "method" and not asked):
            continue
        try:
            schema = schema_of(methods.find(name) if section == "method" else backbones.find(name))
        except UserError as error:
            mistakes += error.mistakes if section == "backbone" else ()
            continue
        for layer in asked:
            mistakes += mistakes_in(
                layer.values[section], schema.model_fields, layer.spell, section=section,
                title=name, also=("name", "recipe"),
            )  # fmt: skip
    return mistakes


def _resolve(given: dict[str, Any], source: Source, folder: Path, say: Say) -> Prepared:
    method = methods.find(given["method"]["name"])
    recipe_name = given["method"].get("recipe")
    facts = choices.look(source)
    recipe, chosen = choices.recipe_of(method, recipe_name, facts)
    schema = schema_of(method)
    has_classes = "classes" in schema.model_fields
    if given.get("classes") and not has_classes:
        raise UserError(f"--classes is not an option of {given['method']['name']}, which discovers no classes")
    values, more = choices.fill(
        given, recipe, facts, fitted=recipe_name is None, has_classes=has_classes, seconds=_seconds_an_image
    )  # fmt: skip
    chosen += more
    values = _complete(values, schema)
    settings = Settings.model_validate(convert(Settings, values, ""))
    for choice in chosen:
        say(f"{choice.key}: {_short(choice.value)} ({choice.reason})")
    built = build_method(settings)
    if settings.weights not in (None, "timm"):
        checkpoints.start_from(built.backbone, str(settings.weights))
    prepared = Prepared(settings, source, folder, built, chosen)
    Loader(prepared.plan, epochs=1)  # too few images for a batch is told before anything is written
    prepared.seconds_per_step = _seconds_a_step(prepared)
    _fit_epochs(prepared, say)
    return prepared


def _complete(values: dict[str, Any], schema: type[BaseModel]) -> dict[str, Any]:
    """Every option of the method and of the backbone written out, so that run.yaml leaves nothing to a default."""
    options = {key: value for key, value in values["method"].items() if key not in ("name", "recipe")}
    full = convert(schema, options, "method")
    full.pop("classes", None)
    backbone = {key: value for key, value in values["backbone"].items() if key != "name"}
    network = convert(schema_of(backbones.find(values["backbone"]["name"])), backbone, "backbone")
    named = {key: value for key, value in values["method"].items() if key in ("name", "recipe")}
    return {**values, "method": named | full, "backbone": {"name": values["backbone"]["name"]} | network}


def _fit_epochs(prepared: Prepared, say: Say) -> None:
    """Fit the epochs to `minutes`, and say how long it will take."""
    settings, plan = prepared.settings, prepared.plan
    epoch = prepared.seconds_per_step * plan.steps_per_epoch
    if settings.minutes is not None and settings.epochs is not None:
        # A tenth for checkpoints, probes and the closing pass over the images.
        epochs = max(1, int(0.9 * settings.minutes * 60 / epoch))
        say(f"epochs: {epochs} (fits {settings.minutes:g} minutes, {epoch:.2g} s an epoch)")
        prepared.settings = settings = settings.model_copy(update={"epochs": epochs, "minutes": None})
    assert settings.epochs is not None
    dropped = len(plan.source) - plan.steps_per_epoch * plan.batch_size
    left_out = f", {dropped} images left out of each epoch by chance" if dropped else ""
    say(
        f"estimate: {clock(1.1 * epoch * settings.epochs)} for {settings.epochs} epochs of {plan.steps_per_epoch} "
        f"steps at {1000 * prepared.seconds_per_step:.0f} ms{left_out}"
    )


def _seconds_a_step(prepared: Prepared) -> float:
    """Median of a few real steps on a copy of the method: nothing of the run is touched."""
    settings, plan = prepared.settings, prepared.plan
    assert settings.optimizer is not None and settings.views is not None
    method = copy.deepcopy(prepared.method)
    module = Pretrainer(method, settings.optimizer, settings.views, batch_size=plan.batch_size, steps=100, warmup=0.5)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module.to(device)
    times: list[float] = []
    for batch, _ in zip(Loader(plan, epochs=1), range(4), strict=False):
        begin = time.perf_counter()
        views = [view.to(device) for view in batch.views]
        loss = module.training_step(batch._replace(views=views), 0)
        loss.backward()
        module.optimizer.step()
        module.optimizer.zero_grad()
        float(loss)
        times.append(time.perf_counter() - begin)
    started = time.perf_counter()
    plan_batches = iter(Loader(plan, epochs=1))
    next(plan_batches)
    views_seconds = (time.perf_counter() - started) / max(1, settings.workers or 1)
    step = sorted(times[1:] or times)[len(times[1:]) // 2]
    return max(step, views_seconds) if settings.workers else step + views_seconds


def _seconds_an_image(backbone: Mapping[str, Any], size: int) -> float:
    """Forward and backward of one view through a network, by a batch of 16 of them."""
    options = {key: value for key, value in backbone.items() if key != "name"}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = backbones.find(backbone["name"])(**options).to(device, memory_format=torch.channels_last)
    images = torch.rand(16, 3, size, size, device=device).to(memory_format=torch.channels_last)
    best = float("inf")
    for _ in range(2):
        begin = time.perf_counter()
        float(network(images).sum().backward() or 0.0)
        best = min(best, time.perf_counter() - begin)
    return best / len(images)


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        rest = ", ".join(f"{key} {one}" for key, one in value.items() if key != "name")
        return f"{value['name']}{f', {rest}' if rest else ''}"
    return str(value)


def _board(settings: Settings, run: Run) -> Any:
    if settings.log != "tensorboard" or rank() != 0:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("--log tensorboard needs the package: pip install tensorboard") from error
    return SummaryWriter(str(run.path / "tensorboard"))


def _trainer(settings: Settings, run: Run, callbacks: list[Callback]) -> Trainer:
    precision: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
        "32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed",
    }  # fmt: skip
    processes = int(os.environ.get("WORLD_SIZE", 1))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    with _silence():
        return Trainer(
            max_epochs=1,  # the loader runs through all epochs: a run can start at any step by itself
            accelerator="auto",
            devices=local,
            num_nodes=max(1, processes // local),
            strategy="ddp" if processes > 1 else "auto",
            precision=precision[settings.precision or "32"],
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            default_root_dir=run.path,
        )


class _silence:
    """Lightning's notes on hardware, tips and loaders: gemel says these things itself, or they don't concern it."""

    def __enter__(self) -> None:
        self._loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
        self._levels = [logger.level for logger in self._loggers]
        for logger in self._loggers:
            logger.setLevel(logging.WARNING)
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.filterwarnings("ignore", module="lightning")

    def __exit__(self, *error: object) -> None:
        self._warnings.__exit__(None, None, None)
        for logger, level in zip(self._loggers, self._levels, strict=True):
            logger.setLevel(level)


def _restore(state: dict[str, Any], module: Pretrainer, trainer: Trainer) -> None:
    module.method.load_state_dict(state["method"])
    module.optimizer.load_state_dict(state["optimizer"])
    trainer.precision_plugin.load_state_dict(state["precision"])
    torch.set_num_threads(int(state["threads"]))
    torch.set_rng_state(cast(torch.Tensor, state["random"]))


def _finish(prepared: Prepared, run: Run, module: Pretrainer) -> None:
    settings = prepared.settings
    assert settings.backbone is not None and settings.views is not None
    if rank() != 0:
        return
    module.cpu()
    facts = {
        "name": settings.backbone["name"],
        "options": {key: value for key, value in settings.backbone.items() if key != "name"} | _not_pretrained(settings),
        "width": module.method.encoder().width,
        "size": settings.image_size,
        "mean": list(settings.views.mean),
        "std": list(settings.views.std),
        "views": settings.views.name,
    }
    checkpoints.save_backbone(run, module.method.encoder(), facts)


def _not_pretrained(settings: Settings) -> dict[str, Any]:
    """The run's own weights follow: timm's need not be looked for when the backbone is loaded."""
    assert settings.backbone is not None
    return {"pretrained": False} if "pretrained" in settings.backbone else {}
