"""The closing pass over a run's images: classes, rejected files, scores, pictures for the report."""

from typing import Any

from gemel.data.listing import printable
from gemel.data.sources import Source
from gemel.evaluations.base import Evaluation, Result
from gemel.evaluations.cluster import Cluster
from gemel.evaluations.features import Progress, Seen, see
from gemel.evaluations.gallery import gallery
from gemel.evaluations.knn import Knn
from gemel.evaluations.tables import class_table
from gemel.runs import Run
from gemel.train.checkpoints import load_method


def close(run: Run, source: Source, progress: Progress | None = None) -> Seen:
    """Open every image of the run once, and write what follows from it; an interrupted pass is simply done again."""
    seen = see(load_method(run), run.backbone_facts, source, progress=progress)
    run.write_rejected({printable(source.path(place)): reason for place, reason in seen.rejected.items()})
    if seen.probabilities is not None:
        run.write_classes(class_table(seen, top=1))
    known = 0 if seen.labels is None else int((seen.labels >= 0).sum())
    if known >= 2:
        for evaluation in (Knn(k=min(20, known - 1)), Cluster()):
            judge(run, evaluation, seen, None, labels=run.settings["labels"])
    run.write_json("evaluations/gallery.json", gallery(seen))
    return seen


def judge(run: Run, evaluation: Evaluation, train: Seen, test: Seen | None, *, labels: str) -> Result:
    """Run a protocol and keep its result with everything that it depends on."""
    metrics, defaults = evaluation.run(train, test)
    facts = run.backbone_facts
    crop = "the whole image" if facts["views"] == "glyph" else "middle 224 / 256 of the shorter side, bicubic"
    settings: dict[str, Any] = {
        **defaults,
        "data": train.source.name,
        "labels": labels,
        "image_size": facts["size"],
        "crop": crop,
        "mean": facts["mean"],
        "std": facts["std"],
        "network": f"{facts['name']}, features of width {facts['width']}",
        "rejected": len(train.rejected) + (len(test.rejected) if test is not None else 0),
    }
    result = Result(type(evaluation).__module__.rsplit(".", 1)[-1], metrics, settings)
    run.write_evaluation(result.file_name, result.as_json())
    return result
