"""Accelerator, precision and processes, by Lightning Fabric: the only file that imports it."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from typing import Any, Literal, TypeVar

from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.single_device import SingleDeviceStrategy
from lightning_fabric.utilities import move_data_to_device
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from gemel.device import device
from gemel.distributed import as_one
from gemel.launcher import launched

Precision = Literal["64", "32", "bf16", "16"]
"""64: to prove that processes agree; runs take the others"""

_PRECISIONS: dict[Precision, Literal["64-true", "32-true", "bf16-mixed", "16-mixed"]] = {
    "64": "64-true",
    "32": "32-true",
    "bf16": "bf16-mixed",
    "16": "16-mixed",
}

Data = TypeVar("Data")


def moved(data: Data) -> Data:
    """Return tensors, and lists and named tuples of them, on this process's device."""
    return move_data_to_device(data, device())


class Devices:
    """This process's device, the arithmetic on it, and the mean of gradients over the processes.

    Args:
        precision: of the network's arithmetic; 16 scales the loss.
        averages: False: each process computes the loss of all rows, and the task's gradients are those of all.
    """

    def __init__(self, precision: Precision | None = "32", *, averages: bool = True) -> None:
        here = launched()
        several = here.processes > 1 and averages
        self.device = device()
        self._averages = averages
        self._fabric = Fabric(
            accelerator=self.device.type,
            devices=here.local_processes if several else [self.device.index] if self.device.type == "cuda" else 1,
            num_nodes=here.processes // here.local_processes if several else 1,
            strategy=_data_parallel() if several else SingleDeviceStrategy(self.device),
            plugins=[_Processes()],
            precision=_PRECISIONS[precision or "32"],
        )
        if several:
            self._fabric.launch()

    def wrapped(self, network: nn.Module) -> nn.Module:
        """Return the network on the device; its forward in the precision, its gradients the mean over processes."""
        return self._fabric.setup_module(network)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return a block in the precision, for what runs outside of the wrapped network."""
        return self._fabric.autocast()

    def backward(self, loss: Tensor) -> None:
        """Compute gradients, of the scaled loss in half precision."""
        with nullcontext() if self._averages else as_one():
            self._fabric.backward(loss)

    def unscale(self, optimizer: Optimizer) -> None:
        """Divide the gradients by the scale of the loss, so that they can be clipped."""
        self._fabric.strategy.precision.unscale_gradients(optimizer)

    def step(self, optimizer: Optimizer) -> None:
        """Let the optimiser step; in half precision it is skipped where a scaled gradient overflowed."""
        self._fabric.strategy.optimizer_step(optimizer)

    def state(self) -> dict[str, Any]:
        """Return the scale of the loss, for a checkpoint."""
        return self._fabric.strategy.precision.state_dict()

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue with the scale of a checkpoint."""
        self._fabric.strategy.precision.load_state_dict(dict(state))


def _data_parallel() -> DDPStrategy:
    """Return DDP that sends no buffers at a step: batch norms are synchronised, they are the same on all processes."""
    new = "forward_sync_buffers"  # torch 2.13 deprecated the old name
    name = new if new in signature(DistributedDataParallel).parameters else "broadcast_buffers"
    options: dict[str, Any] = {name: False}
    return DDPStrategy(gradient_as_bucket_view=True, **options)


class _Processes(LightningEnvironment):
    """Tells Fabric what the launcher said; the process group exists before.

    Of one process, too: Fabric's own look at SLURM's variables refuses what `sbatch` sets for the script itself.
    """

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
        """Leave the launcher's variables: what follows the training reads them too."""
