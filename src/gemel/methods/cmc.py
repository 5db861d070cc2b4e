"""CMC: tell an image's colours by its lightness, and the other way round, from a bank of all images."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from gemel.data.batches import Batch
from gemel.distributed import gather, mean_over_processes, rank
from gemel.errors import UserError
from gemel.methods.base import Embed, Method
from gemel.methods.parts.contrast import check_pairs, unit
from gemel.methods.parts.recipes import imagenet, small
from gemel.methods.parts.sampled import sampled_products
from gemel.settings.recipes import Count, PhotoViews, Probability, Recipe, SgdOptimizer

Form = Literal["nce", "softmax"]

EPSILON = 1e-7
"""added to the denominators of noise-contrastive estimation"""


def cmc_loss(lightness: Tensor, colour: Tensor, *, images: int, constants: Tensor | None = None) -> dict[str, Tensor]:
    r"""Return the loss of finding the own entry among the drawn ones, of lightness and of colour, summed.

    By noise-contrastive estimation, x = exp(s) / Z and q = K / n:
    -1/N Σ_i [log(x_0 / (x_0 + q + 1e-7)) + Σ_k log(q / (x_k + q + 1e-7))]; by cross-entropy:
    -1/N Σ_i log softmax(s)_0. Source: arXiv 1906.05849, equations 3 and 8, and its released code.

    Args:
        lightness: scores s of the lightness with the bank of colours, (N_p, 1 + K), this process's rows, the image's
            own entry first; see `cmc_scores`.
        colour: scores of the colours with the bank of lightness.
        images: n, entries of a bank.
        constants: Z of the two, (2,), above 0, see `first_constants`; None: cross-entropy.

    Returns:
        loss, and its two parts lightness and colour, means over the global batch.

    Raises:
        ValueError: the shapes differ or are not (N_p, 1 + K).
    """
    check_pairs(lightness, colour)
    parts: list[Tensor] = []
    for number, scores in enumerate((lightness, colour)):
        if constants is None:
            parts.append((scores.logsumexp(1) - scores[:, 0]).mean())
            continue
        noise, shares = (scores.shape[1] - 1) / images, scores.exp() / constants[number]
        own = (shares[:, 0] / (shares[:, 0] + noise + EPSILON)).log()
        others = (noise / (shares[:, 1:] + noise + EPSILON)).log().sum(1)
        parts.append(-(own + others).mean())
    first, second = mean_over_processes(torch.stack(parts))
    return {"loss": first + second, "lightness": first, "colour": second}


def cmc_scores(
    lightness: Tensor, colour: Tensor, banks: Tensor, draws: Tensor, *, temperature: float = 0.07
) -> tuple[Tensor, Tensor]:
    """Return <f, m_k> / τ of each row f with its drawn entries, (N_p, 1 + K): of lightness, and of colours.

    Args:
        lightness: embeddings of length 1, (N_p, D), in float32 or wider, this process's rows.
        colour: the same of the colours.
        banks: of lightness and of colours, (2, n, D), which take no gradient; each is compared with the other's rows.
        draws: entries to compare with, (N_p, 1 + K), the image's own first.
        temperature: τ, above 0.
    """
    first, second = (bank.to(lightness.dtype) for bank in banks)
    of_lightness = sampled_products(lightness, second, draws) / temperature
    return of_lightness, sampled_products(colour, first, draws) / temperature


@torch.no_grad()
def first_constants(scores: tuple[Tensor, Tensor], images: int) -> Tensor:
    """Return Z = n · mean exp(s) of both scores over all processes, (2,): those of the first batch stay."""
    return mean_over_processes(torch.stack([one.exp().mean() for one in scores])) * images


def _official(source: str, width: float) -> Recipe:
    """Its rate of 0.03 is of a batch of 128, which is not scaled there."""
    milestones = tuple(epoch / 240 for epoch in (120, 160, 200))
    return imagenet(
        f"released code of arXiv 1906.05849: {source}",
        SgdOptimizer(lr=0.06, weight_decay=1e-4, warmup_epochs=0, milestones=milestones, rate_by="epoch"),
        epochs=240, batch_size=128, backbone={"name": "lab_resnet", "width": width}, views=_PLAIN,
        method={"negatives": 16384},
    )  # fmt: skip


_PLAIN = PhotoViews(global_count=1, interpolation="bilinear", jitter=0.0, gray=0.0, blur=0.0, solarize=0.0)

RECIPES: Mapping[str, Recipe] = {
    "resnet50": _official("ResNet-50 v2, no result of these settings is printed", 1.0),
    "resnet50_half": _official("ResNet-50 v1, stages half as wide; no result of these settings is printed", 0.5),
    "resnet50_double": _official("v3, stages twice as wide; TWIST's table prints 70.6 for one of 94 M", 2.0),
    "small": small(
        {"negatives": 1024, "width": 64, "form": "softmax"}, views=_PLAIN,
        backbone={"name": "lab_resnet", "depth": 18, "width": 0.5, "stem": "small"},
        source="gemel's settings for small coloured images; grey ones have no colours to tell",
    ),
}  # fmt: skip


def scattered(numbers: Tensor) -> Tensor:
    """Return 62 bits for each number that look drawn by chance: SplitMix64 (Steele, Lea and Flood 2014), on any device.

    A generator of the device's own would give each process other numbers than those of one process for all.
    """
    found = numbers * -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as a signed number; products wrap
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        found = (found ^ ((found >> shift) & (2 ** (64 - shift) - 1))) * factor
    return (found ^ ((found >> 31) & (2**33 - 1))) & (2**62 - 1)


class Cmc(Method):
    r"""Tell an image's colours by its lightness and the other way round (https://arxiv.org/abs/1906.05849).

    L = L(f̂_L, bank of ab) + L(f̂_ab, bank of L),   by noise-contrastive estimation or cross-entropy with K others

    The backbone's features are two halves, each of a network of its own (`lab_resnet`): of L and of the colours ab.
    Each image has a row in two banks, a moving average of its embeddings. One view of an image, or two: then the
    lightness is of the first and the colours are of the last. All parameters decay. Grey images have nothing to tell.

    Args:
        width: of the embeddings
        negatives: K, rows of the bank that each image is told from, drawn at random
        temperature: τ
        bank_momentum: share of its former self that an image's row in the bank keeps
        form: nce: noise-contrastive estimation; softmax: cross-entropy
    """

    recipes: ClassVar[Mapping[str, Recipe]] = RECIPES
    title = "CMC"
    terms: ClassVar[Mapping[str, str]] = {
        "lightness": "how badly an image's colours are found by its lightness; falls",
        "colour": "how badly an image's lightness is found by its colours; falls",
    }
    has_own_network = True
    small: ClassVar[Mapping[str, Any]] = {"width": 8, "negatives": 5}

    def __init__(
        self,
        backbone: Any,
        *,
        width: Count = 128,
        negatives: Count = 4096,
        temperature: PositiveFloat = 0.07,
        bank_momentum: Probability = 0.5,
        form: Form = "nce",
    ) -> None:
        super().__init__(backbone)
        self.negatives, self.temperature, self.bank_momentum = negatives, temperature, bank_momentum
        self.form: Form = form
        self.heads = nn.ModuleList(nn.Linear(backbone.width // 2, width) for _ in range(2))
        self.banks: Tensor
        self.constants: Tensor
        self.register_buffer("banks", torch.zeros(2, 0, width))
        self.register_buffer("constants", torch.zeros(2))
        self._seed = 0
        self._seen: tuple[Tensor, Tensor] | None = None

    def attach(self, images: int) -> None:
        """Make the banks, of numbers uniform within ±√(3 / D): rows become of length 1 as they are written."""
        bound = (3 / self.banks.shape[2]) ** 0.5
        self.banks = torch.empty(2, images, self.banks.shape[2]).uniform_(-bound, bound)

    def before_step(self, embed: Embed, progress: float) -> None:
        """Choose what the step's draws follow from, the same on all processes."""
        self._seed = int(torch.randint(2**61, (), device="cpu"))

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the loss and its two parts."""
        lightness, colour = self._embedded(batch.views)
        self._seen = gather(batch.index), gather(torch.stack([lightness, colour], 1).detach())
        images = self.banks.shape[1]
        scores = cmc_scores(lightness, colour, self.banks, self._draws(batch.index), temperature=self.temperature)
        if self.form == "softmax":
            return cmc_loss(*scores, images=images)
        constants = self.constants.where(self.constants > 0, first_constants(scores, images).to(self.constants))
        if self.training:
            self.constants.copy_(constants)
        return cmc_loss(*scores, images=images, constants=constants.clone())

    def after_step(self, progress: float) -> None:
        """Let the images' rows in the banks follow."""
        assert self._seen is not None
        index, rows = self._seen  # (N,), (N, 2, D)
        for bank, new in zip(self.banks, rows.to(self.banks.dtype).unbind(1), strict=True):
            mixed = self.bank_momentum * bank[index] + (1 - self.bank_momentum) * new
            bank.index_copy_(0, index, unit(mixed))

    def _embedded(self, views: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return embeddings of length 1 of the first view's lightness and of the last one's colours."""
        if len(views) > 2:
            raise UserError(
                f"CMC takes one or two views of an image, not {len(views)}; give --views.global_count 1 and "
                "--views.local_count 0"
            )
        features = [self.backbone(view) for view in views]
        return self._half(0, features[0]), self._half(1, features[-1])

    def _half(self, number: int, features: Tensor) -> Tensor:
        return unit(self.heads[number](features.chunk(2, 1)[number]))

    def _draws(self, index: Tensor) -> Tensor:
        """Return rows of the banks for each image, (N_p, 1 + K), its own first; the others may be its own, too."""
        start = rank() * len(index) * self.negatives
        numbers = torch.arange(start, start + len(index) * self.negatives, device=index.device) + self._seed
        drawn = scattered(numbers).remainder(self.banks.shape[1]).view(len(index), -1)
        return torch.cat([index[:, None], drawn], 1)

    def embed(self, features: Tensor) -> Tensor:
        """Return the embeddings of both halves, (B, 2 D)."""
        return torch.cat([self._half(number, features) for number in range(2)], 1)

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Return True: biases and norms decay, too."""
        return True
