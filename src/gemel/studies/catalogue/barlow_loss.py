"""What is each part of Barlow Twins' loss worth? The paper's Table 5, rows (a) to (g)."""

from gemel.studies.barlow_scales import COLUMNS, EVALUATIONS, full, options, small
from gemel.studies.base import Study
from gemel.studies.checks import below, order

# The paper prints neither the factor of C under feature-norm nor λ and τ of cross-entropy.
LOSSES = options(
    {
        "baseline": {},
        "on-diagonal": {"terms": "invariance"},
        "off-diagonal": {"terms": "redundancy"},
        "feature-norm": {"normalisation": "features"},
        "no-bn": {"projector_norm": "none"},
        "no-bn-no-norm": {"projector_norm": "none", "normalisation": "centre"},
        "cross-entropy": {"temperature": 0.1, "lambda_param": 0.5},
    }
)

STUDY = Study(
    question="What is each term of Barlow Twins' loss worth, and each normalisation?",
    small=small(LOSSES),
    full=full(LOSSES),
    columns=COLUMNS,
    checks=(
        *(order(column, "baseline", "on-diagonal", "off-diagonal") for column in ("k-NN", "linear")),
        below("linear", "no-bn-no-norm", ["no-bn"]),
    ),
    published=({"table": "Barlow Twins Table 5 loss ablation"},),
    evaluations=EVALUATIONS,
)
