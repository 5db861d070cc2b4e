"""A batch through a network a part at a time: only one part's activations are held, in the backward pass too."""

from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Looked = TypeVar("Looked", Tensor, tuple[Tensor, list[Tensor]])
"""features, or features and maps"""


def in_parts(look: Callable[[Tensor], Looked], network: nn.Module, images: Tensor, part: int) -> Looked:
    """Return what `look` gives of images (B, C, H, W), `part` of them at a time.

    Where gradients are wanted, each part is seen again in the backward pass, with the same draws of dropout: a step
    takes a third longer, and its gradient is that of `look` on every part. Batch norms see a part, not the batch; their
    running statistics take each part once.

    Args:
        look: features, or features and maps.
        network: whose buffers the second look must leave as they are.
        images: the batch.
        part: images at a time.
    """
    found = [_of_part(look, network, one) for one in images.split(part)]
    first = found[0]
    if isinstance(first, Tensor):
        return torch.cat(found)  # pyright: ignore
    features = torch.cat([one[0] for one in found])
    return features, [torch.cat(maps) for maps in zip(*(one[1] for one in found), strict=True)]  # pyright: ignore


def _of_part(look: Callable[[Tensor], Looked], network: nn.Module, images: Tensor) -> Looked:
    if not torch.is_grad_enabled():
        return look(images)
    return checkpoint(look, images, use_reentrant=False, context_fn=lambda: (nullcontext(), unchanged(network)))


@contextmanager
def unchanged(network: nn.Module) -> Generator[None]:
    """Leave the buffers as they were: running statistics that a part was counted in."""
    before = [(one, one.clone()) for one in network.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for one, value in before:
                one.copy_(value)


def activation_bytes(network: nn.Module, side: int, channels: int) -> int:
    """Return the bytes that an image of a side leaves behind for the backward pass, in training mode.

    Measured by the tensors that two batches save, each storage once, so that what does not grow with them falls out.
    """
    one, two = (_saved(network, count, side, channels) for count in (2, 4))
    return max(1, (two - one) // 2)


def _saved(network: nn.Module, count: int, side: int, channels: int) -> int:
    found: dict[int, tuple[int, Tensor]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes(), tensor  # held, so that no address is used twice
        return tensor

    like = next(network.parameters())
    images = torch.zeros(count, channels, side, side, device=like.device, dtype=like.dtype)
    training = network.training
    with unchanged(network), torch.random.fork_rng(devices=[]):
        try:
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                network.train()(images)
        finally:
            network.train(training)
    return sum(size for size, _ in found.values())
