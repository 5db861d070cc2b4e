"""Deep InfoMax's small networks: one that embeds the places of a map, and one that judges a prior."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import softplus

from gemel.methods.parts.heads import mlp
from gemel.methods.parts.precision import exact_products, widened

Penalty = Literal["meant", "released", "none"]


class PlaceEmbedding(nn.Module):
    """Conv-BN-ReLU-conv of 1 x 1 and a linear shortcut, added, then layer norm over the channels of each place.

    The shortcut begins as the identity, numbers in ± 0.01 off its diagonal.

    Args:
        channels: of the map.
        units: of the embeddings.
    """

    def __init__(self, channels: int, units: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, units, 1, bias=False), nn.BatchNorm2d(units), nn.ReLU(), nn.Conv2d(units, units, 1)
        )
        self.shortcut = nn.Conv2d(channels, units, 1, bias=False)
        self.norm = nn.LayerNorm(units)
        with torch.no_grad():
            nn.init.uniform_(self.shortcut.weight, -0.01, 0.01)
            self.shortcut.weight[:, :, 0, 0].fill_diagonal_(1.0)

    def forward(self, maps: Tensor) -> Tensor:
        """Return embeddings (n, units, H, W) of maps (n, channels, H, W)."""
        found = self.layers(maps) + self.shortcut(maps)
        return self.norm(found.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PriorMatch(nn.Module):
    """A discriminator that asks whether a sigmoid of the codes could be uniform noise (Goodfellow's GAN).

    Args:
        width: of the codes.
        hidden: widths of its hidden layers.
    """

    def __init__(self, width: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.network = mlp(width, *hidden, 1, norm="none")

    def forward(self, codes: Tensor, noise: Tensor, penalty: Penalty = "meant") -> dict[str, Tensor]:
        """Return the discriminator's loss, the encoder's loss and the gradient penalty, means over this process's rows.

        discriminator = E[sp(-D(noise))] + E[sp(D(σ(codes)))], without a gradient to the codes; encoder =
        E[sp(-D(σ(codes)))], without one to the discriminator.

        Args:
            codes: (n, width).
            noise: uniform in [0, 1), (n, width).
            penalty: ½ (E[‖∇D(noise)‖²] + E[‖∇D(σ(codes))‖²]); released: of the last row alone, divided by n.
        """
        with exact_products(codes.device):
            fake = widened(codes).sigmoid()
            real = noise.to(fake.dtype)
            fixed = {name: one.detach() for name, one in self.network.named_parameters()}
            judged = functional_call(self.network, fixed, (fake,))
            found = {"encoder": softplus(-judged).mean()}
            pair = [rows.detach().requires_grad_() for rows in (real, fake)]
            with torch.enable_grad():
                scores = [self.network(rows) for rows in pair]
            found["discriminator"] = softplus(-scores[0]).mean() + softplus(scores[1]).mean()
            found["penalty"] = sum(
                (_penalty(*one, penalty) for one in zip(scores, pair, strict=True)), codes.new_zeros(())
            )
        return found


def _penalty(scores: Tensor, rows: Tensor, kind: Penalty) -> Tensor:
    if kind == "none":
        return scores.new_zeros(())
    chosen = scores[-1:] if kind == "released" else scores
    [slopes] = torch.autograd.grad(chosen.sum(), [rows], create_graph=True)
    return slopes.square().sum() / (2 * len(rows))
