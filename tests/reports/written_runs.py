"""Folders of runs as far as a comparison reads them."""

import json
from pathlib import Path
from typing import Any

import yaml

from gemel.reports.compare import Comparison
from gemel.runs.run import Run


def write_run(folder: Path, top1: float | None, *, k: int = 20, split: str = "test set x", **settings: Any) -> Run:
    """A run's folder in its real layout, as far as a comparison reads it."""
    values = {
        "images": "cifar10",
        "method": {"name": "barlow_twins"},
        "backbone": {"name": "resnet18"},
        "epochs": 800,
        "seed": 0,
        "threads": 1,
    }
    (folder / "evaluations").mkdir(parents=True)
    (folder / "run.yaml").write_text(yaml.safe_dump(values | settings))
    if top1 is not None:
        result = {
            "protocol": "knn",
            "metrics": {"top1": top1},
            "settings": {"k": k, "split": split, "data": str((values | settings)["images"])},
        }
        (folder / "evaluations" / f"knn-{k}.json").write_text(json.dumps(result))
    return Run(folder)


def kinds(comparison: Comparison, place: int) -> list[str]:
    return [mark.kind for mark in comparison.marks(comparison.groups[place])]
