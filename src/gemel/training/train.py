"""The stages of a run, one after the other: tasks of the loop, with what is written beside their steps."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch

from gemel.engine import checkpoints
from gemel.engine.devices import Devices
from gemel.engine.finite import ADVICE
from gemel.engine.loop import Loop, Observer
from gemel.engine.progress import Display, Say
from gemel.errors import UserError
from gemel.launcher import launched
from gemel.runs.run import Run
from gemel.settings.tree import render
from gemel.training.build import facts_of
from gemel.training.last_stage import adapting
from gemel.training.live_report import LiveReport
from gemel.training.prepared import Prepared
from gemel.training.records import Recorder, RejectionGuard, Reporter, Rows
from gemel.training.stages import Stage, stages_of
from gemel.training.task import Pretraining
from gemel.training.trackers import Trackers, opened


def train(prepared: Prepared, run: Run, say: Say, *, quiet: bool = False) -> None:
    """Train from the run's checkpoint, or from the start, to the end; write backbone.safetensors.

    Raises:
        Interrupted: by SIGINT or SIGTERM, checkpoint written.
        UserError: too many unreadable images; the checkpoint is kept.
        Diverged: the loss or the weights became NaN or infinite; the last good checkpoint is kept.
    """
    settings = prepared.settings
    assert settings.threads is not None
    # Sums over other numbers of threads round otherwise: the same run again, bit for bit, needs the same number.
    torch.set_num_threads(settings.threads)
    state = checkpoints.load(run, say)
    if state is not None:
        check(state, prepared, run)
        if settings.shares is None:
            _tell_processes(state, say)
    task = None
    done = 0 if state is None else int(state["step"])
    with opened(settings.log if launched().rank == 0 else (), run, done, say) as trackers:
        for stage in stages_of(settings, prepared.method):
            if state is None or stage.number >= state["stage"]:
                task = _train_stage(prepared, run, stage, state, task, trackers, say, quiet=quiet)
                state = None
    if launched().rank == 0:
        encoder = prepared.frozen or prepared.method.cpu().encoder()
        checkpoints.save_backbone(run, encoder, facts_of(settings, encoder.width))


def _train_stage(
    prepared: Prepared,
    run: Run,
    stage: Stage,
    state: dict[str, Any] | None,
    before: Pretraining | None,
    trackers: Trackers,
    say: Say,
    *,
    quiet: bool,
) -> Pretraining:
    """Take the run from a checkpoint of the stage, or from the stage before, to the stage's end."""
    settings = prepared.settings
    task, devices = begun(prepared, stage, state, before)
    rows, first = Rows(task), launched().rank == 0
    display = Display(task.steps, done=task.done, say=None if quiet or not first else say)
    observers: list[Observer] = []
    live: LiveReport | nullcontext[None] = nullcontext()
    if first:  # rows are on the disk before the checkpoint that counts them
        recorder = Recorder(run, task, rows, trackers=trackers, say=say)
        live = LiveReport(run, task, recorder.probe, say=say)
        observers = [recorder, Reporter(display, recorder), live]
    observers.append(RejectionGuard(run, task, share=settings.max_rejected))
    loop = Loop(
        task,
        devices,
        save=_saver(prepared, run),
        seconds=settings.checkpoint_seconds,
        looks=rows.are_due,
        observers=observers,
        name=str(run.path),
        part=f" of {stage.name}" if stage.number else "",
        continues=f"gemel resume {run.path} continues it",
        advice=lambda step: f"{ADVICE}; gemel replay {run.path} --step {step} shows what happened",
    )
    with live, display:
        loop.run()
    return task


def _tell_processes(state: Mapping[str, Any], say: Say) -> None:
    """Tell that another number of processes goes on than began: the batches are the same, rounding is not."""
    before, now = int(state["processes"]), launched().processes
    if before != now:
        say(
            f"processes: {now}, where {before} trained before: the batches are the same, but sums over other parts "
            "round otherwise, and what is of a process's own batch (--method.group of none) is of another part"
        )


def begun(
    prepared: Prepared, stage: Stage, state: Mapping[str, Any] | None, before: Pretraining | None
) -> tuple[Pretraining, Devices]:
    """Return a stage where a checkpoint left it, else at its beginning.

    Args:
        prepared: the run.
        stage: of it.
        state: a checkpoint of this stage; None: it begins.
        before: the stage before, at its end; None: there is none, or the checkpoint knows all of it.
    """
    settings, plan = prepared.settings, replace(prepared.plan, views=stage.views)
    done = 0 if state is None else int(state["step"]) - stage.before * plan.steps_per_epoch
    if settings.train == "last" and stage.number:
        task = adapting(prepared, stage, done=done)
    else:
        task = Pretraining(
            prepared.method, stage, plan, workers=settings.workers or 0, done=done, shares=settings.shares
        )
    devices = Devices(settings.precision, averages=settings.shares is None)
    if state is not None:
        task.load(state)
        devices.load(state["precision"])
    else:
        if before is not None:
            task.continue_after(before)
        task.begin()
    return task, devices


def _saver(prepared: Prepared, run: Run) -> Callable[[dict[str, Any]], None]:
    """Write a checkpoint; the processes hold the same, the first one writes."""
    facts = _facts(prepared)

    def save(state: dict[str, Any]) -> None:
        if launched().rank == 0:
            run.flush_metrics()
            checkpoints.save(run, facts | state)

    return save


def _facts(prepared: Prepared) -> dict[str, str | int]:
    """What a checkpoint is of; what plays no part in the weights may change."""
    settings = prepared.settings
    kept = render(
        settings.model_dump(exclude={"workers", "checkpoint_seconds", "log", "images", "labels", "max_rejected"})
    )
    return {
        "name": settings.method["name"],
        "settings": kept,
        "images": len(prepared.learned),
        "identity": prepared.identity,
        "processes": launched().processes,
    }


def check(state: Mapping[str, Any], prepared: Prepared, run: Run) -> None:
    """Check that a checkpoint is of these settings and images.

    Raises:
        UserError: it is of others.
    """
    facts = _facts(prepared)
    names = [str(one["identity"]).partition("-")[0] for one in (state, facts)]
    repaired = names[0] == names[1] and run.rejected().num_rows > 0  # what could not be read may be another file now
    if state["images"] != facts["images"] or not (repaired or state["identity"] == facts["identity"]):
        raise UserError(
            f"{prepared.settings.images} holds other images than when {run.path} began; a run continues with the same "
            "images only: put them back, or start a new run with --config"
        )
    if state["settings"] != facts["settings"]:
        raise UserError(f"{run.path / 'run.yaml'} was changed since the run began; start a new run with --config")
