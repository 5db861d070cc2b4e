"""What a step costs on this machine, measured on a few of them."""

import copy
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import nn

from gemel import backbones
from gemel.device import device
from gemel.engine.devices import Devices
from gemel.engine.loop import Loop
from gemel.engine.processes import first_says, flags_of_all
from gemel.methods.base import Embedded
from gemel.training.prepared import Prepared
from gemel.training.stages import Stage, stages_of
from gemel.training.task import Pretraining

WARM = 2
"""first steps that don't count"""

LONG_ENOUGH = 0.4
"""seconds of steps that are measured, at least one"""


class _StandIn(Pretraining):
    """A stage whose hooks see two random vectors in turn in place of all images': steps alone are measured.

    Hooks that divide the images are soon done with them; to divide as many random vectors takes longer than the steps.
    """

    def embedded(
        self, head: nn.Module | None = None, *, views: bool = False, training: bool = False, network: Any = None
    ):
        """Return vectors of the right shape."""
        del training
        plan, encoder = self.plan, self.method.encoder() if network is None else network
        with torch.no_grad():
            rows = encoder(torch.rand(2, *plan.shape, device=device()))
            rows = rows if head is None else head(rows)
        shape = (len(plan.source), *((plan.views.global_count,) if views else ()), *rows.shape[1:])
        features = torch.randn(2, *shape[1:])[torch.arange(shape[0]) % 2]
        return Embedded(features, torch.ones(shape[0], dtype=torch.bool))


class Timer(Protocol):
    """Measures some steps, as `step_timer` returns it."""

    def __call__(self, threads: int, beyond: float = float("inf")) -> float:
        """Return the median of a step in seconds; two first steps that take longer than `beyond` are enough."""
        ...


def step_timer(prepared: Prepared, stage: Stage) -> Timer:
    """Return what measures some real steps on a copy of the method with a number of threads: the median in seconds.

    Views and workers are included. Several processes take the steps together, as a loss may want all their rows; the
    first one's clock counts.

    Raises:
        UserError: the method refuses to begin this stage.
    """
    settings, method = prepared.settings, copy.deepcopy(prepared.method)
    for earlier in stages_of(settings, method)[: stage.number]:  # a later one may need what they have prepared
        _StandIn(method, earlier, replace(prepared.plan, views=earlier.views), shares=settings.shares).begin()
    plan = replace(prepared.plan, views=stage.views)
    task = _StandIn(method, stage, plan, workers=settings.workers or 0, shares=settings.shares)
    task.begin()
    devices = Devices(settings.precision, averages=settings.shares is None)
    loop = Loop(task, devices, save=lambda state: None, seconds=float("inf"))

    def seconds(threads: int, beyond: float = float("inf")) -> float:
        torch.set_num_threads(threads)
        task.done = 0
        with closing(task.batches()) as batches:  # ends the threads that prefetch
            return _median(loop, batches, min(task.steps, plan.steps_per_epoch), beyond)

    return seconds


def _median(loop: Loop, batches: Iterator[Any], most: int, beyond: float) -> float:
    times: list[float] = []
    begin = time.perf_counter()
    for _ in range(most):
        _, terms = loop.step(batches)
        float(terms["loss"])  # waits for a GPU to end
        now = time.perf_counter()
        times.append(now - begin)
        begin = now
        enough = sum(times[WARM:]) > LONG_ENOUGH
        if flags_of_all(enough or (len(times) == WARM and min(times) > beyond))[0]:
            break
    late = sorted(times[WARM:] or times)
    return float(first_says(late[(len(late) - 1) // 2]))  # of two the lower: the other one has waited for something


def seconds_an_image(backbone: Mapping[str, Any], size: int) -> float:
    """Return the time of forward and backward of one view through a network, by a batch of 16 of them."""
    options = {key: value for key, value in backbone.items() if key != "name"}
    network: Any = backbones.find(backbone["name"])(**options).to(device()).to(memory_format=torch.channels_last)
    images = torch.rand(16, 3, size, size, device=device()).to(memory_format=torch.channels_last)
    name, best = next(name for name, _ in network.named_parameters()), float("inf")
    for _ in range(2):
        begin = time.perf_counter()
        total = network(images).sum()
        total.backward()
        float(network.get_parameter(name).grad.sum())  # waits for a GPU to end
        best = min(best, time.perf_counter() - begin)
    return best / len(images)
