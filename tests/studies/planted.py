"""A study of seconds, for the tests."""

from pathlib import Path

from gemel.api.several_runs import begin_or_resume
from gemel.settings.tree import Layer
from gemel.studies.base import Column, Curve, Scale, Study, Variation, classes_used, last, score
from gemel.studies.checks import rising
from gemel.studies.outcome import Outcome
from gemel.studies.plan import StudyLaunch
from gemel.studies.runner import run_study

SHARED = {
    "images": "digits",
    "image_size": 8,
    "batch_size": 256,
    "workers": 0,
    "threads": 1,
    "method": "twist",
    "method.hidden": 16,
    "method.heads": 1,
    "backbone": {"name": "convnet", "widths": [8, 8], "strides": [2, 2], "pool": 1},
}
VARIATIONS = [Variation(f"short-{count}", {"epochs": count}, "short", count) for count in (1, 2)]
WILD = Variation("wild", {"epochs": 2, "optimizer": "sgd", "optimizer.lr": 1e30, "optimizer.momentum": 0})


def planted(*variations: Variation, evaluations: tuple[tuple[str, dict[str, int]], ...] = ()) -> Study:
    scale = Scale(SHARED, variations or VARIATIONS)
    return Study(
        question="Does it run?",
        small=scale,
        full=scale,
        columns=(
            Column("k-NN", score("knn", "top1", k=20)),
            Column("3-NN", score("knn", "top1", k=3)),
            Column("sharpness", last("sharpness")),
            Column("classes", classes_used()),
        ),
        curves=(Curve("EH", "sharpness"),),
        checks=(rising("k-NN", "short"),),
        published=({"table": "TWIST Table 7 NBS ablation"},),
        evaluations=evaluations,
        axis="epochs",
        log_axis=True,
        seeds=2,
    )


def run(study: Study, out: Path, *, said: list[str] | None = None, **settings: object) -> Outcome:
    words: list[str] = [] if said is None else said
    return run_study(
        "planted", study, StudyLaunch(out=str(out)), Layer(dict(settings), "call"), words.append, begin_or_resume
    )


def run_all(out: Path) -> None:
    """To its end."""
    run(planted(), out)
