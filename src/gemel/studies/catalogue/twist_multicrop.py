"""What do TWIST's small views and its self-labeling add?"""

from collections.abc import Mapping
from typing import Any

from gemel.studies.base import Column, Scale, Study, Variation, score
from gemel.studies.checks import order


def _variations(epochs: int, then: int, plain: Mapping[str, Any], crops: Mapping[str, Any]) -> list[Variation]:
    """Equally many epochs in all."""
    return [
        Variation("plain", {"epochs": epochs, "then.epochs": 0, **plain}),
        Variation("multi-crop", {"epochs": epochs, "then.epochs": 0, **crops}),
        Variation("multi-crop-self-labeling", {"epochs": epochs - then, "then.epochs": then, **crops}),
    ]


STUDY = Study(
    question="What do small views and self-labeling add?",
    small=Scale(
        {
            "method": "twist",
            "images": "digits",
            "views.name": "photo",
            "views.flip": 0.0,
            "image_size": 16,
            "backbone": "convnet",
            "threads": 1,
            "views.scale": [0.5, 1.0],
        },
        # the published small views would be one to three pixels of a digit
        _variations(12, 3, {}, {"views.local_count": 4, "views.local_scale": [0.3, 0.5], "views.local_size": 12}),
    ),
    full=Scale(
        {"method": "twist/resnet50-multicrop", "images": "imagenet", "views.name": "photo"},
        _variations(300, 50, {"views.scale": [0.08, 1.0], "views.local_count": 0}, {}),
    ),
    columns=(
        Column("k-NN", score("knn", "top1")),
        Column("NMI", score("cluster", "nmi")),
        Column("ACC", score("cluster", "acc")),
    ),
    checks=(order("k-NN", "multi-crop", "plain"), order("NMI", "multi-crop-self-labeling", "multi-crop")),
    published=({"method": "TWIST", "network": "ResNet-50", "metric": ["linear top1"], "data": "ImageNet-1k"},),
)
