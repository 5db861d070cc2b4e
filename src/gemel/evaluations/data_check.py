"""What is wrong with the images, for the report: how many by kind, and some of each as pictures."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from gemel.data.check.findings import EXACT, KINDS, NEAR, UNREADABLE, Features, Finding, Findings, find
from gemel.data.listing import printable
from gemel.data.sources import Source
from gemel.evaluations.base import Progress
from gemel.evaluations.features import Seen, drawn
from gemel.evaluations.gallery import picture
from gemel.runs.run import CHECK, CHECK_TABLE, Run
from gemel.runs.tables import write_table

SAMPLE = 50_000
"""images of a run that are looked at, drawn by chance from more: a second pass over their files takes a minute then"""

SHOWN = 12
"""images of a kind that are shown; of duplicates, images to keep"""

COPIES = 5
"""of an image that are shown"""


def check_run(run: Run, source: Source, seen: Seen, tell: Progress | None) -> None:
    """Write check.csv and evaluations/check.json; images unlike any other are found by the run's own features.

    Of vectors there is nothing to look at, and nothing is written.
    """
    if source.width is not None:
        return
    features = Features(seen.indices, seen.features)
    findings = find(source, indices=drawn(np.arange(len(source)), SAMPLE), features=features, tell=tell)
    write_table(findings.table(), run.path / CHECK_TABLE)
    run.write_json(CHECK, described(findings))


def described(findings: Findings) -> dict[str, Any]:
    """Return what evaluations/check.json holds: counts, and of each kind some images, each once as a picture."""
    shown = {kind: list(_groups(findings, kind)) for kind in KINDS if kind != UNREADABLE}
    wanted = dict.fromkeys(int(entry["id"]) for groups in shown.values() for group in groups for entry in group)
    return {
        "images": len(findings.source),
        "looked_at": findings.looked_at,
        "counts": findings.counts,
        "shown": shown,
        "pictures": {str(index): picture(findings.source, index) for index in wanted},
    }


def _groups(findings: Findings, kind: str) -> Iterator[list[dict[str, str]]]:
    """Yield the pictures that belong together: an image to keep before its duplicates, others alone."""
    of_kind = [one for one in findings.found if one.kind == kind]
    if kind not in (EXACT, NEAR):
        yield from ([_entry(findings.source, one.image, one.about)] for one in of_kind[:SHOWN])
        return
    copies: dict[int, list[Finding]] = {}
    for one in of_kind:
        if one.of is not None:
            copies.setdefault(one.of, []).append(one)
    for kept, several in list(copies.items())[:SHOWN]:
        first = _entry(findings.source, kept, "keep")
        yield [first, *(_entry(findings.source, one.image, one.about) for one in several[:COPIES])]


def _entry(source: Source, index: int, about: str) -> dict[str, str]:
    return {"id": str(index), "path": printable(source.path(index)), "about": about}
