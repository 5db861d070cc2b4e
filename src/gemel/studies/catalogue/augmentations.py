"""Which methods bear it when distortions are taken away? Barlow Twins' Figure 3 with all three curves."""

from gemel.studies.base import Study, Variation
from gemel.studies.catalogue.barlow_augmentations import GLYPH, PHOTO
from gemel.studies.checks import rising, steeper
from gemel.studies.relative_scales import COLUMNS, EVALUATIONS, LINES, full, full_of, small

THREE = {line: method for line, method in LINES.items() if method != "moco_v2"}


def _lines(steps: list[Variation], *, cifar: bool = False) -> list[Variation]:
    """Each step of Barlow Twins' own study, by each method."""
    return [
        Variation(
            f"{method}-{step.name}",
            {"method": full_of(method) if cifar else method, **step.settings},
            line,
            step.x,
        )
        for line, method in THREE.items()
        for step in steps
    ]


STUDY = Study(
    question="How much do Barlow Twins, SimCLR and BYOL lose with each distortion that is taken away?",
    small=small(_lines(GLYPH), views="glyph"),
    full=full(_lines(PHOTO, cifar=True), views="byol"),
    columns=COLUMNS,
    checks=(
        *(rising("linear", line) for line in THREE),
        steeper("linear", "SimCLR", "BYOL"),
        steeper("linear", "Barlow Twins", "BYOL"),
    ),
    published=({"table": "BYOL Table 17 augmentation removal"},),
    evaluations=EVALUATIONS,
    axis="distortions left",
)
