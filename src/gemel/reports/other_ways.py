"""Which was better on these images: heads on a frozen network, or a network of one's own, where both were tried."""

from collections.abc import Iterator, Mapping
from typing import Any

from gemel.errors import UserError
from gemel.reports.formatting import score
from gemel.runs.run import RUN_FILE, Run

SCORES = {"knn": ("top1", "nearest neighbours that share a label"), "cluster": ("acc", "accuracy of the classes")}
"""by evaluation the score that is compared, and what it is"""

WAYS = {
    "heads": "heads on a frozen network",
    "last": "heads on a network whose last stage learned too",
    "all": "a network that learned all its layers",
}

CLEAR = 0.01
"""by which a score must be higher to be called better: the spread between seeds"""


def other_ways(run: Run) -> tuple[str, ...]:
    """Compare a run with those beside it of the same images whose network learned more, or less.

    Returns:
        A sentence for each evaluation that both have; empty where nothing else was tried.
    """
    own = _facts(run)
    if own is None:
        return ()
    found: list[str] = []
    for other in _beside(run):
        facts = _facts(other)
        if facts is not None and facts["images"] == own["images"] and facts["train"] != own["train"]:
            found += _compared(own, other, facts)
    return tuple(found)


def _beside(run: Run) -> Iterator[Run]:
    folder = run.path.resolve()
    for path in sorted(folder.parent.glob(f"*/{RUN_FILE}")):
        if path.parent != folder:
            yield Run(path.parent)


def _facts(run: Run) -> dict[str, Any] | None:
    """Return what is compared of a run; None of one that is damaged or judges nothing, which its own page tells."""
    try:
        settings = run.settings
        results = {one["protocol"]: one["metrics"] for one in run.evaluations(lambda problem: None)}
        images = settings.get("images"), run.environment.get("images")
    except UserError:
        return None
    return {"images": images, "train": settings.get("train"), "scores": results}


def _compared(own: Mapping[str, Any], other: Run, facts: Mapping[str, Any]) -> Iterator[str]:
    for protocol, (name, words) in SCORES.items():
        values = [one["scores"].get(protocol, {}).get(name) for one in (own, facts)]
        if not all(isinstance(value, float) for value in values):
            continue
        mine, theirs = values
        ways = [WAYS.get(str(one["train"]), str(one["train"])) for one in (own, facts)]
        verdict = "about as good here" if abs(mine - theirs) < CLEAR else f"better here: {ways[mine < theirs]}"
        here, there = f"{score(name, mine)} by {ways[0]} (this run)", f"{score(name, theirs)} by {ways[1]}"
        yield f"{words}: {here}, {there} ({other.path.name}); {verdict}"
