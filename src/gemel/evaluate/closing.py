"""The closing pass over a run's images: classes, rejected files, scores, pictures for the report."""

from typing import Any

import pyarrow as pa

from gemel.data.listing import printable
from gemel.data.sources import Source
from gemel.evaluate.base import Evaluation, Result
from gemel.evaluate.cluster import Cluster
from gemel.evaluate.features import Progress, Seen, see
from gemel.evaluate.gallery import gallery
from gemel.evaluate.knn import Knn
from gemel.runs import Run
from gemel.train.checkpoints import load_method


def close(run: Run, source: Source, progress: Progress | None = None) -> Seen:
    """Open every image of the run once, and write what follows from it; an interrupted pass is simply done again."""
    seen = see(load_method(run), run.backbone_facts, source, in_memory=run.settings["workers"] == 0, progress=progress)
    rejected = {row["path"]: row["reason"] for row in run.rejected().to_pylist()}
    rejected |= {printable(source.path(place)): reason for place, reason in seen.rejected.items()}
    run.write_rejected(rejected)
    if seen.probabilities is not None:
        run.write_classes(class_table(seen, top=1))
    known = 0 if seen.labels is None else int((seen.labels >= 0).sum())
    if known >= 2:
        for evaluation in (Knn(k=min(20, known - 1)), Cluster()):
            judge(run, evaluation, seen, None)
    run.write_json("evaluations/gallery.json", gallery(seen))
    return seen


def judge(run: Run, evaluation: Evaluation, train: Seen, test: Seen | None) -> Result:
    """Run a protocol and keep its result with everything that it depends on."""
    metrics, defaults = evaluation.run(train, test)
    facts = run.backbone_facts
    crop = "the whole image" if facts["views"] == "glyph" else "middle 224 / 256 of the shorter side, bicubic"
    settings: dict[str, Any] = {
        **defaults,
        "data": train.source.name,
        "label_names": len(train.source.label_names),
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


def class_table(seen: Seen, *, top: int) -> pa.Table:
    """path, class, probability, then class_2, probability_2 ... of the next likely ones, and label where known."""
    assert seen.probabilities is not None
    probability, found = seen.probabilities.topk(min(top, seen.probabilities.shape[1]), dim=1)
    columns: dict[str, Any] = {"path": [printable(seen.source.path(place)) for place in seen.index.tolist()]}
    for rank in range(found.shape[1]):
        suffix = "" if rank == 0 else f"_{rank + 1}"
        columns[f"class{suffix}"] = found[:, rank].numpy()
        columns[f"probability{suffix}"] = probability[:, rank].numpy()
    labels = seen.labels
    if labels is not None:
        names = seen.source.label_names
        columns["label"] = pa.array([names[label] if label >= 0 else None for label in labels.tolist()], pa.string())
    return pa.table(columns)
