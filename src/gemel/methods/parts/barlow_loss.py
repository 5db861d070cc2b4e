"""Barlow Twins' loss, and the variants that its paper compares (arXiv 2103.03230, Table 5 and section 5)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gemel.distributed import mean_over_processes, world_size
from gemel.methods.parts.cross_correlation import Form, check_pair, correlation_terms
from gemel.methods.parts.precision import exact_products
from gemel.methods.parts.standardise import centre, standardise

Terms = Literal["both", "invariance", "redundancy"]
Normalisation = Literal["batch", "features", "centre"]
FeatureScale = Literal["width", "mean", "sum"]
RedundancyOf = Literal["cross", "auto"]


@dataclass(frozen=True)
class Variant:
    """How the loss is computed; the defaults are the paper's loss.

    In Table 5, the row of 57.3 has the invariance term alone, that of 0.1 the redundancy term alone; some descriptions
    of it swap the two.

    Args:
        terms: which terms the loss has (both are returned).
        normalisation: batch: columns standardised; features: then each row divided by its length, without a mean;
            centre: columns of mean 0, so that C is the cross-covariance.
        feature_scale: what C is multiplied by under `features`, which the paper does not state. width: D, the
            identity is the optimum; mean: 1, C is the mean over rows; sum: n.
        redundancy_of: cross: the off-diagonal of C; auto: mean of the off-diagonals of each view's own correlation.
        temperature: τ of -log Σ_i exp(C_ii/τ) and log Σ_i Σ_{j≠i} exp(max(C_ij, 0)/τ), which replace the two terms.
    """

    terms: Terms = "both"
    normalisation: Normalisation = "batch"
    feature_scale: FeatureScale = "width"
    redundancy_of: RedundancyOf = "cross"
    temperature: float | None = None

    def weights(self, lambda_param: float) -> dict[str, float]:
        """Return the factor of each term in the loss."""
        return {
            "invariance": float(self.terms != "redundancy"),
            "redundancy": lambda_param * (self.terms != "invariance"),
        }


PAPER = Variant()


def barlow_twins_loss(
    one: Tensor,
    two: Tensor,
    *,
    lambda_param: float = 0.0051,
    form: Form = "auto",
    match_official_gradient: bool = False,
    variant: Variant = PAPER,
) -> dict[str, Tensor]:
    r"""L = Σ_i (1 - C_ii)² + λ Σ_i Σ_{j≠i} C_ij², C = Z₁ᵀ Z₂ / n, Z standardised over the global batch.

    The variance is the biased one plus 1e-5. Source: arXiv 2103.03230, equation 1, and its released code (sums, not
    means; some descriptions drop the square of the first term, whose gradient then does not vanish at C_ii = 1).

    Args:
        one: raw embeddings of the first views, (n, D), this process's rows.
        two: raw embeddings of the second views, (n, D).
        lambda_param: λ, weight of the redundancy term.
        form: correlation: by the D x D matrix; gram: by the n x n matrices, Σ_ij C_ij² = <Z₁Z₁ᵀ, Z₂Z₂ᵀ> / n², the
            same value at a lower cost where n < D; auto: the cheaper.
        match_official_gradient: divide the gradient by the number of processes W, as the released code does by
            accident; useful to reuse learning rates tuned with it on as many processes. By default the gradient is
            that of one process on the joined batch, whatever W.
        variant: how the two terms are computed, for ablations.

    Returns:
        loss, invariance Σ_i (1 - C_ii)² and redundancy Σ_i Σ_{j≠i} C_ij², scalars in float32 or wider.

    Raises:
        ValueError: the shapes differ, are not (n, D), or the form is unknown.
    """
    terms = variant_terms(one, two, variant, form)
    weights = variant.weights(lambda_param)
    # as few operations as possible: at small sizes launching them dominates
    first = terms["invariance"] if weights["invariance"] == 1 else weights["invariance"] * terms["invariance"]
    loss = torch.add(first, terms["redundancy"], alpha=weights["redundancy"])
    if match_official_gradient:
        loss = loss.detach() + (loss - loss.detach()) / world_size()
    return {"loss": loss, **terms}


def variant_terms(one: Tensor, two: Tensor, variant: Variant, form: Form) -> dict[str, Tensor]:
    """Return invariance and redundancy of a variant, scalars in float32 or wider.

    Args:
        one: raw embeddings of the first views, (n, D), this process's rows.
        two: raw embeddings of the second views, (n, D).
        variant: how the terms are computed.
        form: see `correlation_terms`; a temperature needs the D x D matrix.

    Raises:
        ValueError: the shapes differ or are not (n, D), or there is a temperature and D is 1.
    """
    check_pair(one, two)
    with exact_products(one.device):
        standardised = variant.normalisation == "batch" and variant.temperature is None
        if not standardised:
            one, two = _normalised(one, variant), _normalised(two, variant)
        if variant.temperature is not None:
            return _cross_entropy_terms(one, two, variant.temperature)
        found = correlation_terms(one, two, form=form, standardised=standardised)
        if variant.redundancy_of == "auto":
            both = [correlation_terms(view, None, form=form, standardised=standardised) for view in (one, two)]
            found["redundancy"] = (both[0]["redundancy"] + both[1]["redundancy"]) / 2
        return found


def _normalised(rows: Tensor, variant: Variant) -> Tensor:
    if variant.normalisation == "centre":
        return centre(rows)
    rows = standardise(rows)
    if variant.normalisation == "batch":
        return rows
    factor = {"width": rows.shape[1], "mean": 1, "sum": len(rows) * world_size()}[variant.feature_scale]
    return normalize(rows, dim=1) * factor**0.5


def _cross_entropy_terms(one: Tensor, two: Tensor, temperature: float) -> dict[str, Tensor]:
    if one.shape[1] == 1:
        raise ValueError("one dimension has no off-diagonal; give embeddings of two or more dimensions, or no τ")
    matrix = mean_over_processes(one.T @ two / len(one))  # (D, D)
    diagonal = torch.eye(len(matrix), dtype=torch.bool, device=matrix.device)
    others = matrix.clamp_min(0).masked_fill(diagonal, -torch.inf)
    return {
        "invariance": -(matrix.diagonal() / temperature).logsumexp(0),
        "redundancy": (others / temperature).flatten().logsumexp(0),
    }
