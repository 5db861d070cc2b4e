"""What embeddings of two views share: Gaussian entropies, the spectrum of their cross-correlation C, IMAX, InfoNCE.

Appendix A of arXiv 2103.03230 reads Barlow Twins' loss as an information bottleneck: it maximises I(Z, Y) - β I(Z, X)
for Gaussian embeddings Z of distorted images Y of images X. Up to constants that is
E_X log|Σ_{Z|X}| + (1 - β)/β log|Σ_Z|: little entropy given the image, much without it. For β > 1 the second
coefficient is negative; a retelling that drops its sign would minimise both.

All answers are Python numbers unless said otherwise; embeddings that are not finite give NaN.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gemel.errors import UserError
from gemel.metrics.rows import check_same_shape, checked_rows

RIDGE = 1e-4
"""δ of Σ + δI: an entropy of D dimensions from fewer images is finite"""


def log_determinant(embeddings: Tensor, ridge: float = RIDGE) -> float:
    """log|Σ + δI|, Σ the biased covariance: the Gaussian entropy is ½ (log|Σ| + D log 2πe).

    Args:
        embeddings: (n, D); by the eigenvalues of an n x n matrix where n < D.
        ridge: δ > 0.

    >>> round(log_determinant(torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]), 1.0), 6)
    1.386294
    """
    rows = checked_rows(embeddings)
    return _log_determinant(rows - rows.mean(0), len(rows), ridge)


def conditional_log_determinant(views: Tensor, ridge: float = RIDGE) -> float:
    """log|Σ_{Z|X} + δI|, Σ_{Z|X} the mean over images of the biased covariance of an image's views.

    The mean stands inside the logarithm, as an image has fewer views than dimensions: an upper bound of the mean of
    logarithms. Views that are all equal give D log δ.

    Args:
        views: (V, n, D), V >= 2 views of n images.
        ridge: δ > 0.
    """
    if views.ndim != 3 or len(views) < 2:
        raise UserError(f"a tensor of shape {tuple(views.shape)}; give two or more views, (views, images, width)")
    rows = checked_rows(views.flatten(0, 1)).view(views.shape)
    return _log_determinant((rows - rows.mean(0)).flatten(0, 1), rows.shape[0] * rows.shape[1], ridge)


def redundancy_share(invariance: float, redundancy: float, lambda_param: float) -> float:
    """λR / (I + λR): which part of Barlow Twins' loss comes from the off-diagonal; 0 for a loss of 0.

    >>> redundancy_share(1.0, 200.0, 0.005)
    0.5
    """
    total = invariance + lambda_param * redundancy
    return lambda_param * redundancy / total if total else 0.0


def twin_terms(one: Tensor, two: Tensor, epsilon: float = 1e-5) -> tuple[float, float]:
    """Σ_i (1 - C_ii)² and Σ_i Σ_{j≠i} C_ij²: Barlow Twins' two terms before λ, of one process, by the spectrum of C.

    Args:
        one: (n, D), raw embeddings of one view.
        two: (n, D), of the other.
        epsilon: ε, beside the biased σ².

    >>> one = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])  # two columns that are one
    >>> [round(term, 4) for term in twin_terms(one, one)]
    [0.0, 2.0]
    """
    spectrum = correlation_spectrum(one, two, epsilon)
    diagonal = (_standardised(checked_rows(one), epsilon) * _standardised(checked_rows(two), epsilon)).mean(0)
    redundancy = spectrum.square().sum() - diagonal.square().sum()
    return (1 - diagonal).square().sum().item(), redundancy.clamp_min(0).item()


def correlation_spectrum(one: Tensor, two: Tensor, epsilon: float = 1e-5) -> Tensor:
    """Singular values of C = Z₁ᵀ Z₂ / n, largest first: all 1 at the optimum, a few large ones where it is redundant.

    Args:
        one: (n, D), raw embeddings of one view; the columns are standardised here, with the biased σ² + ε.
        two: (n, D), of the other.
        epsilon: ε.

    Returns:
        (min(n, D),); further ones are 0. Their squares sum to Σ_ij C_ij².
    """
    check_same_shape(one, two)
    z1, z2 = (_standardised(checked_rows(rows), epsilon) for rows in (one, two))
    if len(z1) < z1.shape[1]:  # Z = R Qᵀ by view: C has the singular values of the n x n matrix R₁ᵀ R₂
        z1, z2 = (torch.linalg.qr(z.T, mode="r").R.T for z in (z1, z2))
    return torch.linalg.svdvals(z1.T @ z2 / len(one))


def imax(one: Tensor, two: Tensor, ridge: float = RIDGE) -> float:
    """log|Σ_{A-B} + δI| - log|Σ_{A+B} + δI|, less for views that share more (Becker and Hinton, 1992).

    Without δ it is the same for any invertible linear map of both views.

    Args:
        one: (n, D), embeddings A of one view.
        two: (n, D), embeddings B of the other.
        ridge: δ; equal views would give -∞ without it.
    """
    check_same_shape(one, two)
    one, two = checked_rows(one), checked_rows(two)
    return log_determinant(one - two, ridge) - log_determinant(one + two, ridge)


def info_nce(one: Tensor, two: Tensor, temperature: float = 0.1) -> float:
    """Mean over rows of -cos(a_b, b_b)/τ + log Σ_{b'≠b} exp(cos(a_b, b_b')/τ): contrast along the batch.

    The pair itself is no part of the sum, as in Barlow Twins' section 5, which sums over rows instead.

    Args:
        one: (n, D), embeddings a of one view, n >= 2.
        two: (n, D), embeddings b of the other.
        temperature: τ.

    >>> round(info_nce(torch.eye(4), torch.eye(4), 0.5), 6)  # -1/0.5 + log 3
    -0.901388
    """
    check_same_shape(one, two)
    if len(one) < 2:
        raise UserError("one row has nothing to be told from; give two or more")
    cosine = normalize(checked_rows(one), dim=1) @ normalize(checked_rows(two), dim=1).T / temperature  # (n, n)
    own = cosine.diagonal().clone()
    cosine.fill_diagonal_(-torch.inf)
    return (cosine.logsumexp(1) - own).mean().item()


def _log_determinant(centred: Tensor, count: int, ridge: float) -> float:
    if ridge < 0:
        raise UserError(f"a ridge of {ridge}; give 0 or more")
    if not centred.isfinite().all():
        return float("nan")
    n, width = centred.shape
    small = centred @ centred.T if n < width else centred.T @ centred
    variances = torch.linalg.eigvalsh(small / count).clamp_min(0)
    missing = torch.tensor(ridge, dtype=variances.dtype).log() * (width - len(variances)) if n < width else 0.0
    return float((variances + ridge).log().sum() + missing)


def _standardised(rows: Tensor, epsilon: float) -> Tensor:
    centred = rows - rows.mean(0)
    return centred * (centred.square().mean(0) + epsilon).rsqrt()
