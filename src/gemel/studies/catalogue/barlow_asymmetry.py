"""Does Barlow Twins gain from a predictor or a stop-gradient? The paper's Table 6."""

from gemel.studies.barlow_scales import COLUMNS, EVALUATIONS, full, options, small
from gemel.studies.base import Study, Variation
from gemel.studies.checks import below


def _asymmetries(hidden: int) -> list[Variation]:
    return options(
        {
            "baseline": {},
            "stop-gradient": {"stop_gradient": True},
            "predictor": {"predictor": hidden},
            "both": {"stop_gradient": True, "predictor": hidden},
        }
    )


STUDY = Study(
    question="Does Barlow Twins gain from a predictor on one view, a stop-gradient on the other, or both?",
    small=small(_asymmetries(512)),
    full=full(_asymmetries(2048)),
    columns=COLUMNS,
    checks=tuple(below(column, "both", ["baseline", "stop-gradient", "predictor"]) for column in ("k-NN", "linear")),
    published=({"table": "Barlow Twins Table 6 asymmetry"},),
    evaluations=EVALUATIONS,
)
