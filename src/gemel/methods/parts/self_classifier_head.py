"""Self-Classifier's head: a projection to the sphere, and linear classifiers of weights with a norm of their own."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import normalize

from gemel.methods.parts.prototypes import Prototypes


def classifier(width: int, classes: int) -> Prototypes:
    """Return a linear layer of learned norms, its directions' weights N(0, 0.02²)."""
    made = Prototypes(width, classes, scaled=True)
    nn.init.trunc_normal_(made.weight_v, std=0.02)
    return made


class ProjectionHead(nn.Sequential):
    """Linear-BN-LeakyReLU, ..., Linear, of weights N(0, 0.02²), and rows divided by their norm.

    Args:
        widths: of the input and of every layer.
    """

    def __init__(self, *widths: int) -> None:
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.LeakyReLU(0.01)]
            nn.init.trunc_normal_(layers[-3].weight, std=0.02)  # pyright: ignore[reportArgumentType]
            nn.init.zeros_(layers[-3].bias)  # pyright: ignore[reportArgumentType]
        super().__init__(*layers[:-2])

    def forward(self, input: Tensor) -> Tensor:
        """Return embeddings (n, D) of norm 1."""
        return normalize(super().forward(input), eps=1e-7)
