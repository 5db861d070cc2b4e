"""How much does longer training give, TWIST's classes and Barlow Twins' features?"""

from gemel.studies.base import Column, Scale, Study, Variation, score
from gemel.studies.checks import rising

LINES = {"TWIST": "twist", "Barlow Twins": "barlow_twins"}


def _variations(*epochs: int) -> list[Variation]:
    return [
        Variation(f"{method}-{count}", {"method": method, "epochs": count}, line, count)
        for line, method in LINES.items()
        for count in epochs
    ]


STUDY = Study(
    question="How do k-NN, the accuracy of TWIST's classes and of k-means on features grow with the epochs?",
    small=Scale(
        {
            "images": "digits",
            "image_size": 8,
            "threads": 1,
            "workers": 0,
            "backbone": {"name": "convnet", "widths": [8, 16], "strides": [2, 2]},
        },
        _variations(3, 6, 12, 24),
    ),
    full=Scale(
        {
            "images": "cifar10",
            "image_size": 32,
            "batch_size": 256,
            "backbone": {"name": "resnet18", "stem": "small"},
        },
        _variations(100, 200, 400, 800),
    ),
    columns=(
        Column("k-NN", score("knn", "top1")),
        Column("ACC", score("cluster", "acc")),
        Column("k-means ACC", score("cluster", "kmeans_acc")),
    ),
    checks=(
        *(rising(column, line) for column in ("k-NN", "k-means ACC") for line in LINES),
        rising("ACC", "TWIST"),
    ),
    published=(
        {"method": "TWIST", "network": "ResNet-50", "metric": ["linear top1"], "data": "ImageNet-1k"},
        {"method": "Barlow Twins", "network": ["ResNet-50", "ResNet-18"], "metric": ["linear top1"]},
        {"method": ["Barlow Twins batch 128", "Barlow Twins batch 512"], "data": "CIFAR-10"},
    ),
    axis="epochs",
    log_axis=True,
)
