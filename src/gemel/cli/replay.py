"""gemel replay."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemel.runs.run import Run

if TYPE_CHECKING:  # every command would wait for what draws pages
    from gemel.reports.replayed import Replay, Size

SHOWN = 8
"""parameters with the largest gradients, and images of the batch, that are listed"""


def replay(run: str, *, step: int, out: str | None = None, **options: Any) -> None:
    """Take a step of a run again and show its batch, loss terms and gradients, to find out where NaN came from.

    Args:
        run: folder of a run, also of one that diverged
        step: counted from 1, as in metrics.csv
        out: F.html, a page with the batch's views; left out: replay-N.html in the run's folder
    """
    import gemel

    page = Path(out) if out is not None else Run(run).path / f"replay-{step}.html"
    found = gemel.replay(run, step=step, out=page, quiet=False, **options)
    print("\n".join([*_lines(found), f"page: {page}"]))


def _lines(found: "Replay") -> list[str]:
    origin = f"from the checkpoint of step {found.start}" if found.start else "from the run's start"
    lines = [f"step {found.step} ({found.stage}, epoch {found.epoch}), taken again {origin}"]
    if not found.is_exact:
        lines.append(f"on the weights of step {found.start}: not the numbers that the run had")
    lines += ["", f"loss terms, learning rate {found.lr:.4g}"]
    for name, value in found.terms.items():
        beside = f"   metrics.csv {found.recorded[name]:.8g}" if name in found.recorded else ""
        lines.append(f"  {name:16} {value:.8g}{beside}")
    lines += ["", f"gradients, the largest of {len(found.gradients)} parameters"]
    lines += _sizes(sorted(found.gradients, key=lambda one: (-one.not_finite, -one.norm))[:SHOWN])
    broken = [one for one in found.outputs if one.not_finite]
    lines += ["", f"outputs of {len(found.outputs)} modules, the largest"]
    lines += _sizes(broken[:SHOWN] or sorted(found.outputs, key=lambda one: -one.largest)[:SHOWN])
    lines += ["", f"batch of {len(found.paths)} images"]
    pairs = zip(found.batch.index.tolist()[:SHOWN], found.paths, strict=False)
    lines += [f"  {index:>8} {path}" for index, path in pairs]
    lines += [f"  unreadable: {path} ({reason})" for path, reason in list(found.rejected.items())[:SHOWN]]
    first = found.first_not_finite
    return [*lines, "", f"NaN or infinite first in {first}" if first else "every number is finite"]


def _sizes(sizes: "list[Size]") -> list[str]:
    width = max((len(one.name) for one in sizes), default=0)
    return [
        f"  {one.name:{width}} norm {one.norm:<10.4g} largest {one.largest:<10.4g}"
        + (f" {one.not_finite} of {one.numbers} NaN or infinite" if one.not_finite else "")
        for one in sizes
    ]
