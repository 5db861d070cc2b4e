"""Kill a run again and again, at random moments, and resume it: does it end as the unbroken one?

python benchmarks/kills.py [--kills 20] [--epochs 40] [--seed 0] [--images digits]
       [--processes 1 2 3 [--double] [--shares 6]]

For every method, with 0 and with 2 workers: an unbroken run on the images, then the same run in a process that gets
SIGKILL after a random time, is started again (`gemel.resume`), killed again, and so on until it has been killed often
enough and may end. Weights must be the same to the last bit, and metrics.csv but for the speed. Prints a table and
writes it to docs/studies/kills.md or --out. With `--processes` the lives of a run have these numbers of processes in
turn, and its weights are set beside those of unbroken runs on each number: sums in another order round otherwise. With
`--double` all runs are in float64, which no setting offers; with `--shares` a batch is in shares, and all are to have
the same bits.
"""

import argparse
import math
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file

import gemel
from gemel import methods
from gemel.engine import devices
from gemel.runs.files import write_text
from gemel.runs.run import RUN_FILE, Run

TABLE = Path(__file__).parent.parent / "docs" / "studies" / "kills.md"
TURNS = TABLE.with_name("kills-processes.md")
TURNS_IN_DOUBLE = TABLE.with_name("kills-double.md")
TURNS_IN_SHARES = TABLE.with_name("kills-shares.md")

START = 1.0
"""seconds that processes take to meet and to open a run, at least"""

BATCH = 128
"""images a step, or a few less, so that each number of processes can share them"""

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


def begin(images: str, out: Path, method: dict[str, Any], epochs: int, workers: int, batch: int | None = None) -> None:
    """A run from its start; in a process of its own."""
    gemel.pretrain(images, out=out, method=method, epochs=epochs, workers=workers, batch_size=batch, **OPTIONS)


def go_on(out: Path) -> None:
    """The run from where it stands."""
    gemel.resume(out, quiet=True)


def wait_or_kill(target: Any, given: tuple[Any, ...], seconds: float | None, processes: int = 1) -> bool:
    """Run a call on so many processes to its end, or kill them and the workers below them; whether they were."""
    with tempfile.TemporaryDirectory() as meeting:
        fork, given = multiprocessing.get_context("fork"), (target, given, processes, meeting)
        group = [fork.Process(target=_one_of, args=(rank, *given)) for rank in range(processes)]
        for one in group:
            one.start()
            assert one.pid is not None
            os.setpgid(one.pid, group[0].pid or 0)
        end = None if seconds is None else time.monotonic() + seconds
        for one in group:
            one.join(None if end is None else max(0.0, end - time.monotonic()))
        killed = any(one.exitcode is None for one in group)
        if killed and group[0].pid is not None:
            os.killpg(group[0].pid, signal.SIGKILL)
        for one in group:
            one.join()
    left = [one.exitcode for one in group if one.exitcode and not killed]
    if left:
        raise RuntimeError(f"the run left with {left}")
    return killed


def _one_of(rank: int, target: Any, given: tuple[Any, ...], processes: int, meeting: str) -> None:
    """Be one of the processes of a run, as a launcher would start it."""
    if processes > 1:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(processes)}
        os.environ |= {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(processes)}
        torch.distributed.init_process_group("gloo", f"file://{meeting}/meet", rank=rank, world_size=processes)
    target(*given)


def live(run: Path, given: tuple[Any, ...], seconds: float | None, processes: int = 1) -> bool:
    """Let a run begin, or go on from where it stands; whether it was killed."""
    if (run / RUN_FILE).is_file():
        return wait_or_kill(go_on, (run,), seconds, processes)
    return wait_or_kill(begin, given, seconds, processes)


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
    chance, steps, given = random.Random(seed), list[str](), (images, broken, method, epochs, workers)
    # All lives together are shorter than the unbroken run: the kills come before the end.
    while len(steps) < kills and live(broken, given, chance.uniform(0.0, 1.4 * seconds / kills)):
        rows = Run(broken).metrics().to_pydict() if (broken / RUN_FILE).is_file() else {}
        steps.append(str(rows["step"][-1]) if rows.get("step") else "-")
    live(broken, given, None)
    tables = [Run(path).metrics().drop_columns(["images_per_second", "data_wait"]) for path in (whole, broken)]
    weights = [(path / "backbone.safetensors").read_bytes() for path in (whole, broken)]
    leftovers = len(list(broken.glob("**/.*.part")))
    return Outcome(len(steps), steps, weights[0] == weights[1], tables[0].equals(tables[1]), leftovers)


def apart(one: Path, other: Path) -> float:
    """Return by how much the weights of two runs differ, relative to their norm; counts of batches aside."""
    first, second = (load_file(path / "backbone.safetensors") for path in (one, other))
    names = [name for name, value in first.items() if value.is_floating_point()]
    rows = torch.cat([first[name].double().flatten() for name in names])
    difference = rows - torch.cat([second[name].double().flatten() for name in names])
    return (difference.norm() / rows.norm()).item()


def told(one: Path, other: Path) -> str:
    """Return how far the weights of two runs are apart, in words for a table."""
    same = (one / "backbone.safetensors").read_bytes() == (other / "backbone.safetensors").read_bytes()
    return "the same bits" if same else f"{apart(one, other):.1e}"


def in_turn(folder: Path, name: str, words: argparse.Namespace) -> str:
    """Kill a run whose lives have other numbers of processes in turn; tell how far from unbroken ones it ends."""
    counts, seconds, chance, kills = words.processes, dict[int, float](), random.Random(words.seed), 0
    whole, broken = {count: folder / f"whole-{count}" for count in counts}, folder / "broken"
    more = {"name": name}, words.epochs, 0, BATCH - BATCH % math.lcm(*counts)
    for count in counts:
        begun = time.monotonic()
        live(whole[count], (words.images, whole[count], *more), None, count)
        seconds[count] = time.monotonic() - begun
    given = words.images, broken, *more
    while kills < words.kills:
        count = counts[kills % len(counts)]
        if not live(broken, given, START + chance.uniform(0.0, 1.7 * seconds[count] / words.kills), count):
            break
        kills += 1
    live(broken, given, None)
    first, *others = whole.values()
    own = ", ".join(told(first, other) for other in others)
    leftovers = len(list(broken.glob("**/.*.part")))
    return f"| {name} | {kills} | {told(first, broken)} | {own} | {leftovers} |"


def turns(words: argparse.Namespace) -> None:
    """Print and write a table of runs that go on by other numbers of processes."""
    counts = " ".join(map(str, words.processes))
    lines = [f"| method | kills | killed, {counts} in turn | unbroken, the others | parts left |", "|---" * 5 + "|"]
    print("\n".join(lines), flush=True)
    for name in words.methods:
        with tempfile.TemporaryDirectory() as folder:
            lines.append(in_turn(Path(folder), name, words))
            print(lines[-1], flush=True)
    command = f"{command_of(words)} --processes {counts} --methods {' '.join(words.methods)}"
    said = f"# Killed, and resumed by another number of processes\n\n`{command}`\n\nRelative difference of the weights "
    said += f"({'float64' if words.double else 'float32'}) to those of the unbroken run on {words.processes[0]}.\n\n"
    table = TURNS_IN_DOUBLE if words.double else TURNS_IN_SHARES if words.shares else TURNS
    write_text(words.out or table, said + "\n".join(lines) + "\n")


def command_of(words: argparse.Namespace) -> str:
    """Return the command that makes a table again."""
    command = f"python benchmarks/kills.py --images {words.images} --kills {words.kills} --epochs {words.epochs}"
    shares = "" if words.shares is None else f" --shares {words.shares}"
    return f"{command} --seed {words.seed}{' --double' if words.double else ''}{shares}"


def in_double() -> None:
    """Let the runs of this process and of its forks learn in float64."""
    torch.set_default_dtype(torch.float64)
    devices._PRECISIONS["32"] = "64-true"  # pyright: ignore[reportPrivateUsage]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", default="digits")
    parser.add_argument("--out", type=Path, help="the table")
    parser.add_argument("--methods", nargs="+", default=methods.available())
    parser.add_argument("--processes", type=int, nargs="+", help="of the lives, in turn; then workers are not varied")
    parser.add_argument("--double", action="store_true", help="runs in float64")
    parser.add_argument("--shares", type=int, help="of a batch: all numbers of processes are to have the same bits")
    words = parser.parse_args()
    if words.double:
        in_double()
    if words.shares:
        OPTIONS["shares"] = words.shares
    import gemel.api.pretrain
    import gemel.training.train  # once, before the forks: each start then takes a moment  # noqa: F401

    if words.processes:
        return turns(words)
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
    said = f"# Killed and resumed\n\n`{command_of(words)}`\n\n"
    write_text(words.out or TABLE, said + "\n".join(lines) + "\n")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
