"""Methods as the engine begins them: room for the images, then the hooks of a stage and of its first epochs."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gemel import methods
from gemel.backbones.convnet import convnet
from gemel.data.plan import Batch, Plan
from gemel.data.sources import open_source
from gemel.launcher import launched
from gemel.methods.base import Embed, Embedded, Method
from gemel.settings.recipes import PhotoViews, Stage
from gemel.training import stages
from gemel.training.task import Pretraining

SIDE = 16

BATCH = 24
"""of `task_of`: shared evenly by one, two, three, four or six processes"""


def views_of(method: Method) -> int:
    """Return the number of global views that the method's first recipe draws in its present stage."""
    recipe = next(iter(method.recipes.values()))
    first, then = recipe.views.global_count, recipe.then if method.stage != method.stages[0] else Stage()
    return int(then.views.get("global_count", first))


def batch_of(method: Method, size: int = 12, *, local: int = 0, seed: int = 0) -> Batch:
    """Return random views and partners, as many as the method's first recipe draws."""
    generator = torch.Generator().manual_seed(seed)
    sides = [SIDE] * views_of(method) + [SIDE // 2] * local
    views, partners = ([torch.randn(size, 3, side, side, generator=generator) for side in sides] for _ in range(2))
    return Batch(views, torch.arange(size), torch.full((size,), -1), partners)


def embed_of(method: Method, images: int = 12) -> Embed:
    """Return what hooks are given; all images are random numbers."""

    def embed(
        head: nn.Module | None = None, *, views: bool = False, training: bool = False, network: Any = None
    ) -> Embedded:
        del training
        generator, encoder = torch.Generator().manual_seed(1), method.encoder() if network is None else network
        with torch.no_grad():
            rows = encoder(torch.randn(images, 3, SIDE, SIDE, generator=generator))
            rows = rows if head is None else head(rows)
        rows = torch.stack([rows] * views_of(method), 1) if views else rows
        return Embedded(rows, torch.ones(images, dtype=torch.bool))

    return embed


def begun(method: Method, images: int = 12, *, epochs: int = 1) -> Method:
    """Attach a dataset and call the hooks before the first step of an epoch."""
    embed = embed_of(method, images)
    method.attach(images)
    method.before_stage(method.stage, embed)
    for epoch in range(epochs):
        method.before_epoch(embed, epoch / (epochs + 1))
        method.before_step(embed, epoch / (epochs + 1))
    return method


def task_of(
    name: str, folder: Path, done: int = 0, *, dtype: torch.dtype = torch.float64, shares: int | None = None
) -> Pretraining:
    """A method on photographs, on this process of several, at its first step or at a later one; it has not begun."""
    here = launched()
    torch.manual_seed(0)
    kind = methods.find(name)
    optimizer = (kind.recipes.get("small") or next(iter(kind.recipes.values()))).optimizer
    method = kind(convnet(widths=(16, 32), strides=(2, 2), pool=1), **kind.small)
    views, source = PhotoViews(global_count=views_of(method)), open_source(str(folder))
    method.attach(len(source))
    plan = Plan(source, views, 32, 0, BATCH, rank=here.rank, processes=here.processes)
    stage = stages.Stage(0, method.stages[0], views, optimizer.model_copy(update={"warmup_epochs": 0}), 50, 0)
    task = Pretraining(method.to(dtype), stage, plan, done=done, shares=shares)
    task.normalise.to(dtype)  # hooks look at images before the first step
    return task


def weights_of(task: Pretraining) -> Tensor:
    """All tensors of a task's method that are no counts."""
    return torch.cat([one.flatten() for one in task.method.state_dict().values() if one.is_floating_point()])
