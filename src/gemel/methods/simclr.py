"""SimCLR: find an image's other view among all views of the batch."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from gemel.backbones.base import features_of
from gemel.data.plan import Batch
from gemel.distributed import gather, mean_over_processes, rank
from gemel.methods.base import Method
from gemel.methods.parts.contrast import check_contrast, log_sum_exp, unit
from gemel.methods.parts.heads import mlp
from gemel.methods.parts.precision import exact_products
from gemel.methods.parts.recipes import ZERO_INIT, changed, imagenet, small, solo, solo_lars
from gemel.settings.recipes import LarsOptimizer, Recipe, Widths

FLOOR = 1e-6
"""least length that embeddings are divided by, as in TensorFlow"""


def simclr_loss(one: Tensor, two: Tensor, *, temperature: float = 0.1) -> dict[str, Tensor]:
    r"""Return NT-Xent, L = 1/2N Σ_a [-s_{aπ(a)} + log Σ_{b≠a} exp(s_ab)], s_ab = <û_a, û_b> / τ, over all 2N views.

    π(a) is the other view of a's image, and among the candidates. The released code returns 2 L. Source: arXiv
    2002.05709, equation 1.

    Args:
        one: raw projections of the first views, (n, D), this process's rows.
        two: raw projections of the second views, (n, D).
        temperature: τ, above 0.

    Returns:
        loss = crowding - similarity / τ; similarity, the mean cosine of an image's views, -1..1; crowding, the mean of
        log Σ exp.

    Raises:
        ValueError: the shapes differ, are not (n, D), or τ is not positive.
    """
    check_contrast(temperature, one, two)
    with exact_products(one.device):
        views = unit(torch.cat([one, two]), floor=FLOOR)
        crowding = log_sum_exp(views, gather(views), temperature, own=rank() * len(views)).mean()
        first, second = views.chunk(2)
        similarity, crowding = mean_over_processes(torch.stack([(first * second).sum(1).mean(), crowding]))
    return {"loss": crowding - similarity / temperature, "similarity": similarity, "crowding": crowding}


def _lars(lr: float, weight_decay: float) -> LarsOptimizer:
    """Biases and norms, which LARS does not adapt, see the gradient of twice the mean in the released code."""
    return LarsOptimizer(lr=lr, bias_lr=2 * lr, weight_decay=weight_decay, final=0.0, flavour="L3")


RECIPES: Mapping[str, Recipe] = {
    "resnet50": imagenet(
        "arXiv 2002.05709, Table 6: linear top-1 69.3 on ImageNet", _lars(0.3, 1e-6), epochs=1000, batch_size=4096,
        views="simclr", backbone=ZERO_INIT,
    ),
    "resnet50w2": imagenet(
        "arXiv 2002.05709, Table 6, every channel doubled (94 M): linear top-1 74.2 on ImageNet", _lars(0.3, 1e-6),
        epochs=1000, batch_size=4096, views="simclr", backbone={"name": "resnet50w2", "zero_init": True},
        method={"projector": (4096, 128)},
    ),
    "cifar10_official": Recipe(
        source="the command for CIFAR-10 of the released code's README",
        views=changed("simclr_cifar"),
        backbone={"name": "resnet18", "stem": "small"},
        image_size=32,
        epochs=1000,
        batch_size=512,
        images=50_000,
        optimizer=_lars(1.0, 1e-4),
        method={"projector": (512, 128), "temperature": 0.5},
    ),
    **solo(
        "simclr", (90.74, 65.78, 77.64), solo_lars(0.4, 1e-4), views="solo_cifar_symmetric",
        method={"projector": (2048, 256), "projector_norm": "none", "temperature": 0.2},
        imagenet100={
            "optimizer": solo_lars(0.3, 1e-4),
            "method": {"projector": (4096, 512), "projector_norm": "none", "temperature": 0.2},
        },
    ),
    "small": small({"projector": (512, 128), "temperature": 0.2}, views=changed("simclr", blur=(0, 0))),
}  # fmt: skip


class SimClr(Method):
    r"""Find an image's other view among all views of the batch (https://arxiv.org/abs/2002.05709).

    L = 1/2N Σ_a [-s_{aπ(a)} + log Σ_{b≠a} exp(s_ab)],   s_ab = <û_a, û_b> / τ

    Both views go through backbone and head together: batch norms see them as one batch.

    Args:
        temperature: τ
        projector: widths of the projector's layers
        projector_norm: batch: after every layer, the last without a shift, no biases; none: biases alone
    """

    recipes: ClassVar[Mapping[str, Recipe]] = RECIPES
    title = "SimCLR"
    terms: ClassVar[Mapping[str, str]] = {
        "similarity": "mean cosine of an image's two views; rises to 1 as they agree",
        "crowding": "log of the summed similarities to all other views; falls as images spread out",
    }
    advice: ClassVar[Mapping[str, str]] = {
        "views_disagree": "train longer, take larger batches, or lower --method.temperature",
    }
    small: ClassVar[Mapping[str, Any]] = {"projector": (16, 8)}

    def __init__(
        self,
        backbone: Any,
        *,
        temperature: PositiveFloat = 0.1,
        projector: Widths = (2048, 128),
        projector_norm: Literal["batch", "none"] = "batch",
    ) -> None:
        super().__init__(backbone)
        self.temperature = temperature
        norms = projector_norm == "batch"
        last = "scale" if norms else "none"
        self.projector = mlp(backbone.width, *projector, bias=not norms, norm=projector_norm, last_norm=last)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the loss and its two terms."""
        one, two = self.projector(features_of(self.backbone, self.pair(batch))).chunk(2)
        return simclr_loss(one, two, temperature=self.temperature)

    def embed(self, features: Tensor) -> Tensor:
        """Return the projector's output, (B, D)."""
        return self.projector(features)
