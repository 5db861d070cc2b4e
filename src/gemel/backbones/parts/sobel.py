"""The Sobel gradients of an image, which DeepCluster, IIC and Noise as Targets show their networks, not colours."""

import torch
from torch import Tensor
from torch.nn.functional import pad


def sobel(images: Tensor) -> Tensor:
    """Return the gradients of the mean over channels, (B, 2, H, W), of images (B, C, H, W).

    The kernels are (1 0 -1; 2 0 -2; 1 0 -1) and its transpose; pixels beyond the edge are 0. Source: DeepCluster's
    released code. That of Noise as Targets has the opposite signs.
    """
    grey = pad(images.mean(1), (1, 1, 1, 1))
    along, down = grey[:, :, :-2] - grey[:, :, 2:], grey[:, :-2] - grey[:, 2:]
    return torch.stack(
        [along[:, :-2] + 2 * along[:, 1:-1] + along[:, 2:], down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]], 1
    )
