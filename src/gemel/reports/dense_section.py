"""Found boxes, masks and label maps on a few images, beside the truth."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gemel.errors import UserError
from gemel.reports.formatting import score
from gemel.runs.files import read_file, read_json
from gemel.runs.run import Run

PROTOCOLS = {"detection": ("ap", "ap50", "mask_ap"), "segmentation": ("miou",)}
"""the protocols that leave pictures, and the scores that are named above them"""

NAMES = {"ap": "AP", "ap50": "AP50", "mask_ap": "AP of masks", "miou": "mean IoU"}

PREFIX = "data:image/"
"""of a picture: nothing else gets into the page"""


class Pictured(NamedTuple):
    """One image twice: with what is there, and with what was found."""

    path: str
    truth: str
    found: str


class DenseSection(NamedTuple):
    """The pictures of one evaluation."""

    title: str
    about: str
    pictures: tuple[Pictured, ...]


def dense_sections(run: Run, evaluations: Sequence[Mapping[str, Any]]) -> tuple[DenseSection, ...]:
    """Return a section for each evaluation that left pictures in the run's folder.

    Raises:
        UserError: a file of pictures is damaged.
    """
    found: list[DenseSection] = []
    for one in evaluations:
        folder = one["settings"].get("predictions")
        if one["protocol"] not in PROTOCOLS or not isinstance(folder, str):
            continue
        files = sorted((run.path / folder).glob("**/pictures.json"))
        if files:
            pictures = tuple(read_file(files[0], lambda path: [_pictured(row) for row in read_json(path)]))
            found.append(DenseSection(one["protocol"].capitalize(), _about(one), pictures))
    return tuple(found)


def _about(one: Mapping[str, Any]) -> str:
    metrics = one["metrics"]
    named = [f"{NAMES[name]} {score(name, metrics[name])}" for name in PROTOCOLS[one["protocol"]] if name in metrics]
    return ", ".join([f"{one['settings'].get('data')}", *named])


def _pictured(row: Any) -> Pictured:
    try:
        made = Pictured(str(row["path"]), str(row["truth"]), str(row["found"]))
    except (TypeError, KeyError) as error:
        raise UserError(f"a row of pictures has no {error}") from error
    if not all(not one or one.startswith(PREFIX) for one in made[1:]):
        raise UserError("a picture is no image")
    return made
