"""Pretraining: backbone, method, data and trainer make a run."""

import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import DDPStrategy

from gemel.data.batches import Loader
from gemel.engine import checkpoints, optimizers
from gemel.engine.checkpointing import Finite, Keeper
from gemel.errors import Interrupted, UserError
from gemel.launcher import launched
from gemel.request.resolve import Prepared, Say
from gemel.runs.run import Run
from gemel.settings.tree import Settings, render
from gemel.training.build import facts_of
from gemel.training.probes import Probe
from gemel.training.records import EpochCaller, Recorder, RejectionGuard, Reporter
from gemel.training.stages import Stage, stages_of
from gemel.training.task import Pretrainer

PROBES = 20
"""probes in a run, about"""

ROWS = 400
"""rows of metrics.csv in a run, about"""

PRECISIONS: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "32": "32-true",
    "bf16": "bf16-mixed",
    "16": "16-mixed",
}


def train(prepared: Prepared, run: Run, say: Say, *, quiet: bool = False) -> None:
    """Train from the run's checkpoint, or from the start, to the end; write backbone.safetensors.

    Raises:
        Interrupted: by SIGINT or SIGTERM, checkpoint written.
        UserError: too many unreadable images; the checkpoint is kept.
        Diverged: the loss is no longer a number; the last good checkpoint is kept.
    """
    settings = prepared.settings
    assert settings.threads is not None
    # Sums over other numbers of threads round otherwise: the same run again, bit for bit, needs the same number.
    torch.set_num_threads(settings.threads)
    state = checkpoints.load(run, say)
    if state is not None:
        _check(state, prepared, run)
    module = None
    for stage in stages_of(settings, prepared.method):
        prepared.method.before_stage(stage.name)
        if state is None or stage.number >= state["stage"]:
            module = _train_stage(prepared, run, stage, state, module, say, quiet=quiet)
            state = None
    assert module is not None
    if launched().rank == 0:
        module.cpu()
        encoder = prepared.method.encoder()
        checkpoints.save_backbone(run, encoder, facts_of(settings, encoder.width))


def _train_stage(
    prepared: Prepared,
    run: Run,
    stage: Stage,
    state: dict[str, Any] | None,
    before: Pretrainer | None,
    say: Say,
    *,
    quiet: bool,
) -> Pretrainer:
    """Take the run from a checkpoint of the stage, or from the stage before, to the stage's end."""
    settings, plan = prepared.settings, replace(prepared.plan, views=stage.views)
    first = stage.before * plan.steps_per_epoch
    start = int(state["step"]) if state else first
    module = _module(prepared, stage, first, start - first)
    if before is not None:
        optimizers.carry_over(before.optimizer, module.optimizer)
    # The epochs of all stages are counted together: no stage draws what another has drawn.
    epochs = stage.before + stage.epochs
    loader = Loader(plan, epochs=epochs, start=start, workers=settings.workers or 0)
    keeper = Keeper(run, seconds=settings.checkpoint_seconds, facts=_facts(prepared) | {"stage": stage.number})
    guard = RejectionGuard(run, loader, share=settings.max_rejected)
    writers = _writers(prepared, run, stage, module, say, quiet=quiet) if launched().rank == 0 else []
    with _lightning_is_quiet():
        # rows before the checkpoint that counts them
        callers = [Finite(run, plan.source), EpochCaller(plan, settings.workers or 0), *writers, guard, keeper]
        trainer = _trainer(settings, run, callers, clip=stage.optimizer.clip)
        if state:
            _restore(state, module, trainer)
        elif before is not None:
            trainer.precision_plugin.load_state_dict(before.precision)
        if module.done < module.steps:
            try:
                trainer.fit(module, train_dataloaders=loader)
            except SystemExit as leave:  # what Lightning makes of a second Ctrl-C
                raise KeyboardInterrupt from leave
        module.precision = trainer.precision_plugin.state_dict()
    if keeper.interrupted:
        steps = f"step {module.done} of {module.steps}{f' of {stage.name}' if stage.number else ''}"
        raise Interrupted(f"interrupted after {steps}; gemel resume {run.path} continues it")
    return module


def _writers(
    prepared: Prepared, run: Run, stage: Stage, module: Pretrainer, say: Say, *, quiet: bool
) -> list[Callback]:
    """What writes rows and lines: for the first of several processes alone."""
    settings, plan = prepared.settings, replace(prepared.plan, views=stage.views)
    recorder = Recorder(
        run,
        Probe(plan, module.normalise),
        steps_per_epoch=plan.steps_per_epoch,
        every=max(1, module.steps // ROWS),
        probe_every=max(plan.steps_per_epoch, module.steps // PROBES),
        board=_board(settings, run),
        stage=stage.name,
        start=module.step,
        say=say,
    )
    return [recorder] if quiet else [recorder, Reporter(recorder, steps_per_epoch=plan.steps_per_epoch, say=say)]


def _module(prepared: Prepared, stage: Stage, before: int, start: int) -> Pretrainer:
    plan = prepared.plan
    return Pretrainer(
        prepared.method,
        stage.optimizer,
        stage.views,
        batch_size=plan.batch_size,
        steps=stage.epochs * plan.steps_per_epoch,
        warmup=min(stage.optimizer.warmup_epochs / stage.epochs, 0.1),
        before=before,
        start=start,
        seed=prepared.settings.seed,
    )


def _facts(prepared: Prepared) -> dict[str, str | int]:
    """What a checkpoint is of; what plays no part in the weights may change."""
    settings = prepared.settings
    kept = render(settings.model_dump(exclude={"workers", "checkpoint_seconds", "log", "images", "max_rejected"}))
    return {
        "name": settings.method["name"],
        "settings": kept,
        "images": len(prepared.source),
        "processes": launched().processes,
    }


def _check(state: dict[str, Any], prepared: Prepared, run: Run) -> None:
    facts = _facts(prepared)
    if state["images"] != facts["images"]:
        raise UserError(
            f"{prepared.settings.images} holds {facts['images']} images, and held {state['images']} when {run.path} "
            "began; a run goes on with the same images only"
        )
    if state["processes"] != facts["processes"]:
        raise UserError(
            f"{run.path} was begun by {state['processes']} processes, and there are {facts['processes']} now; start as "
            "many again: sums over other parts round otherwise"
        )
    if state["settings"] != facts["settings"]:
        raise UserError(f"{run.path / 'run.yaml'} was changed since the run began; start a new run with --config")


def _trainer(settings: Settings, run: Run, callbacks: list[Callback], *, clip: float | None) -> Trainer:
    here = launched()
    alone = here.processes == 1
    return Trainer(
        max_epochs=1,  # the loader runs through all epochs: a run can start at any step by itself
        accelerator="auto",
        devices=here.local_processes,
        num_nodes=here.processes // here.local_processes,
        # Buffers are alike on all processes, as batch norms are synchronised: they need no sending.
        strategy="auto" if alone else DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True),
        plugins=None if alone else [_Processes()],
        precision=PRECISIONS[settings.precision or "32"],
        callbacks=callbacks,
        gradient_clip_val=clip,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=run.path,
    )


class _Processes(LightningEnvironment):
    """Tells the trainer what the launcher said: the group stands before the trainer is made."""

    @property
    def creates_processes_externally(self) -> bool:
        return True

    def world_size(self) -> int:
        return launched().processes

    def global_rank(self) -> int:
        return launched().rank

    def local_rank(self) -> int:
        return launched().local_rank

    def node_rank(self) -> int:
        return launched().rank // launched().local_processes

    def teardown(self) -> None:
        """The launcher's variables stay: what comes after the training asks them too."""


@contextmanager
def _lightning_is_quiet() -> Generator[None]:
    """Its notes on hardware, tips and loaders: gemel says these things itself, or they don't concern it."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _board(settings: Settings, run: Run) -> Any:
    if settings.log != "tensorboard":
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("--log tensorboard needs the package: pip install tensorboard") from error
    return SummaryWriter(str(run.path / "tensorboard"))


def _restore(state: dict[str, Any], module: Pretrainer, trainer: Trainer) -> None:
    checkpoints.load_strictly(module.method, state["method"], "the checkpoint")
    module.optimizer.load_state_dict(state["optimizer"])
    trainer.precision_plugin.load_state_dict(state["precision"])
