"""Vectors of all images for a method's hooks: each process computes a share, all receive the same."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from gemel.data.batches import InferenceLoader, ViewLoader
from gemel.data.plan import Plan, Unfinished, is_glyph
from gemel.device import device
from gemel.distributed import rank, world_size
from gemel.engine.devices import moved
from gemel.engine.frozen import engine_for, frozen
from gemel.engine.loop import seed_all
from gemel.engine.modes import in_mode
from gemel.engine.processes import by_the_first
from gemel.methods.base import Embedded, Method

BATCH = 256
"""images of a forward pass in evaluation mode; in training mode it is the run's batch"""


class Embedder:
    """What a method's hooks are given as `embed`; see `gemel.methods.base.Embed`.

    Args:
        method: whose encoder looks.
        plan: of the images and their views.
        normalise: from uint8 to the network's floats.
        workers: threads that prepare the images.
        in_blocks: in evaluation mode each pass sees the same images on any number of processes, by the network itself:
            the same bits. Else the processes share the images as evenly as can be, and the fastest engine looks.
    """

    def __init__(
        self, method: Method, plan: Plan, normalise: nn.Module, workers: int, *, in_blocks: bool = False
    ) -> None:
        self._method, self._plan, self._normalise, self._workers = method, plan, normalise, workers
        self._in_blocks = in_blocks

    def __call__(self, head: nn.Module | None, *, epoch: int, views: bool, training: bool, network: Any) -> Embedded:
        """Return vectors of all images, on the CPU, the same on every process; views are those of an epoch."""
        encoder = self._method.encoder() if network is None else network
        modules = [one for one in (encoder, head) if isinstance(one, nn.Module)]
        count = len(self._plan.source)
        features, readable = torch.zeros(0), torch.zeros(count, dtype=torch.bool)
        generators = [device()] if device().type == "cuda" else []
        # What a hook draws next must not depend on how many images this process saw.
        with torch.random.fork_rng(generators), torch.no_grad(), in_mode(training, *modules):
            look = encoder if training or self._in_blocks else self._fastest(encoder, views)
            seed_all(self._plan.seed, epoch, rank())
            for index, images in self._batches(epoch if views else None, training):
                found = [look(self._normalise(view.to(device()))) for view in images]
                found = [one if head is None else head(one) for one in found]
                rows = (torch.stack(found, 1) if views else found[0]).float().cpu()
                if not len(features):
                    features = torch.zeros(count, *rows.shape[1:])
                features[index], readable[index] = rows, True
        return _of_all(features, readable)

    def _fastest(self, encoder: Any, views: bool) -> Any:
        """Return what gives an encoder's features in evaluation mode; all processes use what the first one chooses."""
        if not isinstance(encoder, nn.Module) or self._plan.source.width is not None:
            return encoder
        plan = self._plan
        images = len(plan.source) * (plan.views.global_count if views else 1)
        engine = by_the_first(lambda: engine_for(encoder, plan.size, images=images, keep=False))
        return frozen(encoder, plan.size, engine=engine, keep=False)

    def _batches(self, epoch: int | None, training: bool) -> Iterator[tuple[Tensor, Sequence[Tensor]]]:
        """Yield indices and views of this process's share of each batch.

        In training mode a batch norm sees the rows of all processes: a share without a readable image comes as no rows.
        """
        plan, everything = self._plan, np.arange(len(self._plan.source))
        size = plan.batch_size if training else BATCH * world_size()
        batches = [everything[start : start + size] for start in range(0, len(everything), size)]
        if self._in_blocks and not training:
            shares = [batch[rank() * BATCH :][:BATCH] for batch in batches]
        else:
            shares = [np.array_split(batch, world_size())[rank()] for batch in batches]
        loaded = self._loaded(epoch, np.concatenate(shares), -(-size // world_size()))
        waiting = next(loaded, None)
        for share in shares:
            if waiting is not None and waiting[0][0] in share:
                yield waiting
                waiting = next(loaded, None)
            elif training and world_size() > 1:
                count = 1 if epoch is None else plan.views.global_count
                no_rows = torch.zeros(0, *plan.shape, dtype=torch.uint8)
                yield torch.zeros(0, dtype=torch.int64), [no_rows] * count

    def _loaded(
        self, epoch: int | None, indices: NDArray[np.int64], size: int
    ) -> Iterator[tuple[Tensor, Sequence[Tensor]]]:
        plan = self._plan
        if epoch is None:
            crops = InferenceLoader(
                plan.source,
                size=plan.size,
                glyph=is_glyph(plan.views),
                batch_size=size,
                workers=self._workers,
                indices=indices.tolist(),
            )
            for images, index in crops:
                yield index, [images]
            return
        for batch in ViewLoader(plan, epoch, indices.tolist(), batch_size=size, workers=self._workers):
            finished = moved(batch).finished() if isinstance(batch, Unfinished) else batch
            yield finished.index.cpu(), finished.views


def _of_all(features: Tensor, readable: Tensor) -> Embedded:
    """Add up the processes' rows: each row is zero on all but one of them."""
    if world_size() > 1:
        shapes: list[Any] = [None] * world_size()
        dist.all_gather_object(shapes, tuple(features.shape))
        features = features if len(features) else torch.zeros(max(shapes, key=len))
        seen = readable.to(torch.int32)
        dist.all_reduce(features)
        dist.all_reduce(seen)
        readable = seen > 0
    return Embedded(features, readable)
