"""TWIST's batch norm before the softmax, over groups of images."""

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from gemel.distributed import gather, mean_over_processes, rank, world_size
from gemel.errors import UserError
from gemel.methods.parts.precision import widened


class BunchNorm(nn.Module):
    """Batch norm without scale and shift whose statistics are shared by `bunch` consecutive images of the batch.

    z = (x - μ) / √(σ² + 1e-5) by column, μ and biased σ² over all views of the bunch's images: bunch · V rows. A bunch
    may span several processes, or a process may hold several. The state is that of `BatchNorm1d(width, affine=False)`,
    so that either can be loaded; the running statistics are the mean over bunches.

    Args:
        width: columns of the input.
        bunch: images that share statistics; none: the global batch.
    """

    def __init__(self, width: int, *, bunch: int | None = None) -> None:
        super().__init__()
        self.bunch = bunch
        self.epsilon, self.momentum = 1e-5, 0.1
        self.running_mean: Tensor
        self.running_var: Tensor
        self.num_batches_tracked: Tensor
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, rows: Tensor, views: int = 1) -> Tensor:
        """Normalise rows (V·B, width), view after view, in float32 or wider.

        Raises:
            UserError: bunches do not divide the global batch, or neither divide nor are multiples of a process's rows.
        """
        rows = widened(rows)
        if not self.training:
            mean, variance = self.running_mean.to(rows.dtype), self.running_var.to(rows.dtype)
            return batch_norm(rows, mean, variance, eps=self.epsilon)
        images = len(rows) // views
        bunch = images * world_size() if self.bunch is None else self.bunch
        if (images * world_size()) % bunch or (bunch % images and images % bunch):
            raise UserError(
                f"--method.bunch {bunch} with {images} images on each of {world_size()} processes: it must divide "
                f"--batch-size, {images * world_size()} here, and be a divisor or a multiple of a process's images; "
                "none takes the whole batch"
            )
        split = self._within if bunch <= images else self._across
        z, mean, variance = split(rows, views, bunch)
        with torch.no_grad():
            count = bunch * views
            both = mean_over_processes(torch.stack([mean, variance * (count / (count - 1))]).detach())
            self.running_mean.lerp_(both[0].to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_(both[1].to(self.running_var.dtype), self.momentum)
            self.num_batches_tracked += 1
        return z

    def _within(self, rows: Tensor, views: int, bunch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Normalise whole bunches of this process, each as columns of its own for PyTorch's kernel."""
        width = rows.shape[1]
        parts = rows.view(views, -1, bunch, width).transpose(1, 2)  # (V, bunch, bunches, width)
        columns = parts.reshape(views * bunch, -1)
        mean, variance = columns.new_zeros(2, columns.shape[1])
        z = batch_norm(columns, mean, variance, training=True, momentum=1.0, eps=self.epsilon)  # writes the statistics
        variance = variance * (1 - 1 / len(columns))  # it wrote the unbiased one
        z = z.view(parts.shape).transpose(1, 2).reshape(rows.shape)
        return z, mean.view(-1, width).mean(0), variance.view(-1, width).mean(0)

    def _across(self, rows: Tensor, views: int, bunch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Normalise by the statistics of several processes, each of which holds equally many rows of the bunch."""
        members = bunch * views // len(rows)
        first = rank() // members * members

        def average(local: Tensor) -> Tensor:
            return gather(local[None])[first : first + members].mean(0)

        mean = average(rows.mean(0))
        centred = rows - mean
        variance = average(centred.square().mean(0))
        return centred * (variance + self.epsilon).rsqrt(), mean, variance
