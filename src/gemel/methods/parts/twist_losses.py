"""TWIST's four losses: two views, multi-crop, a teacher, self-labeling (arXiv 2110.07402 and its released code).

Each takes this process's rows, averages over the global batch, and gives after DDP's mean the gradient of one
process. Sums are in float32 (float64 for float64 input), under autocast too.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gemel.distributed import gather, mean_over_processes, rank
from gemel.errors import UserError
from gemel.methods.parts.class_distributions import Statistics, on_device, statistics, view_weights
from gemel.methods.parts.precision import exact_products, widened

IGNORED = -100
"""label of an image that is not kept: no device has to wait for how many are"""


def twist_loss(
    one: Tensor,
    two: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    temperature: float = 1.0,
    epsilon: float = 1e-5,
) -> dict[str, Tensor]:
    r"""L = ½[KL(p¹‖p²) + KL(p²‖p¹)] + α ½[EH(p¹) + EH(p²)] - β ½[HE(p¹) + HE(p²)].

    KL(p‖q) = 1/B Σ_i Σ_c p_ic [log(p_ic + ε) - log(q_ic + ε)] with p = softmax(z); with p = softmax(z / τ),
    EH(p) = -1/B Σ_i Σ_c p_ic log(p_ic + ε) and HE(p) = -Σ_c p̄_c log(p̄_c + ε), p̄ the mean over the global batch.
    Source: arXiv 2110.07402 and its released code, whose ε inside the logarithms is worth 0.04 nat at 4096 classes.

    Args:
        one: logits of the first views after the batch norm, (B, C), this process's rows.
        two: logits of the second views, (B, C).
        alpha: α, weight of the sharpness.
        beta: β, weight of the diversity.
        temperature: τ of the two entropies (the consistency takes none).
        epsilon: ε; 0 means log-softmax.

    Returns:
        loss, consistency, sharpness and diversity; raw and positive, means over the global batch.

    Raises:
        ValueError: the shapes differ or are not (B, C).
    """
    return multi_crop_loss([one, two], alpha=alpha, beta=beta, temperature=temperature, epsilon=epsilon)


def multi_crop_loss(
    views: Sequence[Tensor],
    *,
    alpha: float = 1.0,
    beta: float | Tensor = 1.0,
    temperature: float = 1.0,
    epsilon: float = 1e-5,
) -> dict[str, Tensor]:
    r"""Return the mean of `twist_loss(views[i], views[j])` over the 2V - 3 pairs of a global i < 2 and a later j > i.

    L = 1/(2V-3) Σ_{i<2} Σ_{j>i} L(z_i, z_j). The sum over pairs is linear in each view's P and log P, so every view's
    softmax is taken once, and beside the gradient only the logarithms are as large as the logits. All views take
    gradients; the global ones are not fixed targets.

    Args:
        views: logits after the batch norm, V >= 2 tensors (B, C), or (B, H, C) of H heads, the two global views first.
        alpha: α, weight of the sharpness.
        beta: β, weight of the diversity; of several heads it may be (H,).
        temperature: τ of the two entropies (the consistency takes none).
        epsilon: ε; 0 means log-softmax.

    Returns:
        loss, consistency, sharpness and diversity, means over pairs.

    Raises:
        ValueError: fewer than two views, shapes that differ or are not (B, C), or τ or ε out of range.
    """
    _check(views, temperature, epsilon)
    with exact_products(views[0].device):
        return _terms(statistics(views, temperature=temperature, epsilon=epsilon), alpha, beta, epsilon, teacher=False)


def teacher_loss(
    teacher_logits: Sequence[Tensor],
    student_logits: Sequence[Tensor],
    *,
    alpha: float,
    beta: float | Tensor,
    temperature: float = 1.0,
    epsilon: float = 1e-5,
) -> dict[str, Tensor]:
    r"""L = 1/(2(V-1)) Σ_{i<2} Σ_{j≠i} KL(pᵀ_i‖pˢ_j) + α 1/V Σ_j EH(pˢ_j) - β 1/V Σ_j HE(pˢ_j).

    As in the vision transformers' runs: a momentum teacher's two global views are targets in one direction, and the
    entropies are those of all V views of the student, equally weighted; τ applies to all terms.

    Args:
        teacher_logits: the teacher's logits of the two global views, (B, C) each; without gradient.
        student_logits: the student's logits of V >= 2 views, (B, C) each, the same global views first.
        alpha: α, weight of the sharpness; 0.4 in the released settings.
        beta: β, weight of the diversity.
        temperature: τ.
        epsilon: ε; 0 means log-softmax.

    Returns:
        loss, consistency, sharpness and diversity.

    Raises:
        ValueError: not two teacher's views, fewer than two student's, or shapes that differ or are not (B, C).
    """
    _check([*student_logits, *teacher_logits], temperature, epsilon)
    if len(teacher_logits) != 2 or len(student_logits) < 2:
        raise ValueError(
            f"two global views of the teacher and two or more views of the student are needed, not "
            f"{len(teacher_logits)} and {len(student_logits)}"
        )
    with exact_products(student_logits[0].device):
        found = statistics(student_logits, temperature=temperature, epsilon=epsilon, teacher=teacher_logits)
        return _terms(found, alpha, beta, epsilon, teacher=True)


def self_labeling_loss(views: Sequence[Tensor], *, quantile: float, group: int | None = None) -> dict[str, Tensor]:
    r"""L = 1/(V-1) [CE(strong, ŷ) + Σ_{v≥2} CE(z_v, ŷ)], CE the mean over kept images of -log softmax(z)_ŷ.

    Of an image's two global views the one with the larger maximal probability is the weak one (the second, if they
    are equal) and gives the label ŷ; the other is the strong one. Kept are images whose maximum c_i is strictly above
    the threshold t = sort↓(c)[min(⌊q G⌋, G - 1)] of their group of G images. Labels and threshold take no gradient;
    with nothing kept the loss is 0 and its gradient zeros.

    The released code divides the logits that choose the weak view by τ, which is 1 in all its runs; here there is none.

    Args:
        views: logits after the batch norm, V >= 2 tensors (B, C), the two global views first.
        quantile: q, the share of images to keep, 0..1.
        group: G, consecutive images of the global batch, which G must divide; by default each process's batch, as
            released. With G given, several processes give what one gives.

    Returns:
        loss; threshold, mean over groups; kept, the fraction of images.

    Raises:
        ValueError: fewer than two views, or shapes that differ or are not (B, C).
        UserError: the quantile is out of range, or the global batch is not made of whole groups.
    """
    _check(views)
    with exact_products(views[0].device):
        with torch.no_grad():
            first, second = (widened(logits).softmax(1).max(1) for logits in views[:2])
            first_is_weak = first.values > second.values
            labels = first.indices.where(first_is_weak, second.indices)
            confidence = first.values.maximum(second.values)  # (B,)
            own, thresholds = _thresholds(confidence, quantile, group)
            kept = confidence > own
            count = mean_over_processes(kept.sum().to(confidence.dtype))
            labels = labels.masked_fill(~kept, IGNORED)
        strong = views[1].where(first_is_weak[:, None], views[0])
        losses = [
            cross_entropy(widened(logits), labels, ignore_index=IGNORED, reduction="sum")
            for logits in (strong, *views[2:])
        ]
        total = mean_over_processes(torch.stack(losses).sum())
        return {
            "loss": total / (count.where(count > 0, torch.ones_like(count)) * len(losses)),
            "threshold": thresholds.mean(),
            "kept": count / len(confidence),
        }


def _thresholds(confidence: Tensor, quantile: float, group: int | None) -> tuple[Tensor, Tensor]:
    """Return the threshold of each row's group, (B,), and those of all groups."""
    if not 0 <= quantile <= 1:
        raise UserError(f"a quantile of {quantile}; give the share of images to keep, from 0 to 1")
    everywhere = gather(confidence)
    size = len(confidence) if group is None else group
    if size < 1 or len(everywhere) % size:
        raise UserError(f"a batch of {len(everywhere)} images is not made of groups of {size}; give a divisor of it")
    position = min(int(quantile * size), size - 1)
    thresholds = everywhere.view(-1, size).sort(1, descending=True).values[:, position]
    start = rank() * len(confidence)
    return thresholds.repeat_interleave(size)[start : start + len(confidence)], thresholds


def _terms(found: Statistics, alpha: float, beta: float | Tensor, epsilon: float, teacher: bool) -> dict[str, Tensor]:
    consistency, sharpness = mean_over_processes(torch.stack([found.consistency, found.sharpness]))
    means = mean_over_processes(found.means)  # (V, C) or (V, H, C)
    # clamped where ε is 0: a class that no row takes gives 0, and no gradient that is not a number
    logarithms = (means + epsilon if epsilon else means.clamp_min(torch.finfo(means.dtype).tiny)).log()
    shares = on_device(view_weights(len(means), teacher), means)
    diversity = -torch.tensordot(shares, (means * logarithms).sum(-1), 1)
    return {
        "loss": consistency + alpha * sharpness - beta * diversity,
        "consistency": consistency,
        "sharpness": sharpness,
        "diversity": diversity,
    }


def _check(views: Sequence[Tensor], temperature: float = 1.0, epsilon: float = 0.0) -> None:
    if temperature <= 0 or epsilon < 0:
        raise ValueError(f"a temperature above 0 and an epsilon of at least 0 are needed, not {temperature}, {epsilon}")
    shapes = {tuple(logits.shape) for logits in views}
    if len(views) < 2 or len(shapes) != 1 or len(next(iter(shapes))) not in (2, 3):
        raise ValueError(
            "two or more matrices (B, C), or (B, H, C) of H heads, of one shape are needed, not "
            f"{len(views)} of {sorted(shapes)}"
        )
