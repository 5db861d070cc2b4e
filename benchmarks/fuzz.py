"""Damaged image files and random settings: nothing may end in a traceback, a dead worker or a half-written file.

    python benchmarks/fuzz.py [--files 2000] [--settings 500] [--seed 0] [--out docs/studies/fuzz.md]

Prints a table, writes it to --out if that is given, and leaves with 1 if anything was found.
"""

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

import fuzz_files
import fuzz_settings
import torch

import gemel


def page(files: int, settings: int, seed: int, found: fuzz_files.Findings) -> str:
    """Both campaigns, and what they found."""
    with tempfile.TemporaryDirectory(prefix="gemel-fuzz-") as folder:
        os.environ["XDG_CACHE_HOME"] = str(Path(folder) / "cache")
        damages = fuzz_files.campaign(Path(folder), files, seed, found)
        codes = fuzz_settings.campaign(Path(folder), settings, seed, found)
    lines = [
        "# Damaged files and random settings",
        "",
        f"`make fuzz FILES={files} SETTINGS={settings} SEED={seed}` with gemel {gemel.__version__}, torch "
        f"{torch.__version__.split('+')[0]}, Python {sys.version.split()[0]}, on CPUs.",
        "",
        "| damage | images | rejected with a reason |",
        "|---|--:|--:|",
        *(f"| {kind} | {good} | {bad} |" for kind, good, bad in damages),
        f"| all | {sum(row[1] for row in damages)} | {sum(row[2] for row in damages)} |",
        "",
        "| settings by | accepted (0) | refused (2) |",
        "|---|--:|--:|",
        *(f"| {door} | {count[0]} | {count[2]} |" for door, count in codes.items()),
        "",
        "| check | |",
        "|---|--:|",
        *(f"| {what} | {value} |" for what, value in found.rows),
        f"| faults | {len(found.faults)} |",
    ]
    kinds = Counter(fault.split(":")[0] for fault in found.faults)
    return "\n".join([*lines, *(f"| {kind} | {count} |" for kind, count in kinds.most_common(20))]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--settings", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = fuzz_files.Findings()
    text = page(asked.files, asked.settings, asked.seed, found)
    print(text)
    for fault in found.faults:
        print(f"fault: {fault}", file=sys.stderr)
    if asked.out is not None:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(text, encoding="utf-8")
    sys.exit(1 if found.faults else 0)


if __name__ == "__main__":
    main()
