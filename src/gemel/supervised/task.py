"""The two things that are fitted: heads on a frozen network, or a network with its head."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from gemel.data.normalise import Normalise
from gemel.distributed import world_size
from gemel.engine.precision import autocast
from gemel.engine.sync_batch_norm import synchronise
from gemel.errors import UserError
from gemel.launcher import launched

Precision = Literal["32", "bf16"]


class Fittable(ABC):
    """A network and linear heads on it.

    Args:
        network: normalised floats (B, 3, H, W) to (B, width).
        facts: as in backbone.json: size, mean, std.
        classes: of each head.
        heads: how many; all start alike, weights from N(0, 0.01²), bias 0.
        seed: of the heads.
        precision: bf16: the network by autocast.

    Raises:
        UserError: the network does not give features of such images.
    """

    least = 0
    """images of a batch that every process needs; above 0: and all equally many"""

    def __init__(
        self, network: nn.Module, facts: Mapping[str, Any], *, classes: int, heads: int, seed: int, precision: Precision
    ) -> None:
        self.device = own_device()
        self.precision = precision
        self.network = network.eval().to(self.device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self._normalise = Normalise(facts["mean"], facts["std"]).to(self.device)
        width = self._width(int(facts["size"]))
        self.heads = nn.ModuleList(_head(width, classes, seed) for _ in range(heads)).to(self.device)

    @abstractmethod
    def groups(self) -> list[list[nn.Parameter]]:
        """Parameters that take one rate: those of each head, then those of a network that is fitted."""

    @abstractmethod
    def gradients(self, views: Tensor, labels: Tensor, count: int) -> None:
        """Gradients of the mean cross entropy of a batch, summed over the heads.

        Args:
            views: this process's part of the batch, (b, 3, S, S) uint8.
            labels: (b,).
            count: images of the batch, over all processes.
        """

    @abstractmethod
    @contextmanager
    def judged(self, epoch: int) -> Generator[None]:
        """Evaluation mode, and what must hold after `epoch` epochs."""

    @torch.no_grad()
    def scores(self, views: Tensor) -> list[Tensor]:
        """Each head's logits (b, C) of uint8 images (b, 3, S, S)."""
        features = self._features(views)
        return [head(features) for head in self.heads]

    def _images(self, views: Tensor) -> Tensor:
        return self._normalise(views.to(self.device, non_blocking=True))

    def _features(self, views: Tensor) -> Tensor:
        with autocast(self.precision, self.device.type):
            return self.network(self._images(views)).float()

    @torch.no_grad()
    def _width(self, size: int) -> int:
        try:
            features = self.network(torch.zeros(2, 3, size, size, device=self.device))
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"the network takes no images of {size} x {size} pixels: {error}") from error
        if features.ndim != 2:
            raise UserError(f"the network gives {tuple(features.shape)} for two images; features are (2, width)")
        return features.shape[1]


class Frozen(Fittable):
    """Heads on a network in evaluation mode without gradients; nothing couples the heads."""

    def __init__(self, network: nn.Module, facts: Mapping[str, Any], **options: Any) -> None:
        # Before anything runs: a first look would move the running statistics of a network that ignores eval().
        start = {name: value.clone() for name, value in network.state_dict().items()}
        super().__init__(network, facts, **options)
        self._start = {name: value.to(self.device) for name, value in start.items()}

    def groups(self) -> list[list[nn.Parameter]]:
        """Those of each head."""
        return [list(head.parameters()) for head in self.heads]

    def gradients(self, views: Tensor, labels: Tensor, count: int) -> None:
        """As promised; `b` may be 0 where processes share few images.

        Raises:
            UserError: features that are not finite.
        """
        for parameter in self.heads.parameters():
            parameter.grad = torch.zeros_like(parameter)
        if len(labels):
            with torch.no_grad():
                features = self._features(views)
            if not bool(torch.isfinite(features).all()):
                raise UserError("the features hold numbers that are not finite; the training diverged")
            losses = [cross_entropy(head(features), labels, reduction="sum") / count for head in self.heads]
            torch.stack(losses).sum().backward()
        if world_size() > 1:
            gradients = [cast(Tensor, parameter.grad) for parameter in self.heads.parameters()]
            joined = torch.cat([gradient.flatten() for gradient in gradients])
            dist.all_reduce(joined)
            for gradient, part in zip(gradients, joined.split([one.numel() for one in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))

    @contextmanager
    def judged(self, epoch: int) -> Generator[None]:
        """Every tensor is held against the start: that catches running statistics that moved.

        Raises:
            UserError: one changed.
        """
        now = self.network.state_dict()
        changed = [name for name, value in self._start.items() if not torch.equal(now[name], value)]
        if changed:
            raise UserError(
                f"the network is frozen, and {len(changed)} of its tensors changed by the end of epoch {epoch} "
                f"({', '.join(changed[:5])}); a part of it, a batch norm say, does not follow eval()"
            )
        yield


class Trained(Fittable):
    """A network in training mode with one head; its batch norms see the rows of all processes, equally many of each."""

    least = 2  # batch norm has no variance of one image

    def __init__(self, network: nn.Module, facts: Mapping[str, Any], **options: Any) -> None:
        if not any(True for _ in network.parameters()):
            raise UserError("the network has no weights: there is nothing to fit but a linear layer (gemel ... linear)")
        super().__init__(network, facts, **options)
        if world_size() > 1:
            synchronise(self.network)
        whole = nn.Sequential(self.network.requires_grad_(True), self.heads[0]).train()
        self._whole = DistributedDataParallel(whole) if world_size() > 1 else whole

    def groups(self) -> list[list[nn.Parameter]]:
        """Those of the head, those of the network."""
        return [list(self.heads.parameters()), list(self.network.parameters())]

    def gradients(self, views: Tensor, labels: Tensor, count: int) -> None:
        """As promised."""
        self._whole.zero_grad()
        with autocast(self.precision, self.device.type):
            logits = self._whole(self._images(views))
        # DDP takes the mean over processes: of these it is the batch's mean.
        loss = cross_entropy(logits.float(), labels, reduction="sum") * world_size() / count
        loss.backward()

    @contextmanager
    def judged(self, epoch: int) -> Generator[None]:
        """All processes judge with the first one's buffers: what is no batch norm may have its own."""
        del epoch
        if world_size() > 1:
            for buffer in self.network.buffers():
                dist.broadcast(buffer, 0)
        self._whole.eval()
        yield
        self._whole.train()


def _head(width: int, classes: int, seed: int) -> nn.Linear:
    head = nn.Linear(width, classes)
    nn.init.normal_(head.weight, 0.0, 0.01, generator=torch.Generator().manual_seed(seed))
    nn.init.zeros_(head.bias)
    return head


def own_device() -> torch.device:
    """This process's GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", launched().local_rank)
    return torch.device("cpu")
