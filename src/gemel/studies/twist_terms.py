"""What do TWIST's sharpness and diversity terms do, each alone, both and none (its Table 8)?"""

from gemel.studies.base import Column, Scale, Study, Variation, classes_used, last, score
from gemel.studies.checks import alike, below, order
from gemel.studies.twist_scales import ablation

_VARIATIONS = [
    Variation(f"{sharp}-{diverse}", {"method.alpha": alpha, "method.beta": beta})
    for sharp, alpha in (("sharp", 1.0), ("flat", 0.0))
    for diverse, beta in (("diverse", 1.0), ("uniform", 0.0))
]
# At small scale the batch norm before the softmax keeps classes apart by itself: the term alone shows without it.
_WITHOUT_NORM = [
    Variation(f"{diverse}-without-NBS", {"method.alpha": 1.0, "method.beta": beta, "method.norm": False})
    for diverse, beta in (("diverse", 1.0), ("uniform", 0.0))
]

STUDY = Study(
    question="What do TWIST's sharpness and diversity terms do, each alone, both and none?",
    small=Scale(
        {"method": "twist", "images": "digits", "method.heads": 1, "classes": 64, "epochs": 12, "threads": 1},
        [*_VARIATIONS, *_WITHOUT_NORM],
    ),
    full=ablation([*_VARIATIONS, *_WITHOUT_NORM]),
    columns=(
        Column("EH", last("sharpness")),
        Column("HE", last("diversity")),
        Column("gradient", last("gradient_before")),
        Column("k-NN", score("knn", "top1")),
        Column("NMI", score("cluster", "nmi")),
        Column("classes", classes_used()),
    ),
    checks=(
        order("NMI", "sharp-diverse", "sharp-uniform", "flat-diverse"),
        order("classes", "sharp-diverse", "sharp-uniform"),
        order("NMI", "diverse-without-NBS", "uniform-without-NBS"),
        order("classes", "diverse-without-NBS", "uniform-without-NBS"),
        order("HE", "sharp-diverse", "sharp-uniform"),
        below("gradient", "flat-diverse", ["sharp-diverse", "sharp-uniform"]),
        alike("EH", ["flat-diverse", "flat-uniform"], 0.1),
    ),
    published=({"table": "TWIST Table 8 loss-term ablation"},),
)
