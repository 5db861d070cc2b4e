"""The two entropies of class distributions: of each row, and of the mean over the global batch."""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from gemel.distributed import mean_over_processes
from gemel.methods.parts.precision import exact_products, widened


def entropies(logits: Tensor, *, epsilon: float = 0.0) -> tuple[Tensor, Tensor]:
    r"""Return H(Y|X) = -1/n Σ_i Σ_c p_ic log(p_ic + ε) and H(Y) = -Σ_c p̄_c log(p̄_c + ε), p = softmax(logits).

    p̄ is the mean over the global batch. H(Y) - H(Y|X) is the information that an image gives of its class, at most
    log C. Differentiable.

    Args:
        logits: (n, C), this process's rows.
        epsilon: ε; 0: log-softmax, and 0 log 0 = 0.

    Returns:
        H(Y|X) and H(Y), scalars in float32 or wider.
    """
    with exact_products(logits.device):
        log_p = log_softmax(widened(logits), dim=1)
        p = log_p.exp()
        conditional = mean_over_processes(entropy(p, (p + epsilon).log() if epsilon else log_p).mean())
        mean = mean_over_processes(p.mean(0))
        # clamped where ε is 0: a class that no row takes gives 0, and no gradient that is not a number
        log_mean = (mean + epsilon if epsilon else mean.clamp_min(torch.finfo(mean.dtype).tiny)).log()
        return conditional, entropy(mean, log_mean)


def entropy(p: Tensor, log_p: Tensor) -> Tensor:
    """Return -Σ_c p_c log p_c over the last dimension; `log_p` is finite."""
    return -(p * log_p).sum(-1)
