"""What is wrong with the images: how many by kind and what to do about it, and pictures."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from gemel.errors import UserError, brief
from gemel.reports.class_gallery import Picture, picture_of
from gemel.reports.formatting import plural
from gemel.reports.jinja import rendered

MOST_REJECTED = 100
"""unreadable files that are listed"""

ADVICE = {
    "exact duplicate": "one of each is enough: --unique leaves the others out of training",
    "near duplicate": "resized, compressed again or cropped a little; --unique leaves them out of training",
    "unlike any other": "far from all other images: strays, or the only ones of their kind",
    "blurred": "no fine detail at a size of 128 pixels",
    "dark": "hardly anything is bright",
    "nearly one colour": "hardly anything to see",
    "odd size": "much smaller than the others: they are enlarged to be seen",
    "odd shape": "much longer or higher than the others: most of them is cropped away",
    "unreadable": "left out; see the reasons",
}
"""by kind, in the order of the table"""


class Entry(BaseModel):
    """An image of check.json."""

    id: str
    path: str
    about: str


class Checked(BaseModel):
    """What check.json holds."""

    images: int
    looked_at: int
    counts: dict[str, int]
    shown: dict[str, list[list[Entry]]]
    """by kind; of duplicates the one to keep comes first"""
    pictures: dict[str, str]
    """data URIs by the images' ids"""


class Strips(NamedTuple):
    """Pictures of one kind of finding."""

    title: str
    more: str
    """how many findings there are beside the pictures; empty for none"""
    groups: tuple[tuple[Picture, ...], ...]
    """of duplicates the one to keep comes first"""
    has_first: bool


class CheckSection(NamedTuple):
    """All that a page says about faults of the images."""

    about: str
    rows: tuple[tuple[str, int, str], ...]
    """kind, how many images, what to do"""
    strips: tuple[Strips, ...]


def check_section(found: Mapping[str, Any] | None, where: object) -> CheckSection | None:
    """Return check.json in words; None where there is none.

    Args:
        found: what the file holds.
        where: the file, for the message.

    Raises:
        UserError: it is damaged.
    """
    if not found:
        return None
    try:
        checked = Checked.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        reason = brief(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        raise UserError(f"{where} is damaged: {reason}; delete it and run the command again") from error
    about = plural(checked.images, "image")
    if checked.looked_at < checked.images:
        about = f"A sample of {checked.looked_at:,} of {about}, drawn by chance; gemel check looks at all."
    else:
        about = f"All of {about}."
    rows = tuple((kind, checked.counts.get(kind, 0), advice) for kind, advice in ADVICE.items())
    strips = (_strips(kind, checked) for kind, count, _ in rows if count)
    return CheckSection(about, tuple(row for row in rows if row[1]), tuple(one for one in strips if one.groups))


def check_page(name: str, found: Mapping[str, Any], rejected: Sequence[tuple[str, str]]) -> str:
    """Return one HTML page about a dataset's images that needs nothing else.

    Args:
        name: of the dataset.
        found: as check.json holds it.
        rejected: path and reason of unreadable files.
    """
    return rendered("check.html.j2", name=name, check=check_section(found, name), rejected=rejected[:MOST_REJECTED])


def _strips(kind: str, checked: Checked) -> Strips:
    groups = [[_picture(entry, checked) for entry in group] for group in checked.shown.get(kind, [])]
    shown = tuple(tuple(one for one in group if one is not None) for group in groups)
    has_first = any(len(group) > 1 for group in shown)
    number = sum(len(group) - has_first for group in shown)
    rest = checked.counts[kind] - number
    return Strips(kind, f"{rest:,} more in the table" if rest > 0 else "", tuple(filter(None, shown)), has_first)


def _picture(entry: Entry, checked: Checked) -> Picture | None:
    return picture_of(checked.pictures.get(entry.id, ""), f"{entry.path} · {entry.about}", (entry.about,))
