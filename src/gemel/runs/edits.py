"""What the explorer's user changed: names of classes, images moved to another class by hand, images that are wrong.

Names stand in RUN/classes.yaml, the rest in RUN/edits.json. A file that the explorer saves holds changes to both.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from gemel.errors import UserError, brief
from gemel.runs.class_names import check_numbers, mistake_in_name, read_names, write_names
from gemel.runs.files import read_mapping_of_json
from gemel.runs.run import Run
from gemel.text_files import shortened

FILE = "edits.json"
FORMAT = 1


class Edits(BaseModel):
    """Changes; what they don't mention stays as it is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    gemel_edits: int = FORMAT
    """version of the format"""
    run: str = ""
    """name of the run's folder, for the reader"""
    names: dict[str, str] = {}
    """by the class's number; empty takes the name away"""
    moved: dict[str, str | None] = {}
    """the class of an image, by its path as tables show it: a name, or the number of a class without one; null: as the
    network says"""
    wrong: dict[str, bool] = {}
    """whether an image belongs to no class, by its path"""


def read_edits(run: Run) -> Edits:
    """Return the images that were moved and those that are wrong.

    Raises:
        UserError: edits.json is damaged.
    """
    path = run.path / FILE
    found = read_mapping_of_json(path)
    return Edits() if found is None else _checked(found, path)


def read_edits_file(path: str | Path) -> Edits:
    """Return the edits that the explorer saved.

    Raises:
        UserError: there is no such file, or it holds no edits, or names that no class can have.
    """
    found = read_mapping_of_json(Path(path))
    if found is None:
        raise UserError(f"--edits {brief(str(path))}: there is no such file; Save in the explorer makes one")
    return _checked(found, Path(path))


def checked_edits(found: Mapping[str, Any], where: str) -> Edits:
    """Return edits of JSON.

    Raises:
        UserError: with every mistake in them.
    """
    try:
        edits = Edits.model_validate(found)
    except ValidationError as error:
        lines = [f"{brief('.'.join(map(str, one['loc'])))}: {one['msg'].lower()}" for one in error.errors()[:5]]
        raise UserError(f"{where} holds no edits of the explorer: {'; '.join(lines)}") from error
    wrong = [mistake for number, name in edits.names.items() if (mistake := mistake_in_name(number, name or "none"))]
    for target in {target for target in edits.moved.values() if target is not None}:
        if mistake := mistake_in_name("0", target):
            wrong.append(mistake.replace("of class 0", "of a class"))
    if edits.gemel_edits != FORMAT:
        wrong.append(f"format {edits.gemel_edits} of edits is not known; there is {FORMAT}")
    if wrong:
        raise UserError(*(f"{where}: {mistake}" for mistake in wrong))
    return edits


def check_edits(edits: Edits, *, paths: Collection[str], classes: int, where: str) -> None:
    """Check edits against the run that they are for.

    Args:
        edits: read from a file, or sent by the explorer.
        paths: of the run's images.
        classes: of its method.
        where: they come from, for messages.

    Raises:
        UserError: an image or a class is not the run's.
    """
    strange = [path for path in {**edits.moved, **edits.wrong} if path not in paths]
    if strange:
        raise UserError(
            f"{where} changes {len(strange)} images that the run has not learned from: {shortened(strange)}"
        )
    check_numbers({int(number): name for number, name in edits.names.items()}, classes)


def apply_edits(run: Run, edits: Edits) -> None:
    """Write edits into the run's folder, over those that are there."""
    names = before = read_names(run)
    names = names | {int(number): name.strip() for number, name in edits.names.items()}
    names = {number: name for number, name in names.items() if name}
    if names != before:
        write_names(run, names)
    kept = read_edits(run)
    moved: dict[str, str | None] = {
        path: target for path, target in (kept.moved | edits.moved).items() if target is not None
    }
    wrong = {path: True for path, is_wrong in (kept.wrong | edits.wrong).items() if is_wrong}
    if (moved, wrong) != (kept.moved, kept.wrong):
        run.write_json(FILE, Edits(run=run.path.resolve().name, moved=moved, wrong=wrong).model_dump(exclude={"names"}))


def _checked(found: dict[str, Any], path: Path) -> Edits:
    return checked_edits(found, str(path))
