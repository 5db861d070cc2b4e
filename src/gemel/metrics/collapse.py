"""Signs of collapse that need no label: the spread of features, of classes, and the agreement of two views.

All answers are Python numbers; features that are not finite give NaN, or 0 where the answer is a share or a count.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gemel.errors import UserError
from gemel.metrics.rows import check_same_shape, checked_rows

# Cosines of float32 features closer than this are the same: constant rows differ by rounding alone.
_MARGIN = 1e-6
_CHUNK = 1024  # rows of `pair_agreement` at a time


def rankme(features: Tensor, epsilon: float = 1e-7) -> float:
    """Effective rank: exp(-Σ_k p_k log p_k), p_k = σ_k / Σ σ + ε, of the singular values σ (Garrido et al., 2023).

    The features are not centred, as in the paper: a common offset counts as one strong direction.

    Args:
        features: (n, D).
        epsilon: ε.

    Returns:
        1 (all rows are multiples of one) to min(n, D).

    >>> round(rankme(torch.eye(8)), 3), round(rankme(torch.ones(8, 4)), 3)
    (8.0, 1.0)
    """
    features = checked_rows(features)
    if not features.isfinite().all():
        return float("nan")
    return _effective_rank(torch.linalg.svdvals(features), epsilon)


def lidar(embeddings: Tensor, *, delta: float = 1e-4, epsilon: float = 1e-7) -> float:
    """Effective rank of what tells images apart and not their views: RankMe's formula on λ (Thilak et al., 2023).

    λ are the eigenvalues of Σ_w^(-1/2) Σ_b Σ_w^(-1/2): Σ_b = mean_i (μ_i - μ)(μ_i - μ)ᵀ of the images' means μ_i,
    Σ_w = mean_ij (e_ij - μ_i)(e_ij - μ_i)ᵀ + δ I of the views e_ij around them.

    Args:
        embeddings: (images, views, D), at least two of each.
        delta: δ.
        epsilon: added to λ / Σ λ.

    Returns:
        1 to min(images - 1, D).
    """
    if embeddings.ndim != 3 or min(embeddings.shape[:2]) < 2:
        raise UserError(f"embeddings {tuple(embeddings.shape)}; give (images, views, width), two at least of both")
    images, views, width = embeddings.shape
    rows = checked_rows(embeddings.flatten(0, 1)).unflatten(0, (images, views))
    if not rows.isfinite().all():
        return float("nan")
    means = rows.mean(dim=1)  # (images, D)
    between, within = means - means.mean(dim=0), (rows - means[:, None]).flatten(0, 1)
    noise = within.T @ within / len(within) + delta * torch.eye(width, dtype=rows.dtype, device=rows.device)
    # with Σ_w = L Lᵀ the eigenvalues are those of L⁻¹ Σ_b L⁻ᵀ: squared singular values of L⁻¹ times the means
    factor = torch.linalg.cholesky(noise)
    whitened = torch.linalg.solve_triangular(factor, between.T, upper=False)  # (D, images)
    strengths = torch.linalg.svdvals(whitened).square() / images
    return _effective_rank(strengths, epsilon)


def alpha_req(features: Tensor, *, first: int = 4, last: int = 100) -> float:
    """How fast the spectrum falls: α of λ_i ∝ i^(-α), λ the eigenvalues of the covariance (Agrawal et al., 2022).

    Least squares of log λ_i on log i, i = first..last, weighted by 1 / i as in the authors' code.

    Args:
        features: (n, D).
        first: from 1.
        last: ends before where the spectrum does; eigenvalues that are rounding alone are left out.

    Returns:
        near 1 for good features by the paper, 0 for a flat spectrum, large near collapse; NaN with fewer than two
        eigenvalues in the range.
    """
    features = checked_rows(features)
    if not features.isfinite().all():
        return float("nan")
    strengths = torch.linalg.svdvals(features - features.mean(dim=0)).square()
    strengths = strengths[strengths > strengths[0] * 1e-12][:last]
    if len(strengths) <= first:
        return float("nan")
    number = torch.arange(first, len(strengths) + 1, dtype=features.dtype, device=features.device)
    x, y, weight = number.log(), strengths[first - 1 :].log(), 1 / number
    x, y = x - (weight * x).sum() / weight.sum(), y - (weight * y).sum() / weight.sum()
    return -((weight * x * y).sum() / (weight * x * x).sum()).item()


def uniformity(features: Tensor, *, t: float = 2.0) -> float:
    """log mean over pairs of rows of exp(-t |f_i - f_j|²), rows divided by their length (Wang and Isola, 2020).

    Args:
        features: (n, D), two rows at least.
        t: t.

    Returns:
        0 where all rows point one way, down to about -2t, evenly spread in many dimensions.

    >>> uniformity(torch.ones(4, 3)), round(uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])), 3)
    (0.0, -8.0)
    """
    features = normalize(checked_rows(features), dim=1)
    count = len(features)
    if count < 2:
        raise UserError("uniformity of one row; give two or more")
    total = 0.0
    for start in range(0, count, _CHUNK):
        cosine = features[start : start + _CHUNK] @ features.T  # |f - g|² = 2 - 2 cos
        closeness = (2 * t * (cosine - 1).clamp_max(0)).exp()
        total += float(closeness.sum()) - float(closeness.diagonal(offset=start).sum())
    return math.log(total / (count * (count - 1)))


def alignment(one: Tensor, two: Tensor, *, power: float = 2.0) -> float:
    """mean over images of |f(x) - f(y)|^power of two views x, y, rows divided by their length (Wang and Isola, 2020).

    Args:
        one: (n, D), features of n images.
        two: (n, D), features of other views of them.
        power: α of the paper.

    Returns:
        0 (all views alike) to 2^power.

    >>> alignment(torch.eye(2), torch.eye(2)), alignment(torch.eye(2), -torch.eye(2))
    (0.0, 4.0)
    """
    check_same_shape(one, two)
    apart = (normalize(checked_rows(one), dim=1) - normalize(checked_rows(two), dim=1)).norm(dim=1)
    return apart.pow(power).mean().item()


def spread(features: Tensor) -> float:
    """Mean over dimensions of the standard deviation over rows of the normalised features, times √D.

    Args:
        features: (n, D); each row is divided by its length first.

    Returns:
        1: evenly spread over the sphere, 0: all rows point the same way.

    >>> round(spread(torch.cat([torch.eye(4), -torch.eye(4)])), 3), round(spread(torch.ones(8, 4)), 3)
    (1.0, 0.0)
    """
    features = checked_rows(features)
    deviation = normalize(features, dim=1).std(dim=0, correction=0)  # (D,)
    return deviation.mean().item() * features.shape[1] ** 0.5


def column_and_row_std(logits: Tensor) -> tuple[float, float]:
    """Return the spread of logits over images and over classes (Table 7 of arXiv 2110.07402).

    Args:
        logits: (n, C).

    Returns:
        columns: mean over classes of the biased standard deviation over rows; near 0 all images look alike.
        rows: mean over rows of the biased standard deviation over classes; near 0 no class is preferred.

    >>> column_and_row_std(torch.tensor([[0.0, 2.0], [0.0, 4.0]]))
    (0.5, 1.5)
    """
    logits = checked_rows(logits)
    columns, rows = (logits.std(dim=dim, correction=0).mean().item() for dim in (0, 1))
    return columns, rows


def classes_used(probabilities: Tensor) -> int:
    """How many classes are the most probable one of at least one row; rows that are not finite do not count.

    Args:
        probabilities: (n, C), or logits.

    >>> classes_used(torch.tensor([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0]]))
    1
    """
    probabilities = checked_rows(probabilities)
    return len(probabilities[probabilities.isfinite().all(dim=1)].argmax(dim=1).unique())


def class_entropy(probabilities: Tensor) -> float:
    """Effective number of classes: exp(H(p)), p the mean of the rows, H(p) = -Σ_c p_c log p_c.

    Args:
        probabilities: (n, C), rows of sum 1.

    Returns:
        1 (every image in one class) to C (all classes equally full).

    >>> round(class_entropy(torch.eye(4)), 3), class_entropy(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    (4.0, 1.0)
    """
    mean = checked_rows(probabilities).mean(dim=0)  # (C,)
    return (-torch.xlogy(mean, mean).sum()).exp().item()


def classes_per_image(probabilities: Tensor) -> float:
    """Return the effective number of classes of one image: exp(mean_i H(p_i)), H as in `class_entropy`.

    Args:
        probabilities: (n, C), rows of sum 1.

    Returns:
        1 (every image belongs to one class for certain) to C (all classes equally likely for every image).

    >>> classes_per_image(torch.eye(4)), round(classes_per_image(torch.full((2, 4), 0.25)), 3)
    (1.0, 4.0)
    """
    rows = checked_rows(probabilities)
    return (-torch.xlogy(rows, rows).sum(dim=1).mean()).exp().item()


def pair_agreement(one: Tensor, two: Tensor) -> float:
    """Share of rows of `one` whose nearest row of `two`, by cosine, is the row of the same index.

    The own row must be nearer than every other by more than rounding: constant features give 0 and not 1.

    Args:
        one: (n, D), features of n images.
        two: (n, D), features of other views of the same images.

    Returns:
        0..1; chance is 1/n.

    >>> one = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> pair_agreement(one, one), pair_agreement(torch.ones(3, 2), torch.ones(3, 2))
    (1.0, 0.0)
    """
    check_same_shape(one, two)
    one, two = normalize(checked_rows(one), dim=1), normalize(checked_rows(two), dim=1)
    agreeing = 0
    for start in range(0, len(one), _CHUNK):
        cosine = one[start : start + _CHUNK] @ two.T  # (chunk, n)
        own = cosine.diagonal(offset=start).clone()
        cosine.diagonal(offset=start).fill_(-torch.inf)
        agreeing += int((own > cosine.amax(dim=1) + _MARGIN).sum())
    return agreeing / len(one)


def class_agreement(p1: Tensor, p2: Tensor) -> float:
    """Share of rows with the same most probable class; 1 also where all images fall into one class.

    Args:
        p1: (n, C), probabilities or logits of one view of n images.
        p2: (n, C), of another.

    >>> class_agreement(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([[0.6, 0.4], [0.7, 0.3]]))
    0.5
    """
    check_same_shape(p1, p2)
    p1, p2 = checked_rows(p1), checked_rows(p2)
    finite = p1.isfinite().all(dim=1) & p2.isfinite().all(dim=1)
    return ((p1.argmax(dim=1) == p2.argmax(dim=1)) & finite).double().mean().item()


def _effective_rank(strengths: Tensor, epsilon: float) -> float:
    share = strengths / strengths.sum().clamp_min(torch.finfo(strengths.dtype).tiny) + epsilon
    return (-(share * share.log()).sum()).exp().item()
