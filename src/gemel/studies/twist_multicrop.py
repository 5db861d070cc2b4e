"""What do TWIST's small views and its self-labeling add?"""

from gemel.studies.base import Column, Scale, Study, Variation, score
from gemel.studies.checks import order


def _variations(local: int, epochs: int, then: int) -> list[Variation]:
    """Equally many epochs in all."""
    crops = {"views.scale": [0.4, 1.0], "views.local_count": local}
    return [
        Variation("plain", {"epochs": epochs, "then.epochs": 0}),
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
            "then.views.local_scale": [0.05, 0.14],
        },
        _variations(4, 12, 3),
    ),
    full=Scale(
        {"method": "twist/resnet50-multicrop", "images": "imagenet", "views.name": "photo"}, _variations(12, 300, 50)
    ),
    columns=(
        Column("k-NN", score("knn", "top1")),
        Column("NMI", score("cluster", "nmi")),
        Column("ACC", score("cluster", "acc")),
    ),
    checks=(order("k-NN", "multi-crop", "plain"), order("NMI", "multi-crop-self-labeling", "multi-crop")),
    published=({"method": "TWIST", "network": "ResNet-50", "metric": ["linear top1"], "data": "ImageNet-1k"},),
)
