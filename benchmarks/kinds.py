"""How many kinds `--classes auto` finds in sets of vectors whose number is known: one row a set.

    python benchmarks/kinds.py [--seeds 0 1 2] [--out docs/studies/kinds.md]

An interval holds where the true number lies in it; its width is a share of the number that is found.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from vector_sets import FOLDER, SETS, load

from gemel.backbones.vectors import fitted, vectors
from gemel.reports.tables import Table, markdown
from gemel.training.kinds import count_kinds


def seen(rows: torch.Tensor) -> torch.Tensor:
    return fitted(vectors(width=rows.shape[1]), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    for name in SETS:
        given, labels = load(name, options.folder)
        true = len(np.unique(labels))
        for seed in options.seeds:
            begun = time.perf_counter()
            found = count_kinds(seen(torch.from_numpy(given)), most=len(given) // 5, seed=seed)
            holds = "yes" if found.low <= true <= found.high else "no"
            wide = f"{100 * (found.high - found.low) / found.number:.0f} %"
            interval = f"{found.low} to {found.high}"
            seconds = f"{time.perf_counter() - begun:.0f}"
            rows.append((name, str(seed), str(true), str(found.number), interval, holds, wide, seconds))
            print(*rows[-1], flush=True)
    if options.out is not None:
        heads = ("vectors", "seed", "kinds", "found", "interval", "holds", "width", "seconds")
        options.out.write_text(markdown(Table("", heads, tuple(rows))) + "\n")


if __name__ == "__main__":
    main()
