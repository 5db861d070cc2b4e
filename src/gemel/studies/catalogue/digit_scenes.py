"""Is a backbone that has learned without labels a better start for boxes, masks and label maps than fresh weights?"""

from collections.abc import Sequence

from gemel.runs.run import Run
from gemel.studies.base import OWN_SEED, Column, Scale, Study, Variation, score, score_of
from gemel.studies.checks import above

_DETECTION = {
    "data": "digit-scenes",
    "steps": 300,
    "channels": 32,
    "convs": 1,
    "width": 128,
    "rois": 32,
    "sizes": (96,),
    "test_size": 96,
    "masks": False,
    "seed": OWN_SEED,
}
_SEGMENTATION = {"data": "digit-scenes", "steps": 500, "lr": 0.1, "seed": OWN_SEED}
_FRESH = {"network": "random", "network_seed": OWN_SEED}


def _fresh(run: Run) -> str:
    return f"random-{run.settings['seed']}"


def _columns() -> Sequence[Column]:
    found: list[Column] = []
    for protocol, metric, name in (("detection", "ap50", "AP50"), ("segmentation", "miou", "mIoU")):
        found += [
            Column(name, score(protocol, metric)),
            Column(f"{name}, fresh weights", score_of(_fresh, protocol, metric)),
        ]
    return found


STUDY = Study(
    question="Is a backbone that has learned digits without labels a better start to find digits than fresh weights?",
    small=Scale(
        {"images": "digits", "backbone": {"name": "narrow_resnet", "pool": 2}, "image_size": 24, "threads": 2},
        [Variation("twist", {"method": "twist", "epochs": 24})],
    ),
    full=Scale(
        {"images": "digits", "backbone": "resnet50", "image_size": 32},
        [Variation(method, {"method": method, "epochs": 100}) for method in ("twist", "barlow_twins")],
    ),
    columns=_columns(),
    checks=(above("AP50", "AP50, fresh weights"), above("mIoU", "mIoU, fresh weights")),
    evaluations=(
        ("detection", _DETECTION),
        ("segmentation", _SEGMENTATION),
        ("detection", _DETECTION | _FRESH),
        ("segmentation", _SEGMENTATION | _FRESH),
    ),
)
