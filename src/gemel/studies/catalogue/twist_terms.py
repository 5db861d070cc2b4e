"""What do TWIST's sharpness and diversity terms do, each alone, both and none (its Table 8)?"""

from gemel.studies.base import Column, Scale, Study, Variation, classes_used, last, score
from gemel.studies.checks import alike, below, order
from gemel.studies.twist_scales import ablation

_VARIATIONS = [
    Variation("both", {"method.alpha": 1.0, "method.beta": 1.0}),
    Variation("no-diversity", {"method.alpha": 1.0, "method.beta": 0.0}),
    Variation("no-sharpness", {"method.alpha": 0.0, "method.beta": 1.0}),
    Variation("neither", {"method.alpha": 0.0, "method.beta": 0.0}),
    # At small scale the batch norm before the softmax keeps classes apart by itself: the diversity shows without it.
    Variation("both-no-NBS", {"method.alpha": 1.0, "method.beta": 1.0, "method.norm": False}),
    Variation("no-diversity-no-NBS", {"method.alpha": 1.0, "method.beta": 0.0, "method.norm": False}),
]

STUDY = Study(
    question="What do TWIST's sharpness and diversity terms do, each alone, both and none?",
    small=Scale(
        {"method": "twist", "images": "digits", "method.heads": 1, "classes": 64, "epochs": 12, "threads": 1},
        _VARIATIONS,
    ),
    full=ablation(_VARIATIONS),
    columns=(
        Column("EH", last("sharpness")),
        Column("HE", last("diversity")),
        Column("gradient", last("gradient_before")),
        Column("k-NN", score("knn", "top1")),
        Column("NMI", score("cluster", "nmi")),
        Column("classes", classes_used()),
    ),
    checks=(
        order("NMI", "both", "no-diversity", "no-sharpness"),
        order("classes", "both", "no-diversity"),
        order("NMI", "both-no-NBS", "no-diversity-no-NBS"),
        order("classes", "both-no-NBS", "no-diversity-no-NBS"),
        order("HE", "both", "no-diversity"),
        below("gradient", "no-sharpness", ["both", "no-diversity"]),
        alike("EH", ["no-sharpness", "neither"], 0.1),
    ),
    published=({"table": "TWIST Table 8 loss-term ablation"},),
)
