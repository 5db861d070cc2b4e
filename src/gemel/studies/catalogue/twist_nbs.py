"""What does the batch norm before TWIST's softmax do (its Table 7 and Figure 3)?"""

from gemel.studies.base import Column, Curve, Scale, Study, Variation, last, score
from gemel.studies.checks import order, times
from gemel.studies.twist_scales import ablation

_VARIATIONS = [Variation("with-NBS", {"method.norm": True}), Variation("without-NBS", {"method.norm": False})]

STUDY = Study(
    question="What does the batch norm before the softmax do?",
    small=Scale(
        {"method": "twist", "images": "digits", "method.heads": 1, "method.alpha": 1.0, "epochs": 12, "threads": 1},
        _VARIATIONS,
    ),
    full=ablation(_VARIATIONS),
    columns=(
        Column("loss", last("loss")),
        Column("k-NN", score("knn", "top1")),
        Column("NMI", score("cluster", "nmi")),
        Column("std_c", last("std_columns_before")),
        Column("std_r", last("std_rows_before")),
    ),
    curves=(Curve("std_c", "std_columns_before"), Curve("std_r", "std_rows_before")),
    checks=(
        order("NMI", "with-NBS", "without-NBS"),
        order("loss", "without-NBS", "with-NBS"),
        times("std_c", "with-NBS", 3.0, "without-NBS"),
    ),
    published=({"table": "TWIST Table 7 NBS ablation"},),
)
