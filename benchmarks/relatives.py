"""The methods by joint embedding beside lightly's, on digits and on 4,000 of MNIST's digits: k-NN and linear accuracy.

    python benchmarks/relatives.py [--data digits mnist] [--methods simclr ...] [--seeds 0 1 2] [--minutes 60]

Both sides of a pair have the same views, network (two convolutions and the mean over all positions), batch of 128,
optimiser, epochs and evaluation, which are gemel's; heads, loss and averages are each library's own
(`lightly_methods.py`). Widths and temperatures are those of gemel's recipe `small`. k-NN: k 20, leave-one-out among the
images that were learned from. linear: `linear-cached`, on a fifth of the digits that it was not fitted to, and on 1,000
digits of MNIST that nothing saw. `random`: the untrained network; `supervised`: `finetune --network random`.

Runs and scores that stand in the folder are not made again, so that a long table can be made in pieces of `--minutes`.
CMC is left out: it tells images by their colours, and grey ones have none.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mnist import write_images

import gemel
from gemel import methods
from gemel.metrics.health import health
from gemel.metrics.spread import spread_of
from gemel.reports.tables import Table, markdown
from gemel.runs.run import RUN_FILE, Run, read_json, write_text

TABLE = Path(__file__).parent.parent / "docs" / "studies" / "relatives.md"
THEIRS = Path(__file__).with_name("lightly_methods.py")

PAIRS = ("barlow_twins", "simclr", "moco_v2", "byol", "simsiam", "vicreg", "w_mse", "swav", "dino", "densecl")
"""methods that both have"""
ALONE = ("moco_v3", "twist")
BASELINES = ("random", "supervised")

NETWORK: dict[str, Any] = {"name": "convnet", "widths": (16, 32), "strides": (2, 2), "pool": 1}
SIZES: dict[str, dict[str, Any]] = {"digits": {"image_size": 8, "epochs": 12}, "mnist": {"image_size": 16, "epochs": 5}}
COMMON: dict[str, Any] = {
    "backbone": NETWORK, "views": "glyph", "batch_size": 128, "threads": 1, "workers": 0, "quiet": True,
}  # fmt: skip
COLLAPSES = ("same_embeddings", "embeddings_on_a_line", "one_class", "loss_not_finite", "diverged")


def images_of(data: str, folder: Path) -> dict[str, Any]:
    if data == "digits":
        return {"images": "digits"}
    if not (folder / "mnist").is_dir():
        write_images(folder / "mnist")
    return {"images": folder / "mnist" / "train", "labels": "folders"}


def tested_on(data: str, folder: Path) -> dict[str, Any]:
    return {} if data == "digits" else {"test": folder / "mnist" / "test", "labels": "folders"}


def trained(out: Path, data: str, library: str, name: str, seed: int, folder: Path) -> Run:
    """The run of a cell, made or finished where it is not there."""
    if (out / RUN_FILE).is_file():
        return gemel.resume(out, quiet=True)
    recipe = methods.find(name).recipes["small"]
    own: dict[str, Any] = {"method": {"name": name, **recipe.method}}
    if name == "twist":
        own["classes"] = 10
    theirs = {"method": {"name": str(THEIRS), "kind": name}}
    settings = COMMON | SIZES[data] | images_of(data, folder) | (own if library == "gemel" else theirs)
    return gemel.pretrain(**settings, optimizer=recipe.optimizer.model_dump(), seed=seed, out=out)


def scores(run: Run, tested: Mapping[str, Any], **network: Any) -> dict[str, float]:
    """k-NN and linear accuracy of the run's network, or of another one in its place."""
    near = gemel.evaluate(run, "knn", **network) if network else None
    [top1] = [near.metrics["top1"]] if near else [
        one["metrics"]["top1"] for one in run.evaluations() if one["protocol"] == "knn"
    ]  # fmt: skip
    return {"k-NN": top1, "linear": gemel.evaluate(run, "linear-cached", **tested, **network).metrics["top1"]}


def cell(data: str, library: str, name: str, seed: int, folder: Path) -> dict[str, Any]:
    tested = tested_on(data, folder)
    if library == "baseline":
        run = trained(folder / f"{data}-gemel-simclr-{seed}", data, "gemel", "simclr", seed, folder)
        random = {"network": "random", "network_seed": seed}
        if name == "random":
            return scores(run, tested, **random)
        fitted = gemel.evaluate(run, "finetune", epochs=SIZES[data]["epochs"], batch_size=128, **tested, **random)
        return {"linear": fitted.metrics["top1"]}
    run = trained(folder / f"{data}-{library}-{name}-{seed}", data, library, name, seed, folder)
    found = [one.kind for one in health(run.metrics().to_pydict()) if one.kind in COLLAPSES]
    return scores(run, tested) | {"collapsed": bool(found)}


def rows_of(wanted: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Library and name of every row, both sides of a pair together."""
    for name in (*PAIRS, *ALONE, *BASELINES):
        if name in wanted:
            yield "baseline" if name in BASELINES else "gemel", name
            if name in PAIRS:
                yield "lightly", name


def shown(values: Sequence[float]) -> str:
    """Mean ± standard error, in percent."""
    if not values:
        return "-"
    mean, error, _ = spread_of(values)
    return f"{100 * mean:.1f}" + ("" if error is None else f" ± {100 * error:.1f}")


def compared(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Ours minus lightly's in points; in bold where it is below by more than two standard errors of the difference."""
    if not ours or not theirs:
        return ""
    difference = statistics.fmean(ours) - statistics.fmean(theirs)
    errors = [spread_of(values).error or 0.0 for values in (ours, theirs)]
    told = f"{100 * difference:+.1f}"
    return f"**{told}**" if difference < -2 * sum(error**2 for error in errors) ** 0.5 else told


def table(done: Mapping[str, dict[str, Any]], data: str, seeds: Sequence[int]) -> Table:
    def values(library: str, name: str, score: str) -> list[float]:
        cells = (done.get(f"{data} {library} {name} {seed}", {}) for seed in seeds)
        return [one[score] for one in cells if score in one]

    lines: list[tuple[str, ...]] = []
    for name in (*PAIRS, *ALONE, *BASELINES):
        own = "baseline" if name in BASELINES else "gemel"
        cells: list[str] = []
        for score in ("k-NN", "linear"):
            ours, theirs = values(own, name, score), values("lightly", name, score)
            cells += [shown(ours), shown(theirs), compared(ours, theirs)]
        collapsed = [sum(values(library, name, "collapsed")) for library in ("gemel", "lightly")]
        lines.append((name, *cells, "" if own == "baseline" else " / ".join(f"{int(one)}" for one in collapsed)))
    heads = [f"{score} {what}" for score in ("k-NN", "linear") for what in ("gemel", "lightly", "difference")]
    return Table(data, ("", *heads, "collapsed runs, gemel / lightly"), tuple(lines))


def page(done: Mapping[str, dict[str, Any]], seeds: Sequence[int]) -> str:
    text = ["# Relatives beside lightly 1.6", "", (__doc__ or "").strip(), ""]
    text += ["Percent, mean ± standard error over seeds; a difference in bold is below 0 by more than two of its own "]
    text[-1] += "standard errors."
    for data, size in SIZES.items():
        about = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in size.items())
        text += ["", f"## {data}: {about}", "", markdown(table(done, data, seeds))]
    return "\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/relatives"))
    parser.add_argument("--data", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--methods", nargs="+", default=[*PAIRS, *ALONE, *BASELINES])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no cell is begun after so many")
    parser.add_argument("--out", type=Path, default=TABLE)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    kept, begun = given.folder / "cells.json", time.monotonic()
    done: dict[str, dict[str, Any]] = read_json(kept) if kept.is_file() else {}
    for seed in given.seeds:
        for data in given.data:
            for library, name in rows_of(given.methods):
                key = f"{data} {library} {name} {seed}"
                if key in done or time.monotonic() - begun > 60 * given.minutes:
                    continue
                done[key] = cell(data, library, name, seed, given.folder)
                write_text(kept, json.dumps(done, indent=1))
                print(f"{time.monotonic() - begun:.0f} s  {key}: {done[key]}", flush=True)
    write_text(given.out, page(done, given.seeds))


if __name__ == "__main__":
    main()
