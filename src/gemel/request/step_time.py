"""What a step costs on this machine, by a few of them."""

import copy
import time
from collections.abc import Mapping
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device

from gemel import backbones
from gemel.data.batches import Loader, Plan
from gemel.distributed import any_of
from gemel.engine.precision import autocast
from gemel.engine.processes import first_says
from gemel.methods.base import Method
from gemel.settings.recipes import Optimizer
from gemel.training.task import Pretrainer

WARM = 2
"""first steps that don't count"""

LONG_ENOUGH = 1.0
"""seconds of steps that are measured, if three of them take no longer"""


def seconds_a_step(
    method: Method,
    description: Optimizer,
    plan: Plan,
    workers: int,
    *,
    precision: str | None = None,
    stage: str | None = None,
) -> float:
    """Median of some real steps on a copy of the method, views and workers included: nothing of the run is touched.

    Several processes take the steps together, as a loss may want all their rows; the first one's clock counts.

    Raises:
        UserError: the method refuses to begin this stage.
    """
    own = copy.deepcopy(method)
    own.before_stage(stage or method.stages[0])
    module = Pretrainer(own, description, plan.views, batch_size=plan.batch_size, steps=100, warmup=0.5)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module.to(device)
    times: list[float] = []
    begin = time.perf_counter()
    for batch in Loader(plan, epochs=1, workers=workers):
        with autocast(precision, device):
            loss = module.training_step(move_data_to_device(batch, torch.device(device)), 0)
        loss.backward()
        module.optimizer.step()
        module.optimizer.zero_grad()
        float(loss.detach())
        now = time.perf_counter()
        times.append(now - begin)
        begin = now
        if any_of(len(times) > WARM + 2 and sum(times[WARM:]) > LONG_ENOUGH):
            break
    late = sorted(times[WARM:] or times)
    return float(first_says(late[len(late) // 2]))


def seconds_an_image(backbone: Mapping[str, Any], size: int) -> float:
    """Forward and backward of one view through a network, by a batch of 16 of them."""
    options = {key: value for key, value in backbone.items() if key != "name"}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network: Any = backbones.find(backbone["name"])(**options).to(device).to(memory_format=torch.channels_last)
    images = torch.rand(16, 3, size, size, device=device).to(memory_format=torch.channels_last)
    name, best = next(name for name, _ in network.named_parameters()), float("inf")
    for _ in range(2):
        begin = time.perf_counter()
        total = network(images).sum()
        total.backward()
        float(network.get_parameter(name).grad.sum())  # waits for a GPU to end
        best = min(best, time.perf_counter() - begin)
    return best / len(images)
