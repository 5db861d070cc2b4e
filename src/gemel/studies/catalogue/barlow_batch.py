"""Does Barlow Twins need large batches? The paper's Figure 2: the best of several rates at each size."""

from collections.abc import Sequence

from gemel.studies.barlow_scales import COLUMNS, EVALUATIONS, full, small
from gemel.studies.base import Study, Variation
from gemel.studies.checks import alike


def _batches(sizes: Sequence[int], rates: Sequence[float]) -> list[Variation]:
    """Every size with every rate; a rate is of a batch of 256, the one used is rate · size / 256."""
    return [
        Variation(
            f"batch-{size}-rate-{rate:g}",
            {"batch_size": size, "optimizer.lr": rate},
            "best rate",
            size,
            group=f"batch-{size}",
        )
        for size in sizes
        for rate in rates
    ]


STUDY = Study(
    question="How does Barlow Twins depend on the batch size, its rate chosen anew at each?",
    small=small(_batches((32, 64, 128, 256, 512), (1e-3, 4e-3, 1.6e-2))),
    full=full(_batches((128, 256, 512, 1024, 2048, 4096), (0.1, 0.2, 0.4, 0.8))),
    columns=COLUMNS,
    checks=(
        alike("k-NN", ["batch-128", "batch-256"], 0.015),
        alike("linear", ["batch-128", "batch-256"], 0.015),
    ),
    published=(
        {"table": "Barlow Twins issue 7 batch sizes"},
        {"table": "Barlow Twins Figure 2 batch size (caption)"},
        {"table": "BYOL Table 16 batch size"},
        {"method": ["Barlow Twins batch 128", "Barlow Twins batch 512"], "data": "CIFAR-10"},
    ),
    evaluations=EVALUATIONS,
    best="linear",
    axis="batch size",
    log_axis=True,
)
