"""How many kinds `--classes auto` finds in sets of vectors whose number is known: one row a set.

    python benchmarks/kinds.py [--seeds 0 1 2] [--subsets 0] [--out docs/studies/kinds.md]

An interval holds where the true number lies in it; its width is a share of the number that is found. With `--subsets`
so many draws of some of a set's kinds, from two up, are counted too: sets for which nothing was chosen.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from vector_sets import FOLDER, SETS, load

from gemel.backbones.vectors import fitted, vectors
from gemel.reports.tables import Table, markdown
from gemel.training.kinds import count_kinds


def seen(rows: torch.Tensor) -> torch.Tensor:
    return fitted(vectors(width=rows.shape[1]), rows)


def row(name: str, given: NDArray[np.float32], labels: NDArray[np.int64], seed: int) -> tuple[str, ...]:
    true, begun = len(np.unique(labels)), time.perf_counter()
    found = count_kinds(seen(torch.from_numpy(given)), most=len(given) // 5, seed=seed)
    seconds = f"{time.perf_counter() - begun:.0f}"
    holds = "yes" if found.low <= true <= found.high else "no"
    wide = f"{100 * (found.high - found.low) / found.number:.0f} %"
    interval = f"{found.low} to {found.high}"
    return name, str(len(given)), str(seed), str(true), str(found.number), interval, holds, wide, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--subsets", type=int, default=0)
    parser.add_argument("--draw", type=int, default=0, help="seed of the subsets")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows: list[tuple[str, ...]] = []

    def add(*found: str) -> None:
        rows.append(found)
        print(*found, flush=True)

    random = np.random.default_rng(options.draw)
    for name in SETS:
        given, labels = load(name, options.folder)
        for seed in options.seeds:
            add(*row(name, given, labels, seed))
    for name in SETS if options.subsets else ():
        given, labels = load(name, options.folder)
        kinds = np.unique(labels)
        for count in sorted(
            random.choice(np.arange(2, len(kinds)), min(options.subsets, len(kinds) - 2), replace=False).tolist()
        ):
            kept = np.isin(labels, random.choice(kinds, count, replace=False))
            add(*row(f"{name}, some", given[kept], labels[kept], options.seeds[0]))
    if options.out is not None:
        heads = ("vectors", "images", "seed", "kinds", "found", "interval", "holds", "width", "seconds")
        options.out.write_text(markdown(Table("", heads, tuple(rows))) + "\n")


if __name__ == "__main__":
    main()
