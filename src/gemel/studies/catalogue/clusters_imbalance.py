"""What do the methods that find classes make of long tails, which nearly all of them believe not to exist?"""

from gemel.studies.base import Column, Scale, Study, Variation, score
from gemel.studies.checks import below
from gemel.studies.class_finders import COLUMNS, PIXELS, variations

_METHODS = variations()


def _weights() -> list[Variation]:
    """Those whose wish for equal classes has a weight, also at a quarter of it."""
    quarter = {
        "twist": {"method.beta": 0.25},
        "imsat": {"method.balance": 1.0},
        "scan": {"method.entropy_weight": 1.25},
    }
    found = [
        Variation(f"{one.name}-less", {**one.settings, **quarter[one.name]}) for one in _METHODS if one.name in quarter
    ]
    return [*_METHODS, *found]


STUDY = Study(
    question="Which classes are found where some kinds are rare, and does a weaker wish for equal classes help?",
    small=Scale({"images": "digits:tail10", "train": "heads", "threads": 2}, _weights()),
    full=Scale(
        {
            "images": "cifar10:tail100",
            "image_size": 32,
            "epochs": 400,
            "batch_size": 256,
            "backbone": {"name": "resnet18", "stem": "small"},
        },
        _weights(),
    ),
    columns=(*COLUMNS, Column("k-NN", score("knn", "top1"))),
    checks=(below("ACC", "sela", ["twist-less"]),),
    evaluations=(PIXELS,),
)
