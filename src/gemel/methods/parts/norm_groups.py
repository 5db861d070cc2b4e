"""Batch norms that see parts of the batch by themselves, and keys in other company than queries (MoCo's shuffle-BN)."""

from collections.abc import Callable

import torch
from torch import Tensor

from gemel.distributed import from_first, rank, world_size
from gemel.errors import UserError

Pass = Callable[[Tensor], tuple[Tensor, ...]]


def in_groups(network: Pass, images: Tensor, groups: int, *, shuffled: bool = False) -> tuple[Tensor, ...]:
    """Return what `network` gives of all images, in a pass of its own for each of `groups` parts of the global batch.

    MoCo's code lets every GPU's batch norms see its own images alone, and encodes the keys in a shuffled order, so that
    statistics can't tell which key belongs to a query. Here image i is in part i mod G, on however many processes; of
    each G consecutive images a shuffle sends one to every part, at random.

    Args:
        network: images (m, ...) to tensors (m, ...).
        images: (n, ...), this process's.
        groups: G; 1: one pass of all, which a shuffle does not change.
        shuffled: whether the parts are drawn anew.

    Raises:
        UserError: G does not divide a process's images.
    """
    if groups == 1:
        return network(images)
    if len(images) % groups:
        raise UserError(
            f"--method.groups {groups} with {len(images)} images on each process: it must divide them; 1 lets batch "
            "norms see the whole batch"
        )
    members = torch.arange(len(images), device=images.device).view(-1, groups)  # a column is a part
    if shuffled:
        drawn = from_first(torch.rand(len(members) * world_size(), groups, device=images.device))
        members = members.gather(1, drawn.argsort(1)[rank() * len(members) :][: len(members)])
    found = zip(*(network(images[part]) for part in members.T), strict=True)
    places = members.T.flatten().argsort()
    return tuple(torch.cat(parts)[places] for parts in found)
