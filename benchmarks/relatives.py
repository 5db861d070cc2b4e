"""The methods by joint embedding beside lightly's, on digits and on 4,000 of MNIST's digits: k-NN and linear accuracy.

    python benchmarks/relatives.py [--data digits mnist] [--methods simclr ...] [--seeds 0 1 2] [--minutes 60]

Both sides of a pair have the same views, network (two convolutions and the mean over all positions), batch of 128,
optimiser, epochs and evaluation, which are gemel's; heads, loss and averages are each library's own
(`lightly_methods.py`). Widths, temperatures and the optimiser are those of gemel's recipe `small`. k-NN: k 20,
leave-one-out among the images that were learned from. linear: `linear-cached`, on a fifth of the digits that it was not
fitted to, and on 1,000 digits of MNIST that nothing saw. `random`: the untrained network; `supervised`: `finetune` of
that network with all labels, as many epochs.

What stands in the file of the cells is not made again, so that a long table can be made in pieces of `--minutes`. CMC
is left out: it tells images by their colours, and grey ones have none.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mnist import write_images

from gemel import backbones, evaluations, methods
from gemel.data.batches import Loader
from gemel.data.plan import Batch, Plan
from gemel.data.sources import Source, open_source
from gemel.engine.devices import Devices
from gemel.engine.loop import Loop
from gemel.evaluations.base import Subject
from gemel.evaluations.networks import fresh_backbone
from gemel.evaluations.run_protocol import measure
from gemel.metrics.spread import spread_of
from gemel.reports.tables import Table, markdown
from gemel.runs.files import read_json, write_text
from gemel.settings.recipes import GlyphViews
from gemel.training.stages import Stage
from gemel.training.task import Pretraining

TABLE = Path(__file__).parent.parent / "docs" / "studies" / "relatives.md"

PAIRS = ("barlow_twins", "simclr", "moco_v2", "byol", "simsiam", "vicreg", "w_mse", "swav", "dino", "densecl")
"""methods that both have"""
ALONE = ("moco_v3", "twist")
BASELINES = ("random", "supervised")

NETWORK: dict[str, Any] = {"widths": (16, 32), "strides": (2, 2), "pool": 1}
SIZES = {"digits": (8, 10), "mnist": (14, 4)}
"""side of the images, epochs"""
BATCH = 128


def sources_of(data: str, folder: Path) -> tuple[Source, Source | None]:
    """Images to learn from, and others for the linear layer's test."""
    if data == "digits":
        return open_source("digits"), None
    if not (folder / "mnist").is_dir():
        write_images(folder / "mnist")
    train, test = (open_source(folder / "mnist" / part, labels="folders") for part in ("train", "test"))
    return train, test


@cache
def batches_of(data: str, seed: int, folder: Path) -> list[Batch]:
    """The views of all steps, which all rows of a seed see; drawn once and kept in a file."""
    (size, epochs), file = SIZES[data], folder / f"views-{data}-{seed}.pt"
    if not file.is_file():
        plan = Plan(sources_of(data, folder)[0], GlyphViews(), size, seed, BATCH)
        found = [batch for batch in Loader(plan, range(epochs * plan.steps_per_epoch)) if isinstance(batch, Batch)]
        torch.save([(torch.stack(batch.views), batch.index) for batch in found], file)
    saved: list[tuple[torch.Tensor, torch.Tensor]] = torch.load(file, weights_only=True)
    return [Batch(list(views), index, torch.full((len(index),), -1)) for views, index in saved]


def learned(data: str, library: str, name: str, seed: int, folder: Path) -> torch.nn.Module:
    """The backbone that a method keeps."""
    (size, epochs), source = SIZES[data], sources_of(data, folder)[0]
    recipe, views = methods.find(name).recipes["small"], GlyphViews()
    torch.manual_seed(seed)
    backbone = backbones.find("convnet")(**NETWORK)
    if library == "gemel":
        options = dict(recipe.method) | ({"classes": 10} if name == "twist" else {})
        method = methods.find(name)(backbone, **options)
    else:
        from lightly_methods import Lightly

        method = Lightly(backbone, kind=name)  # pyright: ignore[reportArgumentType]
    method.attach(len(source))
    plan = Plan(source, views, size, seed, BATCH)
    task = Pretraining(method, Stage(0, "pretrain", views, recipe.optimizer, epochs, 0), plan)
    task.begin()
    loop = Loop(task, Devices(), save=lambda state: None, seconds=float("inf"), name=f"{library}'s {name}")
    for batch in batches_of(data, seed, folder):
        loop.step(iter([batch]))
    return method.encoder().eval()


def scores(data: str, library: str, name: str, seed: int, folder: Path) -> dict[str, float]:
    """What stands in a cell of the table."""
    source, test = sources_of(data, folder)
    trained = library != "baseline"
    network = learned(data, library, name, seed, folder) if trained else fresh_backbone("convnet", NETWORK, seed)
    size, epochs = SIZES[data]
    views = GlyphViews()
    facts = {
        "name": "convnet", "options": NETWORK, "width": NETWORK["widths"][-1], "size": size, "views": "glyph",
        "mean": list(views.mean), "std": list(views.std), "white": None, "black": None, "background": None,
    }  # fmt: skip
    asked: dict[str, tuple[str, dict[str, Any], Source | None]] = {
        "k-NN": ("knn", {}, None),
        "linear": ("linear-cached", {}, test),
    }
    if name == "supervised":
        asked = {"linear": ("finetune", {"epochs": epochs, "batch_size": BATCH, "seed": seed}, test)}
    with TemporaryDirectory() as own:
        subject = Subject(network, facts, name, Path(own), is_random=not trained)
        return {
            column: measure(subject, evaluations.make(protocol, options), source, tested, labels="").metrics["top1"]
            for column, (protocol, options, tested) in asked.items()
        }


def rows_of(wanted: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Library and name of every row, both sides of a pair together."""
    for name in wanted:
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


def table(done: Mapping[str, dict[str, float]], data: str, seeds: Sequence[int]) -> Table:
    def values(library: str, name: str, score: str) -> list[float]:
        cells = (done.get(f"{data} {library} {name} {seed}", {}) for seed in seeds)
        return [one[score] for one in cells if score in one]

    lines: list[tuple[str, ...]] = []
    for name in (*PAIRS, *ALONE, *BASELINES):
        cells: list[str] = []
        for score in ("k-NN", "linear"):
            ours = values("baseline" if name in BASELINES else "gemel", name, score)
            theirs = values("lightly", name, score)
            cells += [shown(ours), shown(theirs), compared(ours, theirs)]
        lines.append((name, *cells))
    heads = [f"{score}, {what}" for score in ("k-NN", "linear") for what in ("gemel", "lightly", "difference")]
    return Table(data, ("", *heads), tuple(lines))


def page(done: Mapping[str, dict[str, float]], seeds: Sequence[int]) -> str:
    said = (
        f"Percent, mean ± standard error over seeds {', '.join(map(str, seeds))}; a difference is in bold where it is "
    )
    said += "below 0 by more than two of its own standard errors."
    text = ["# The relatives beside lightly 1.6", "", (__doc__ or "").strip(), "", said]
    for data, (size, epochs) in SIZES.items():
        text += ["", f"## {data}: {size} x {size} pixels, {epochs} epochs", "", markdown(table(done, data, seeds))]
    return "\n".join(text) + "\n"


def main() -> None:
    names = (*PAIRS, *ALONE, *BASELINES)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/relatives"), help="of the cells and of MNIST")
    parser.add_argument("--data", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--methods", nargs="+", default=list(names), choices=names)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no cell is begun after so many")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=TABLE)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.folder.mkdir(parents=True, exist_ok=True)
    kept, begun = given.folder / "cells.json", time.monotonic()
    done: dict[str, dict[str, float]] = read_json(kept) if kept.is_file() else {}
    cells = [(seed, data, row) for seed in given.seeds for data in given.data for row in rows_of(given.methods)]
    for seed, data, (library, name) in cells:
        key = f"{data} {library} {name} {seed}"
        if key in done or time.monotonic() - begun > 60 * given.minutes:
            continue
        done[key] = scores(data, library, name, seed, given.folder)
        write_text(kept, json.dumps(done, indent=1))
        print(f"{time.monotonic() - begun:.0f} s  {key}: {done[key]}", flush=True)
    write_text(given.out, page(done, given.seeds))


if __name__ == "__main__":
    main()
