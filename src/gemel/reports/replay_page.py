"""The page of a step that was taken again: its batch as the network saw it, loss terms, gradients, outputs."""

from collections.abc import Sequence

from gemel.reports.class_gallery import picture_of
from gemel.reports.formatting import number
from gemel.reports.jinja import rendered
from gemel.reports.replayed import Replay, Size

MOST_IMAGES = 64
MOST_ROWS = 400
"""of the tables of gradients and outputs"""


def replay_page(name: str, found: Replay, pictures: Sequence[Sequence[str]]) -> str:
    """Return one HTML page that needs nothing else.

    Args:
        name: of the run.
        found: the step.
        pictures: data URIs of each image's views; empty strings are left out.
    """
    rows = list(zip(found.batch.index.tolist(), found.paths, pictures, strict=True))[:MOST_IMAGES]
    shown = [
        (index, path, [picture_of(source, f"{path} · view {view}", ()) for view, source in enumerate(views) if source])
        for index, path, views in rows
    ]
    terms = [
        (term, number(value, 6), number(found.recorded[term], 6) if term in found.recorded else "")
        for term, value in found.terms.items()
    ]
    return rendered(
        "replay.html.j2",
        name=name,
        found=found,
        rate=number(found.lr),
        terms=terms,
        rows=shown,
        more=len(found.paths) - len(shown),
        gradients=_sizes(found.gradients),
        outputs=_sizes(found.outputs),
        first=found.first_not_finite,
    )


def _sizes(sizes: Sequence[Size]) -> list[tuple[str, str, str, str, str]]:
    """Return rows in words: those with NaN first, then in their order."""
    chosen = sorted(sizes, key=lambda one: one.not_finite == 0)[:MOST_ROWS]
    return [(one.name, f"{one.numbers:,}", number(one.norm), number(one.largest), _broken(one)) for one in chosen]


def _broken(size: Size) -> str:
    return f"{size.not_finite:,}" if size.not_finite else ""
