"""IMSAT's self-augmentation: the small change of an image that moves its classes most."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from gemel.methods.parts.precision import exact_products, pieces, widened

EPSILON = 1e-8
"""inside the logarithms"""

PROBE = 10.0
"""length of the random step from which the direction is found"""


def divergence(logits: Tensor, others: Tensor) -> Tensor:
    """Return the mean over this process's rows of KL(p‖q) with ε in both logarithms; p takes no gradient."""
    with exact_products(logits.device):
        p, q = widened(logits.detach()).softmax(1), widened(others).softmax(1)
        return (p * ((p + EPSILON).log() - (q + EPSILON).log())).sum(1).mean()


def harmful_direction(network: Callable[[Tensor], Tensor], images: Tensor, logits: Tensor, start: Tensor) -> Tensor:
    """Return the unit vectors along which p(y|x) changes most, by one power iteration; like the images.

    d = g/‖g‖ with g the gradient of KL(p(x) ‖ p(x + 10 d₀)) by the images. No parameter receives a gradient.

    Args:
        network: images to logits; its batch norms should keep their running statistics.
        images: (n, ...).
        logits: of the images, (n, C).
        start: d₀, random unit vectors, like the images.
    """
    with torch.enable_grad():
        moved = (images + PROBE * start).detach().requires_grad_()
        lost = len(images) * divergence(logits, network(moved))  # a mean of many is small in half precision
        [gradient] = torch.autograd.grad(lost, [moved])
    return unit(gradient)


def unit(vectors: Tensor) -> Tensor:
    """Return the vectors of a batch divided by their norms, over all dimensions but the first."""
    rows = vectors.flatten(1)
    return (rows / rows.norm(dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)).view_as(vectors)


def neighbour_distances(rows: Tensor, points: Tensor, first: int, neighbour: int = 11) -> Tensor:
    """Return the Euclidean distance of some of the points to their `neighbour`-th nearest other, (n,).

    The paper says the 10th; the released script takes the 11th. Of fewer points it is the farthest.

    Args:
        rows: (n, D), the points from row `first` on.
        points: (N, D).
        first: row of the first of them.
        neighbour: 1 for the nearest.
    """
    found = rows.new_zeros(len(rows))
    for part in pieces(len(rows), 8 * len(points), rows.device, least=64):
        apart = torch.cdist(rows[part], points)
        own = torch.arange(first + part.start, first + part.stop, device=rows.device)
        apart.scatter_(1, own[:, None], torch.inf)
        place = apart.topk(min(neighbour, len(points) - 1), dim=1, largest=False).indices[:, -1]
        found[part] = (rows[part] - points[place]).norm(dim=1)
    return found


@contextmanager
def kept_statistics(network: nn.Module) -> Generator[None]:
    """Let batch norms use the batch's statistics in training, without adding them to their running ones."""
    norms = [one for one in network.modules() if isinstance(one, _BatchNorm) and one.track_running_stats]
    try:
        for one in norms:
            one.track_running_stats = False
        yield
    finally:
        for one in norms:
            one.track_running_stats = True
