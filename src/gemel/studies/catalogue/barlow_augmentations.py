"""How much does Barlow Twins lose with each distortion that is taken away? The paper's Figure 3."""

from collections.abc import Mapping
from typing import Any

from gemel.studies.barlow_scales import COLUMNS, EVALUATIONS, full, small
from gemel.studies.base import Study, Variation
from gemel.studies.checks import rising

LINE = "Barlow Twins"


def _removed(*steps: tuple[str, Mapping[str, Any]]) -> list[Variation]:
    """Each step also lacks what those before it lack."""
    lacking: dict[str, Any] = {}
    variations: list[Variation] = []
    for taken, (name, given) in enumerate(steps):
        lacking |= given
        settings = {f"views.{key}": value for key, value in lacking.items()}
        variations.append(Variation(name, settings, LINE, len(steps) - 1 - taken))
    return variations


PHOTO = _removed(
    ("baseline", {}),
    ("no-gray", {"gray": 0.0}),
    ("no-colour", {"jitter": 0.0}),
    ("crop-blur", {"flip": 0.0, "solarize": [0.0, 0.0]}),
    ("crop", {"blur": [0.0, 0.0]}),
)
# Digits have no colours: their distortions go one by one, until views are moved and scaled alone.
GLYPH = _removed(
    ("baseline", {}),
    ("no-gamma", {"gamma": 0.0}),
    ("no-elastic", {"elastic": 0.0}),
    ("no-shear", {"shear": 0.0}),
    ("no-rotation", {"rotate": 0.0}),
)

STUDY = Study(
    question="How much does Barlow Twins lose with each distortion that is taken away?",
    small=small(GLYPH, views="glyph"),
    full=full(PHOTO, views="byol"),
    columns=COLUMNS,
    checks=tuple(rising(column, LINE) for column in ("k-NN", "linear")),
    published=(
        {"table": "Barlow Twins Table 5 loss ablation", "method": "Barlow Twins baseline"},
        {"table": "BYOL Table 17 augmentation removal"},
    ),
    evaluations=EVALUATIONS,
    axis="distortions left",
)
