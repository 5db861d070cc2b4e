"""Does BYOL gain from larger heads, as Barlow Twins does? Table 7 of its paper."""

from collections.abc import Sequence

from gemel.studies.base import Study, Variation
from gemel.studies.relative_scales import COLUMNS, EVALUATIONS, full, named, small

Row = tuple[str, Sequence[int], Sequence[int]]


def _rows(wide: int, narrow: int) -> list[Row]:
    """Return projector and hidden layers of the predictor by row; the paper's widths are 4096 and 256."""
    return [
        ("baseline", [wide, narrow], [wide]),
        ("deep-projector", [wide, wide, narrow], [wide]),
        ("both-deep", [wide, wide, narrow], [wide, wide]),
        ("deep-projector-wide", [wide, wide, 2 * narrow], [wide]),
        ("both-deep-wide", [wide, wide, 2 * narrow], [wide, wide]),
        ("as-barlow-twins", [2 * wide, 2 * wide, 2 * wide], [2 * wide]),
    ]


def _heads(method: str, rows: Sequence[Row]) -> list[Variation]:
    return [
        named(name, method, {"projector": projector, "predictor": predictor}) for name, projector, predictor in rows
    ]


STUDY = Study(
    question="Does BYOL gain from a deeper or wider projector, predictor and embedding, as Barlow Twins does?",
    small=small(_heads("byol", _rows(256, 64))),
    full=full(_heads("byol/cifar10", _rows(2048, 256))),
    columns=COLUMNS,
    published=({"table": "Barlow Twins Table 7 BYOL with larger heads"},),
    evaluations=EVALUATIONS,
)
