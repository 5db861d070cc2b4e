"""How sensitive is Barlow Twins to λ? The paper's Figure 5."""

from gemel.studies.barlow_scales import COLUMNS, EVALUATIONS, full, small
from gemel.studies.base import Study, Variation
from gemel.studies.checks import alike

LAMBDAS = [
    Variation(f"lambda-{value:g}", {"method.lambda_param": value}, "Barlow Twins", value)
    for value in (0.002, 0.005, 0.007, 0.01, 0.015, 0.02)
]

STUDY = Study(
    question="How sensitive is Barlow Twins to the weight λ of its redundancy term?",
    small=small(LAMBDAS),
    full=full(LAMBDAS),
    columns=COLUMNS,
    checks=tuple(alike(column, [], 0.015) for column in ("k-NN", "linear")),
    published=({"table": "Barlow Twins Table 5 loss ablation", "method": "Barlow Twins baseline"},),
    evaluations=EVALUATIONS,
    axis="λ",
    log_axis=True,
)
