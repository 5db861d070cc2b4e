"""Kill a run again and again, at random moments, and resume it: does it end as the unbroken one?

python benchmarks/kills.py [--kills 20] [--epochs 40] [--seed 0] [--images digits]

For every method, with 0 and with 2 workers: an unbroken run on the images, then the same run in a process that gets
SIGKILL after a random time, is started again (`gemel.resume`), killed again, and so on until it has been killed often
enough and may end. Weights must be the same to the last bit, and metrics.csv but for the speed. Prints a table and
writes it to docs/studies/kills.md or --out.
"""

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import gemel
from gemel import methods
from gemel.runs.files import write_text
from gemel.runs.run import RUN_FILE, Run

TABLE = Path(__file__).parent.parent / "docs" / "studies" / "kills.md"

OPTIONS: dict[str, Any] = {
    "image_size": 16,
    "backbone": {"name": "convnet", "widths": [8, 16], "strides": [2, 2]},
    "threads": 1,
    "checkpoint_seconds": 0.3,
    "quiet": True,
}


class Outcome(NamedTuple):
    """What became of a run that was killed and resumed."""

    kills: int
    steps: list[str]
    """the last step that each kill left on the disk"""
    same_weights: bool
    same_metrics: bool
    leftovers: int
    """half-written files after the end"""


def begin(images: str, out: Path, method: dict[str, Any], epochs: int, workers: int) -> None:
    """A run from its start; in a process of its own."""
    gemel.pretrain(images, out=out, method=method, epochs=epochs, workers=workers, **OPTIONS)


def go_on(out: Path) -> None:
    """The run from where it stands."""
    gemel.resume(out, quiet=True)


def wait_or_kill(target: Any, given: tuple[Any, ...], seconds: float | None) -> bool:
    """Run a process to its end, or kill it, and the workers below it, after `seconds`; whether it was killed."""
    process = multiprocessing.get_context("fork").Process(target=_in_a_group, args=(target, given))
    process.start()
    process.join(seconds)
    killed = process.exitcode is None
    if killed and process.pid is not None:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
    elif process.exitcode:
        raise RuntimeError(f"the run left with {process.exitcode}")
    return killed


def _in_a_group(target: Any, given: tuple[Any, ...]) -> None:
    os.setpgid(0, 0)
    target(*given)


def kill_and_resume(
    folder: Path, images: str, method: dict[str, Any], *, epochs: int, kills: int, workers: int, seed: int
) -> Outcome:
    """The unbroken run (no workers), and the killed one beside it.

    Args:
        folder: for both runs.
        images: that both learn from.
        method: its settings.
        epochs: of each.
        kills: how often.
        workers: of the killed run.
        seed: of the moments.
    """
    whole, broken = folder / "whole", folder / f"broken-{workers}"
    start = time.monotonic()
    if not whole.is_dir():
        wait_or_kill(begin, (images, whole, method, epochs, 0), None)
        (folder / "seconds").write_text(str(time.monotonic() - start))
    seconds = float((folder / "seconds").read_text())
    chance, steps = random.Random(seed), list[str]()

    def live(moment: float | None) -> bool:
        if (broken / RUN_FILE).is_file():
            return wait_or_kill(go_on, (broken,), moment)
        return wait_or_kill(begin, (images, broken, method, epochs, workers), moment)

    # All lives together are shorter than the unbroken run: the kills come before the end.
    while len(steps) < kills and live(chance.uniform(0.0, 1.4 * seconds / kills)):
        rows = Run(broken).metrics().to_pydict() if (broken / RUN_FILE).is_file() else {}
        steps.append(str(rows["step"][-1]) if rows.get("step") else "-")
    live(None)
    tables = [Run(path).metrics().drop_columns(["images_per_second", "data_wait"]) for path in (whole, broken)]
    weights = [(path / "backbone.safetensors").read_bytes() for path in (whole, broken)]
    leftovers = len(list(broken.glob("**/.*.part")))
    return Outcome(len(steps), steps, weights[0] == weights[1], tables[0].equals(tables[1]), leftovers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", default="digits")
    parser.add_argument("--out", type=Path, default=TABLE, help="the table")
    parser.add_argument("--methods", nargs="+", default=methods.available())
    words = parser.parse_args()
    import gemel.api.pretrain
    import gemel.training.train  # once, before the forks: each start then takes a moment  # noqa: F401

    columns = ("method", "workers", "kills", "last step logged at each kill", "weights", "metrics.csv", "parts left")
    lines = [f"| {' | '.join(columns)} |", "|---|---|---|---|---|---|---|"]
    print("\n".join(lines), flush=True)
    good = True
    for name in words.methods:
        with tempfile.TemporaryDirectory() as folder:
            for workers in (0, 2):
                found = kill_and_resume(
                    Path(folder),
                    words.images,
                    {"name": name},
                    epochs=words.epochs,
                    kills=words.kills,
                    workers=workers,
                    seed=words.seed,
                )
                same = ["bit-identical" if one else "DIFFERENT" for one in (found.same_weights, found.same_metrics)]
                cells = (name, workers, found.kills, ", ".join(found.steps), *same, found.leftovers)
                lines.append(f"| {' | '.join(map(str, cells))} |")
                print(lines[-1], flush=True)
                # how many kills fit in before the end depends on how busy the machine is; the table tells
                good &= found.same_weights and found.same_metrics and found.kills > 0 and not found.leftovers
    command = f"python benchmarks/kills.py --images {words.images} --kills {words.kills} --epochs {words.epochs}"
    command += f" --seed {words.seed}"
    said = f"# Killed and resumed\n\n`{command}`; every method of the folder, on {words.images}.\n\n"
    write_text(words.out, said + "\n".join(lines) + "\n")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
