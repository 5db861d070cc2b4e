"""Detection and segmentation as tasks of the loop."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]
from torch.optim import SGD, Optimizer

from gemel.data.normalise import Normalise
from gemel.device import device
from gemel.distributed import gather, mean_over_processes, merged, rank, world_size
from gemel.engine.devices import Devices, moved
from gemel.engine.loop import seed_all
from gemel.engine.precise_norm import measure
from gemel.engine.sync_batch_norm import synchronise
from gemel.supervised.dense.batches import BoxBatch, BoxStream, LabelBatch, LabelStream, Stream
from gemel.supervised.dense.detector import TERMS, Detector, common_sides, padded
from gemel.supervised.dense.region_heads import Sums
from gemel.supervised.dense.segmenter import TERMS as SEGMENTER_TERMS
from gemel.supervised.dense.segmenter import Segmenter

Batch = TypeVar("Batch", BoxBatch, LabelBatch)


class DenseTask(ABC, Generic[Batch]):
    """A network and what it learns from.

    Several processes learn what one would: each has some rows of a batch, losses are divided by what all of them hold,
    and batch norms are of the rows of all.

    Args:
        network: what learns, on the CPU.
        mean: of the images, by channel, as shares of 255.
        std: likewise.
        stream: of batches.
        steps: in all.
        optimizer: of the network's parameters.
        devices: where, and in which precision.
    """

    def __init__(
        self,
        network: nn.Module,
        mean: Any,
        std: Any,
        stream: Stream[Any, Batch],
        *,
        steps: int,
        optimizer: Optimizer,
        devices: Devices,
    ) -> None:
        self.stream, self.steps, self.seed, self.done = stream, steps, stream.seed, 0
        if world_size() > 1:
            synchronise(network)
        self.network = network.to(device()).train()
        self.optimizer, self.devices = optimizer, devices
        self.normalise = Normalise(mean, std).to(device())

    @property
    def guarded(self) -> nn.Module:
        """The network."""
        return self.network

    @property
    def step(self) -> int:
        """Steps done."""
        return self.done

    def batches(self) -> Iterator[Batch]:
        """Yield the batches from step `done` on."""
        return self.stream.batches(range(self.done, self.steps))

    def before_step(self, progress: float) -> None:
        """Do nothing."""

    @abstractmethod
    def loss(self, network: nn.Module, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return named terms and their weighted sum, the same on every process."""

    @abstractmethod
    def rate(self) -> float:
        """Return the learning rate of this step."""

    def adjust(self, progress: float) -> None:
        """Set the rate of the step."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()

    def after_step(self, progress: float) -> None:
        """Do nothing."""

    def describe(self, batch: Batch) -> str:
        """Name the step's place in the data."""
        first = self.done * self.stream.batch_size
        return f"images {first} to {first + self.stream.batch_size - 1} of the order of seed {self.seed}"

    def measure_norms(self, count: int) -> None:
        """Set the statistics of batch norms by the batches that would follow the last step."""
        seed_all(self.seed, self.steps, rank())  # of dropout
        batches = self.stream.batches(range(self.steps, self.steps + count))
        with self.devices.autocast():
            measure(self.network, batches, lambda batch: self.loss(self.network, moved(batch), 1.0))

    def state(self) -> dict[str, Any]:
        """Return tensors, numbers and strings to continue from; all processes must ask."""
        return {
            "done": self.done,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rejected": merged(self.stream.rejected),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.done, self.stream.rejected = state["done"], dict(state["rejected"])


class DetectionTask(DenseTask[BoxBatch]):
    """A detector on images with boxes.

    Args:
        network: the detector.
        mean: of the images, by channel, as shares of 255.
        std: likewise.
        stream: of batches.
        devices: where, and in which precision.
    """

    def __init__(self, network: Detector, mean: Any, std: Any, stream: BoxStream, devices: Devices) -> None:
        self.recipe, self.multiple = stream.recipe, network.multiple
        self.names = TERMS if stream.recipe.masks else TERMS[:-1]
        row = stream.recipe
        optimizer = SGD(_groups(network, row.weight_decay), row.lr, momentum=row.momentum)
        super().__init__(network, mean, std, stream, steps=row.steps, optimizer=optimizer, devices=devices)

    def loss(self, network: nn.Module, batch: BoxBatch, progress: float) -> dict[str, Tensor]:
        """Return the terms over the images of all processes: each sum divided by the count of all."""
        images = [self.normalise(one[None])[0] for one in batch.images]
        sizes = [(one.shape[1], one.shape[2]) for one in images]
        own = torch.tensor([common_sides(sizes, self.multiple)])
        height, width = gather(own).amax(0).tolist()  # batch norms see the padding, as one process would
        found: Sums = network(padded(images, (height, width)), sizes, batch.targets)
        counts = gather(found.counts[None]).sum(0).clamp_min(1)
        terms = mean_over_processes(found.sums * (world_size() / counts))
        return {"loss": terms.sum(), **dict(zip(self.names, terms, strict=True))}

    def rate(self) -> float:
        """Return the rate by the recipe."""
        return self.recipe.lr * self.recipe.rate_factor(self.done)


class SegmentationTask(DenseTask[LabelBatch]):
    """A segmenter on images with label maps.

    Args:
        network: the segmenter.
        mean: of the images, by channel, as shares of 255.
        std: likewise.
        stream: of batches.
        devices: where, and in which precision.
    """

    def __init__(self, network: Segmenter, mean: Any, std: Any, stream: LabelStream, devices: Devices) -> None:
        self.recipe = row = stream.recipe
        self.names = SEGMENTER_TERMS if network.auxiliary is not None else SEGMENTER_TERMS[:1]
        optimizer = SGD(network.parameters(), row.lr, momentum=row.momentum, weight_decay=row.weight_decay)
        super().__init__(network, mean, std, stream, steps=row.steps, optimizer=optimizer, devices=devices)

    def loss(self, network: nn.Module, batch: LabelBatch, progress: float) -> dict[str, Tensor]:
        """Return the mean over all pixels of all processes, ignored ones included, and that of the auxiliary head."""
        images = self.normalise(batch.images) * batch.known[:, None]
        sums: Tensor = network(images, batch.labels)
        pixels = batch.labels[0].numel() * self.stream.batch_size
        terms = mean_over_processes(sums * (world_size() / pixels))
        weights = torch.tensor([1.0, self.recipe.auxiliary_weight])[: len(terms)].to(terms)
        return {"loss": (terms * weights).sum(), **dict(zip(self.names, terms, strict=True))}

    def rate(self) -> float:
        """Return the rate by the recipe."""
        return self.recipe.rate(self.done)


def rows_of_process(count: int) -> range:
    """Return the contiguous share of `count` images that this process judges."""
    first, last = (count * part // world_size() for part in (rank(), rank() + 1))
    return range(first, last)


def _groups(network: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Return the parameters that decay, and those of norms, which don't."""
    norms = [one for one in network.modules() if isinstance(one, _BatchNorm)]
    plain = {id(one) for norm in norms for one in norm.parameters(recurse=False)}
    learned = [one for one in network.parameters() if one.requires_grad]
    parts = [[one for one in learned if (id(one) in plain) is is_norm] for is_norm in (False, True)]
    return [
        {"params": cast(Any, part), "weight_decay": share}
        for part, share in zip(parts, (decay, 0.0), strict=True)
        if part
    ]
