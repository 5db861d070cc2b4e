"""Which methods need large batches? Barlow Twins' Figure 2 with BYOL and MoCo v2: the best of several rates at each."""

from collections.abc import Mapping, Sequence

from gemel.studies.base import Study, Variation
from gemel.studies.checks import steeper
from gemel.studies.relative_scales import COLUMNS, EVALUATIONS, LINES, full, full_of, small

RATES: Mapping[str, float] = {"barlow_twins": 0.3, "simclr": 0.4, "byol": 1.0, "moco_v2": 0.3}
"""of solo-learn's recipes for CIFAR-10, at a batch of 256"""


def _batches(line: str, method: str, sizes: Sequence[int], rates: Sequence[float]) -> list[Variation]:
    """Every size with every rate; a rate is of a batch of 256, the one used is rate · size / 256."""
    name = method.partition("/")[0]
    return [
        Variation(
            f"{name}-{size}-rate-{rate:g}",
            {"method": method, "batch_size": size, "optimizer.lr": rate},
            line,
            size,
            group=f"{name}-{size}",
        )
        for size in sizes
        for rate in rates
    ]


STUDY = Study(
    question="Which of Barlow Twins, SimCLR, BYOL and MoCo v2 need large batches, their rates chosen anew at each?",
    small=small(
        [one for line, method in LINES.items() for one in _batches(line, method, (32, 128, 512), (1e-3, 4e-3))]
    ),
    full=full(
        [
            one
            for line, method in LINES.items()
            for one in _batches(
                line,
                full_of(method),
                (128, 256, 512, 1024, 2048, 4096),
                [RATES[method] * factor for factor in (0.25, 0.5, 1.0, 2.0)],
            )
        ]
    ),
    columns=COLUMNS,
    checks=tuple(steeper("linear", "SimCLR", other) for other in ("Barlow Twins", "BYOL", "MoCo v2")),
    published=(
        {"table": "Barlow Twins issue 7 batch sizes"},
        {"table": "Barlow Twins Figure 2 batch size (caption)"},
        {"table": "BYOL Table 16 batch size"},
    ),
    evaluations=EVALUATIONS,
    best="linear",
    axis="batch size",
    log_axis=True,
)
