"""What do the statistics of IMAX, Barlow Twins, VICReg and InfoNCE tell of a known information?

Two views of a Gaussian signal, S + N₁ and S + N₂: S of unit variance, noise of variance s², all dimensions alike. Known
are I(A; B) = -D/2 log(1 - ρ²), ρ = 1/(1 + s²), and what IMAX estimates, I(S; A + B) = D/2 log(1 + 2/s²).
"""

from collections.abc import Mapping, Sequence
from math import log
from typing import Any

from gemel.studies.base import Column, Scale, Study, Variation, computed
from gemel.studies.checks import below

NOISE = 0.5
"""s²"""

BATCHES = 200
"""drawn for each number"""

LINES = {
    "imax": "IMAX",
    "canonical": "all correlations",
    "barlow-twins": "Barlow Twins",
    "vicreg": "VICReg",
    "infonce": "InfoNCE",
}
"""imax: both log-determinants; canonical: -½ log|I - C Cᵀ| of the cross-correlation of whitened views; barlow-twins:
the correlation's diagonal; vicreg: variances and distance of the views; infonce: log n - loss, by the best critic"""


def estimate(estimator: str, one: Any, two: Any) -> float:
    """Return an estimate of the information in nats, of views (n, D); NaN where the batch is too small for it."""
    import torch

    from gemel.methods.imax import imax_loss
    from gemel.methods.parts.standardise import standardise

    if estimator == "imax":
        return -0.5 * float(imax_loss(one, two)["loss"]) if len(one) > one.shape[1] else float("nan")
    if estimator == "infonce":  # log p(b|a) + const for each pair; the constant of a row of b falls out
        rho = 1 / (1 + NOISE)
        scores = -(two[None] - rho * one[:, None]).square().sum(2) / (2 * (1 + NOISE) * (1 - rho**2))
        scores = scores + two.square().sum(1) / (2 * (1 + NOISE))
        return log(len(one)) + float((scores.diagonal() - scores.logsumexp(1)).mean())
    if estimator == "canonical":
        if len(one) <= 2 * one.shape[1]:
            return float("nan")
        white = [torch.linalg.qr(view - view.mean(0))[0] for view in (one, two)]
        cosines = torch.linalg.svdvals(white[0].T @ white[1])
        return -0.5 * float(torch.log1p(-cosines.square()).sum())
    if estimator == "barlow-twins":
        correlation = (standardise(one) * standardise(two)).mean(0)
    else:
        variance = (one.var(0) + two.var(0)) / 2
        correlation = 1 - (one - two).square().mean(0) / (2 * variance)
    return -0.5 * float(torch.log1p(-correlation.square()).sum())


def compute(*, seed: int, estimator: str, dimensions: int, batch: int) -> Mapping[str, float]:
    """Return bias and spread of the estimates over fresh batches, in nats, and what is known."""
    import torch

    rho = 1 / (1 + NOISE)
    known = dimensions / 2 * (log(1 + 2 / NOISE) if estimator == "imax" else -log(1 - rho**2))
    generator = torch.Generator().manual_seed(seed)
    found: list[float] = []
    for _ in range(BATCHES):
        signal, *noise = torch.randn(3, batch, dimensions, generator=generator, dtype=torch.float64)
        found.append(estimate(estimator, *(signal + NOISE**0.5 * one for one in noise)))
    values = torch.tensor(found, dtype=torch.float64)
    if bool(values.isnan().any()):
        return {"known": known}
    return {"known": known, "bias": float(values.mean()) - known, "spread": float(values.std())}


def _variations(dimensions: Sequence[int], batches: Sequence[int]) -> list[Variation]:
    return [
        Variation(
            f"{estimator}-{width}-of-{batch}",
            {"estimator": estimator, "dimensions": width, "batch": batch},
            f"{line}, {width}",
            batch,
        )
        for estimator, line in LINES.items()
        for width in dimensions
        for batch in batches
    ]


STUDY = Study(
    question="How far from a known information are the estimates by each loss's statistics, by dimension and batch?",
    small=Scale({}, _variations((2, 8, 32), (16, 64, 256))),
    full=Scale({}, _variations((2, 8, 32, 128), (16, 64, 256, 1024, 4096))),
    columns=(
        Column("known", computed("known"), plotted=False),
        Column("bias", computed("bias")),
        Column("spread", computed("spread")),
    ),
    checks=(
        below("bias", "infonce-32-of-64", ["barlow-twins-32-of-64", "imax-32-of-64"]),
        below("bias", "imax-8-of-64", ["canonical-8-of-64"]),
    ),
    axis="batch",
    log_axis=True,
    compute=compute,
)
