"""How wide and how deep should Barlow Twins' projector be? The paper's Figure 4, and beyond its 16,384."""

from collections.abc import Sequence

from gemel.studies.barlow_scales import COLUMNS, EVALUATIONS, full, small
from gemel.studies.base import Study, Variation
from gemel.studies.checks import below, rising

THREE = "3 layers"


def _projectors(hidden: int, widths: Sequence[int], width: int) -> list[Variation]:
    """Three layers of each last width, and 1, 2 and 4 layers of one."""
    wide = [Variation(f"width-{last}", {"method.projector": [hidden, hidden, last]}, THREE, last) for last in widths]
    deep = [
        Variation(
            f"depth-{depth}",
            {"method.projector": [hidden] * (depth - 1) + [width]},
            f"{depth} layer{'' if depth == 1 else 's'}",
            width,
        )
        for depth in (1, 2, 4)
    ]
    return wide + deep


STUDY = Study(
    question="Does Barlow Twins gain from wider embeddings at one λ, and from deeper projectors?",
    small=small(_projectors(128, (16, 64, 256, 1024, 4096, 16384), 1024)),
    full=full(_projectors(2048, (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536), 2048)),
    columns=COLUMNS,
    checks=(*(rising(column, THREE) for column in ("k-NN", "linear")), below("linear", "depth-1", ["depth-2"])),
    published=(
        {"table": "Barlow Twins Table 5 loss ablation", "method": "Barlow Twins baseline"},
        {"table": "BYOL Table 14b projector width"},
        {"table": "Barlow Twins Table 7 BYOL with larger heads"},
    ),
    evaluations=EVALUATIONS,
    axis="width of the embedding",
    log_axis=True,
)
