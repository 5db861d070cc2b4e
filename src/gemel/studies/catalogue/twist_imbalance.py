"""What does TWIST find in long-tailed data, and what does the weight of its diversity do about it?"""

from collections import Counter

from gemel.runs.run import Run
from gemel.studies.base import Column, Scale, Study, Variation, classes_used, score


def _recall(run: Run) -> float | None:
    """Mean over labels of the share of their images in classes where that label is the most frequent."""
    table = run.classes()
    if table is None or "label" not in table.column_names:
        return None
    pairs = Counter(zip(table.column("class").to_pylist(), table.column("label").to_pylist(), strict=True))
    names = {one: max((n, label) for (other, label), n in pairs.items() if other == one)[1] for one, _ in pairs}
    right, all_of = Counter[str](), Counter[str]()
    for (one, label), count in pairs.items():
        all_of[label] += count
        right[label] += count if names[one] == label else 0
    return sum(right[label] / all_of[label] for label in all_of) / len(all_of)


_WEIGHTS = [Variation(f"beta-{beta}", {"method.beta": beta}, x=beta) for beta in (0.25, 0.5, 1.0, 2.0)]

STUDY = Study(
    question="Which classes are found where some kinds are rare, at which weight of the diversity?",
    small=Scale({"method": "twist", "images": "digits:tail10", "epochs": 24, "threads": 1}, _WEIGHTS),
    full=Scale(
        {
            "method": "twist",
            "images": "cifar10:tail100",
            "epochs": 400,
            "image_size": 32,
            "backbone": {"name": "resnet18", "stem": "small"},
        },
        _WEIGHTS,
    ),
    columns=(
        Column("ACC", score("cluster", "acc")),
        Column("NMI", score("cluster", "nmi")),
        Column("recall", _recall),
        Column("classes", classes_used()),
        Column("k-NN", score("knn", "top1")),
    ),
    axis="β",
    log_axis=True,
)
