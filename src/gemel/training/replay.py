"""A step of a run taken again from its draws: the batch, its loss terms and gradients, to see where NaN came from."""

import math
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gemel.data.listing import printable
from gemel.data.plan import Batch, Unfinished
from gemel.engine import checkpoints
from gemel.engine.loop import Loop
from gemel.engine.progress import Display, Say
from gemel.errors import UserError
from gemel.reports.replayed import Replay, Size
from gemel.runs.run import Run
from gemel.training.prepared import Prepared
from gemel.training.stages import stages_of
from gemel.training.task import Pretraining
from gemel.training.train import begun, check


def start_of(run: Run, step: int, *, exact: bool) -> dict[str, Any] | None:
    """Return the checkpoint that a replay starts from; None: from the beginning.

    Raises:
        UserError: without `exact`, where there is no checkpoint.
    """
    state = checkpoints.newest(run, step - 1 if exact else None)
    if state is None and not exact:
        raise UserError(f"{run.path} has no good checkpoint; leave out --no-exact, and the run is taken from its start")
    return state


def replay(
    prepared: Prepared, run: Run, step: int, state: Mapping[str, Any] | None, *, exact: bool, say: Say | None = None
) -> Replay:
    """Take a step again, from the same draws; nothing is written.

    Args:
        prepared: the run, as `continued` makes it.
        run: whose metrics.csv the terms are set beside.
        step: of all stages, counted from 1.
        state: the checkpoint that `start_of` found.
        exact: first take every step between the checkpoint and this one; else take the checkpoint's weights.
        say: is shown how far the steps before are.

    Raises:
        UserError: the run has no such step, or its files are of other images or settings.
    """
    settings = prepared.settings
    assert settings.threads is not None
    torch.set_num_threads(settings.threads)  # sums over other numbers of threads round otherwise
    steps = sum(one.epochs for one in stages_of(settings, prepared.method)) * prepared.plan.steps_per_epoch
    if not 1 <= step <= steps:
        raise UserError(f"--step {step} is not a step of {run.path}; give one from 1 to {steps}")
    if state is not None:
        check(state, prepared, run)
    task, loop = _at(prepared, step, state, exact=exact, say=say)
    with closing(task.batches()) as batches:
        _advance(loop, batches, step - 1 - task.step, say)
        with _watched(task.method) as outputs:
            batch, terms = loop.gradients(batches)
    gradients = [_size(name, one.grad) for name, one in task.method.named_parameters() if one.grad is not None]
    task.adjust(task.done / task.steps)  # sets the rate of this step
    batch = batch.finished() if isinstance(batch, Unfinished) else batch
    source = task.plan.source
    values = {name: float(value.detach()) for name, value in terms.items()}
    return Replay(
        step=step,
        stage=task.stage.name,
        epoch=(step - 1) // task.plan.steps_per_epoch,
        start=0 if state is None else int(state["step"]),
        is_exact=exact or (state is not None and int(state["step"]) == step - 1),
        terms=values,
        recorded=_recorded(run, step, values),
        lr=task.rate,
        outputs=outputs,
        gradients=gradients,
        batch=_on_cpu(batch),
        paths=[printable(source.path(index)) for index in batch.index.tolist()],
        rejected={printable(source.path(index)): reason for index, reason in task.rejected.items()},
    )


def _at(
    prepared: Prepared, step: int, state: Mapping[str, Any] | None, *, exact: bool, say: Say | None
) -> tuple[Pretraining, Loop]:
    """Return the stage of a step, and its loop: stages before it are taken whole, from the checkpoint on."""
    task: Pretraining | None = None
    for stage in stages_of(prepared.settings, prepared.method):
        if state is not None and stage.number < state["stage"]:
            continue
        task, devices = begun(prepared, stage, state, task)
        state = None
        loop = Loop(task, devices, save=lambda _: None, seconds=math.inf)
        if not exact:
            task.done = step - 1 - task.before
            if not 0 <= task.done < task.steps:
                raise UserError(f"--no-exact: step {step} is of another stage than the newest checkpoint; leave it out")
            return task, loop
        if step <= task.before + task.steps:
            return task, loop
        with closing(task.batches()) as batches:
            _advance(loop, batches, task.steps - task.done, say)
    raise AssertionError("the step was checked to be of a stage")


def _advance(loop: Loop, batches: Iterator[Any], steps: int, say: Say | None) -> None:
    """Take steps as the run did; nothing is written."""
    with Display(steps, say=say, patient=True) as display:
        for number in range(steps):
            loop.step(batches)
            display.update(number + 1, lambda short: ("steps before it", ""))


@contextmanager
def _watched(method: nn.Module) -> Generator[list[Size]]:
    """Note the size of the outputs of every module without parts, in the order of the forward pass."""
    sizes: list[Size] = []

    def note(name: str) -> Any:
        def hook(*passed: Any) -> None:
            if isinstance(passed[-1], Tensor):  # behind the module and its inputs: its output
                sizes.append(_size(name, passed[-1].detach()))

        return hook

    handles = [
        module.register_forward_hook(note(name))
        for name, module in method.named_modules()
        if name and not any(True for _ in module.children())
    ]
    try:
        yield sizes
    finally:
        for handle in handles:
            handle.remove()


def _size(name: str, tensor: Tensor) -> Size:
    finite = tensor[tensor.isfinite()].double()
    largest = float(finite.abs().max()) if finite.numel() else 0.0
    return Size(name, tensor.numel(), float(finite.norm()), largest, tensor.numel() - finite.numel())


def _on_cpu(batch: Batch) -> Batch:
    views, partners = ([one.cpu() for one in part] for part in (batch.views, batch.partners))
    return Batch(views, batch.index.cpu(), batch.label.cpu(), partners)


def _recorded(run: Run, step: int, terms: Mapping[str, float]) -> dict[str, float]:
    """Return the terms of the step in metrics.csv."""
    for row in run.metrics().to_pylist():
        if row["step"] == step:
            return {name: row[name] for name in terms if row.get(name) is not None}
    return {}
