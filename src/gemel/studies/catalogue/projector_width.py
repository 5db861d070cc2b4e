"""Which methods gain from wider embeddings? Barlow Twins' Figure 4 with all three curves."""

from collections.abc import Sequence

from gemel.studies.base import Study, Variation
from gemel.studies.checks import rising, steeper
from gemel.studies.relative_scales import COLUMNS, EVALUATIONS, full, full_of, named, small


def _widths(hidden: int, widths: Sequence[int], *, cifar: bool = False) -> list[Variation]:
    """Each method's own depth, its hidden layers as they are, its last one of each width."""
    depths = {"Barlow Twins": ("barlow_twins", 2), "SimCLR": ("simclr", 1), "BYOL": ("byol", 1)}
    return [
        named(
            f"{method}-{width}",
            full_of(method) if cifar else method,
            {"projector": [hidden] * depth + [width]},
            line,
            width,
        )
        for line, (method, depth) in depths.items()
        for width in widths
    ]


STUDY = Study(
    question="Which of Barlow Twins, SimCLR and BYOL gain from wider embeddings?",
    small=small(_widths(128, (16, 64, 256, 1024))),
    full=full(_widths(2048, (16, 64, 256, 1024, 4096, 16384), cifar=True)),
    columns=COLUMNS,
    checks=(
        rising("linear", "Barlow Twins"),
        steeper("linear", "Barlow Twins", "SimCLR"),
        steeper("linear", "Barlow Twins", "BYOL"),
    ),
    published=(
        {"table": "BYOL Table 14b projector width"},
        {"table": "Barlow Twins Table 5 loss ablation", "method": "Barlow Twins baseline"},
    ),
    evaluations=EVALUATIONS,
    axis="width of the embedding",
    log_axis=True,
)
