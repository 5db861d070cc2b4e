"""How many classes should TWIST be given (its Figure 4 a)? Also a guide where no label tells."""

from collections.abc import Sequence

from gemel.runs.run import Run
from gemel.studies.base import Column, Scale, Study, Variation, classes_used, last, same_classes, score
from gemel.studies.checks import rising
from gemel.studies.twist_scales import ablation


def _variations(*classes: int) -> Sequence[Variation]:
    return [Variation(f"{count}-classes", {"classes": count}, x=count) for count in classes]


def _mean_probability(run: Run) -> float | None:
    """Of the likeliest class of an image: near 1 where the classes are told apart."""
    table = run.classes()
    if table is None or not table.num_rows:
        return None
    values = table.column("probability").to_pylist()
    return float(sum(values) / len(values))


STUDY = Study(
    question="How do classes used, their sharpness and their agreement with labels go with the number of classes?",
    small=Scale({"method": "twist", "images": "digits", "epochs": 12, "threads": 1}, _variations(5, 10, 20, 40)),
    full=ablation(_variations(1024, 2048, 4096, 8192, 16384)),
    columns=(
        Column("classes", classes_used()),
        Column("EH", last("sharpness")),
        Column("probability", _mean_probability),
        Column("agreement", last("class_agreement")),
        Column("AMI between seeds", same_classes, of_pairs=True),
        Column("silhouette", score("cluster", "silhouette")),
        Column("NMI", score("cluster", "nmi")),
        Column("ACC", score("cluster", "acc")),
        Column("k-NN", score("knn", "top1")),
    ),
    checks=(rising("classes"),),
    published=({"table": "TWIST slide text"},),
    axis="classes",
    log_axis=True,
)
