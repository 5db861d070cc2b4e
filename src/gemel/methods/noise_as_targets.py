"""Noise as Targets: match images one to one with random points on the sphere, and pull them there."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from gemel.data.plan import Batch
from gemel.distributed import from_first, gather, mean_over_processes, rank
from gemel.methods.base import Embed, Method
from gemel.methods.parts.counter import Counter
from gemel.methods.parts.fixed_codes import fixed_codes
from gemel.methods.parts.precision import exact_products, widened
from gemel.methods.parts.recipes import changed, small
from gemel.settings.recipes import AtLeastTwo, Count, PhotoViews, Recipe, SgdOptimizer


def unit_rows(features: Tensor) -> Tensor:
    """Return x / √(‖x‖² + 1e-10) of each row, as released, in float32 or wider."""
    rows = widened(features)
    return rows * (rows.square().sum(1, keepdim=True) + 1e-10).rsqrt()


def noise_as_targets_loss(features: Tensor, targets: Tensor) -> dict[str, Tensor]:
    r"""Return L = 1/n Σ_i ‖ẑ_i - t_i‖², ẑ = z / √(‖z‖² + 1e-10), over the global batch.

    The released code's loss is the sum, n L; its rate 0.01 at n = 256 is 2.56 for the mean. Source: arXiv 1704.05310
    and its released code.

    Args:
        features: z, (n, D), this process's rows.
        targets: t, (n, D), of norm 1.

    Returns:
        loss = 2 - 2 cosine, and cosine, the mean of <ẑ_i, t_i>.

    Raises:
        ValueError: the shapes differ or are not (n, D).
    """
    if features.shape != targets.shape or features.ndim != 2:
        raise ValueError(f"two matrices (n, D) of one shape are needed, not {features.shape} and {targets.shape}")
    with exact_products(features.device):
        z = unit_rows(features)
        targets = targets.to(z.dtype)
        loss = mean_over_processes((z - targets).square().sum(1).mean())
        cosine = mean_over_processes((z.detach() * targets).sum(1).mean())
    return {"loss": loss, "cosine": cosine}


@torch.no_grad()
def best_assignment(z: Tensor, targets: Tensor) -> Tensor:
    """Return σ, (n,), the permutation with the largest Σ_i <z_i, t_σ(i)>; exact, on the CPU: it waits for the device.

    The released code cuts the scores to integers of 1e-5 of their range first; ties below that are arbitrary.
    """
    scores = (z @ targets.to(z.dtype).T).double().cpu().numpy()
    return from_first(torch.from_numpy(linear_sum_assignment(scores, maximize=True)[1]).to(z.device))


class NoiseAsTargets(Method):
    r"""Match images one to one with random points on the sphere, and pull them there (https://arxiv.org/abs/1704.05310).

    L = 1/n Σ_i ‖ẑ_i - t_σ(i)‖²

    Every image has a point, drawn from the run's seed. In some epochs the images of each batch exchange their points
    such that the sum of the distances is least; those steps wait for the device, as the exact assignment is made on
    the CPU, of the n x n scores of the global batch.

    Args:
        dimensions: D
        every: epochs from one with exchanges to the next, the first being one
        hidden: widths of the head's hidden layers
        dropout: chance of a zero after the first of them
    """

    recipes: ClassVar[Mapping[str, Recipe]] = {
        "alexnet": Recipe(
            source="the released code of arXiv 1704.05310: its AlexNet has batch norms, pools before the ReLU, sees "
            "Sobel gradients of images that are standardised one by one, and crops of one scale; torchvision's has "
            "and sees none of that",
            views=PhotoViews(
                global_count=1, scale=(0.766, 0.766), ratio=(1, 1), jitter=0, gray=0, blur=0, solarize=0,
                interpolation="bilinear",
            ),
            backbone={"name": "alexnet"},
            image_size=224,
            epochs=100,
            batch_size=256,
            optimizer=SgdOptimizer(lr=2.56, momentum=0.0, weight_decay=0.0, warmup_epochs=0, final=1.0),
            method={"hidden": ()},
        ),
        "small": small({"dimensions": 64, "hidden": (256,)}, views=changed("byol", global_count=1, blur=0, solarize=0)),
    }  # fmt: skip
    title = "Noise as Targets"
    terms: ClassVar[Mapping[str, str]] = {
        "cosine": "mean cosine of an image's embedding and its point; rises to 1 as images reach their points",
    }
    advice: ClassVar[Mapping[str, str]] = {
        "same_embeddings": "take larger batches, in which more points can be exchanged, or lower --method.every",
    }
    protocols: ClassVar[Mapping[str, str]] = {"finetune": "twist"}
    small: ClassVar[Mapping[str, Any]] = {"dimensions": 8, "hidden": (16,), "dropout": 0.0}

    def __init__(
        self,
        backbone: Any,
        *,
        dimensions: AtLeastTwo = 2048,
        every: Count = 3,
        hidden: Annotated[tuple[Count, ...], Field(max_length=100)] = (4096,),
        dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5,
    ) -> None:
        super().__init__(backbone)
        self.dimensions, self.every = dimensions, every
        layers: list[nn.Module] = []
        width = backbone.width
        for number, after in enumerate(hidden):
            layers += [nn.Linear(width, after), nn.ReLU(inplace=True), *([nn.Dropout(dropout)] if number == 0 else [])]
            width = after
        self.head = nn.Sequential(*layers, nn.Linear(width, dimensions))
        self.epochs = Counter()
        self.register_buffer("seed", torch.zeros((), dtype=torch.int64))
        self.seed: Tensor
        self._exchanged: tuple[Tensor, Tensor] | None = None

    def attach(self, images: int) -> None:
        """Give every image the point of its own number."""
        self.register_buffer("point", torch.arange(images))
        self.point: Tensor

    def before_stage(self, name: str, embed: Embed) -> None:
        """Draw the seed of the points."""
        self.seed.copy_(torch.randint(2**62, ()))

    def before_epoch(self, embed: Embed, progress: float) -> None:
        """Count the epochs."""
        self.epochs.value += 1

    def targets(self, points: Tensor) -> Tensor:
        """Return the points of these numbers, (n, D)."""
        return fixed_codes(self.seed, points, self.dimensions)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the loss, points exchanged first where it is time."""
        z = self.head(self.backbone(self.single(batch)))
        index, self._exchanged = batch.index, None
        points = self.point[index]
        if self.training and (self.epochs.value - 1) % self.every == 0:
            index, points, seen = gather(index), gather(points), gather(unit_rows(z.detach()))
            points = points[best_assignment(seen, self.targets(points))]
            self._exchanged = index, points
            points = points[rank() * len(z) :][: len(z)]
        return noise_as_targets_loss(z, self.targets(points))

    def after_step(self, progress: float) -> None:
        """Keep the exchanged points."""
        if self._exchanged is not None:
            self.point.index_copy_(0, *self._exchanged)

    def embed(self, features: Tensor) -> Tensor:
        """Return the embeddings, (B, D), of norm 1."""
        return unit_rows(self.head(features))
