"""What a step costs on this machine, by a few of them."""

import copy
import time
from collections.abc import Mapping
from typing import Any

import torch

from gemel import backbones
from gemel.data.batches import Loader, Plan
from gemel.methods.base import Method
from gemel.recipes import Optimizer
from gemel.train.module import Pretrainer


def seconds_a_step(method: Method, description: Optimizer, plan: Plan, workers: int) -> float:
    """Median of a few real steps on a copy of the method, views included: nothing of the run is touched."""
    copied = copy.deepcopy(method)
    module = Pretrainer(copied, description, plan.views, batch_size=plan.batch_size, steps=100, warmup=0.5)
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
        float(loss.detach())
        times.append(time.perf_counter() - begin)
    started = time.perf_counter()
    plan_batches = iter(Loader(plan, epochs=1))
    next(plan_batches)
    views_seconds = (time.perf_counter() - started) / max(1, workers)
    step = sorted(times[1:] or times)[len(times[1:]) // 2]
    return max(step, views_seconds) if workers else step + views_seconds


def seconds_an_image(backbone: Mapping[str, Any], size: int) -> float:
    """Forward and backward of one view through a network, by a batch of 16 of them."""
    options = {key: value for key, value in backbone.items() if key != "name"}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network: Any = backbones.find(backbone["name"])(**options).to(device).to(memory_format=torch.channels_last)
    images = torch.rand(16, 3, size, size, device=device).to(memory_format=torch.channels_last)
    best = float("inf")
    for _ in range(2):
        begin = time.perf_counter()
        float(network(images).sum().backward() or 0.0)
        best = min(best, time.perf_counter() - begin)
    return best / len(images)
