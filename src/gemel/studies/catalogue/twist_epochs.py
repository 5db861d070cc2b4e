"""How does TWIST grow with the epochs, and what does self-labeling add (its Figure 4 b)?"""

from gemel.studies.base import Column, Scale, Study, Variation, last, score
from gemel.studies.checks import rising

_LINES = {"plain": 0.0, "self-labeling": 0.25}
"""share of the epochs that the second stage has"""


def _variations(*epochs: int) -> list[Variation]:
    """Both lines have equally many epochs in all."""
    return [
        Variation(
            f"{line}-{count}",
            {"epochs": count - round(count * share), "then.epochs": round(count * share)},
            line,
            count,
        )
        for line, share in _LINES.items()
        for count in epochs
    ]


STUDY = Study(
    question="How do TWIST's classes grow with the epochs, with and without self-labeling at the end?",
    small=Scale({"method": "twist", "images": "digits", "threads": 1}, _variations(4, 8, 16, 32)),
    full=Scale({"method": "twist/resnet50-multicrop", "images": "imagenet"}, _variations(100, 200, 400, 800)),
    columns=(
        Column("ACC", score("cluster", "acc")),
        Column("NMI", score("cluster", "nmi")),
        Column("k-NN", score("knn", "top1")),
        Column("kept", last("kept"), plotted=False),
    ),
    checks=(*(rising("ACC", line) for line in _LINES), *(rising("k-NN", line) for line in _LINES)),
    published=({"method": "TWIST", "network": "ResNet-50", "metric": ["linear top1"], "data": "ImageNet-1k"},),
    axis="epochs",
    log_axis=True,
)
