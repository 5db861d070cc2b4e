"""Networks that learn side by side, and the classes that all of them agree upon, in shares."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot

from gemel.distributed import from_first
from gemel.methods.base import Embed
from gemel.methods.parts.balanced_classes import balanced, shared_out
from gemel.methods.parts.consensus import averaged
from gemel.methods.parts.linked_classes import directions, uneven_classes

KEPT = 0.5
"""share of the probabilities so far that an epoch keeps; the rest is what the student has come to think"""

FOLLOWED = 0.25
"""progress from which the student is asked: before, its batch norms' statistics are of too few steps"""


class Committee(nn.Module):
    """Networks beside a method's own, a student that has not begun, and the labels that it will learn.

    q_i(c) ∝ r_c p̄_i(c)^λ with r such that Σ_i q_i(c) = N s_c (optimal transport, as SwAV's codes); p̄ is at first the
    mean over the aligned heads of all networks times how alike an image is to the others of a class (`balanced`), then
    moves toward the student's own probabilities, epoch by epoch. The shares s are equal, unless classes that are linked
    without regard to size lie clearly further apart: then p̄ begins as these, and s has their sizes.

    Args:
        backbone: the method's own; the others begin from other weights.
        heads: class heads of each network, the method's own first; each a list of modules.
        classes: C.
    """

    def __init__(self, backbone: nn.Module, heads: list[nn.ModuleList], classes: int) -> None:
        super().__init__()
        own, *others = heads
        self.others = nn.ModuleList(nn.ModuleList([anew(backbone), one]) for one in others)
        # Any: of the method's own types
        self.student: Any = nn.ModuleList([anew(backbone), anew(own)]).requires_grad_(False)
        self.classes, self._drawn = classes, _total(backbone)
        self.agreed: Tensor
        self.shares: Tensor
        self.labels: Tensor
        self.register_buffer("agreed", torch.zeros(0, classes))
        self.register_buffer("labels", torch.zeros(0, classes))
        self.register_buffer("shares", torch.full((classes,), 1 / classes))

    def attach(self, images: int) -> None:
        """Make room for the labels of so many images."""
        self.agreed, self.labels = (torch.zeros(images, self.classes) for _ in range(2))

    def networks(self, backbone: Any, heads: Any) -> list[tuple[Any, Any]]:
        """Return every network with its heads, the method's own first."""
        others: Any = self.others
        return [(backbone, heads), *((one[0], one[1]) for one in others)]

    @torch.no_grad()
    def begin(self, backbone: nn.Module, heads: nn.Module) -> None:
        """Let the student begin from weights that the method's own network was given since it was made."""
        if _total(backbone) != self._drawn:
            for kept, own in zip(self.student, (backbone, heads), strict=True):
                kept.load_state_dict(own.state_dict())

    @torch.no_grad()
    def vote(self, embed: Embed, backbone: nn.Module, heads: nn.ModuleList) -> None:
        """Let all networks tell the classes of the images' views; then put the student in the place of the own one."""
        networks = self.networks(backbone, heads)
        seen = [embed(_Classes(own, self.classes), views=True, network=one) for one, own in networks]
        readable = seen[0].readable
        every = torch.cat([one.features[readable].mean(1).unflatten(1, (-1, self.classes)) for one in seen], 1)
        mean = from_first(averaged(every, range(every.shape[1]))[0].to(self.agreed))
        rows = torch.cat([directions(embed(network=one).features[readable]) for one, _ in networks], 1)
        rows /= len(networks) ** 0.5  # of unit length again
        self.shares.fill_(1 / self.classes)
        votes = shared_out(mean, self.shares).argmax(1)
        mean = normalize(mean * balanced(rows, votes, self.shares).to(mean), p=1, dim=1)
        uneven = uneven_classes(rows, shared_out(mean, self.shares).argmax(1).cpu(), self.classes)
        if uneven is not None:
            mean = one_hot(uneven, self.classes).to(mean)
            self.shares.copy_(mean.mean(0).clamp_min(1 / len(mean)))
        self.shares.copy_(from_first(self.shares / self.shares.sum()))
        self.agreed.zero_()
        self.agreed[readable.to(self.agreed.device)] = from_first(mean)
        for kept, own in zip(self.student, (backbone, heads), strict=True):
            own.load_state_dict(kept.state_dict())

    @torch.no_grad()
    def follow(self, embed: Embed, heads: nn.ModuleList) -> None:
        """Move what is agreed upon toward the student's own classes."""
        found, readable = embed(_Classes(heads, self.classes))
        seen = found[readable].unflatten(1, (-1, self.classes)).mean(1)
        readable = readable.to(self.agreed.device)
        self.agreed[readable] = torch.lerp(from_first(seen.to(self.agreed)), self.agreed[readable], KEPT)

    @torch.no_grad()
    def share_out(self) -> None:
        """Make the labels of what is agreed upon: each class gets its share of the images."""
        readable = self.agreed.sum(1) > 0
        codes = shared_out(self.agreed[readable], self.shares)
        self.labels.zero_()
        self.labels[readable] = codes.to(self.labels)

    def losses(self, logits: Tensor, index: Tensor) -> Tensor:
        """Return -Σ_c q(c) log p(c), mean over this process's rows, of each head, (H,).

        Args:
            logits: (V·n, H, C), view by view.
            index: (n,) of the images.
        """
        labels = self.labels[index].to(logits.dtype).repeat(len(logits) // len(index), 1)
        return -(labels[:, None] * logits.log_softmax(2)).sum(2).mean(0)


class _Classes(nn.Module):
    """Class probabilities of all heads, (B, H·C), of features."""

    def __init__(self, heads: nn.ModuleList, classes: int) -> None:
        super().__init__()
        self.heads, self.classes = heads, classes

    def forward(self, features: Tensor) -> Tensor:
        columns = torch.cat([head(features, 1)[1] for head in self.heads], 1)
        return columns.unflatten(1, (-1, self.classes)).softmax(2).flatten(1)


def _total(network: nn.Module) -> float:
    """Return the sum of all weights, the same bits on every device and in every memory format."""
    return sum(float(one.detach().double().cpu().contiguous().sum()) for one in network.parameters())


def anew(network: nn.Module) -> nn.Module:
    """Return a copy with other initial weights, as torch's layers draw them; a parameter of no such layer is copied."""
    copy = deepcopy(network)
    for module in copy.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
    return copy
