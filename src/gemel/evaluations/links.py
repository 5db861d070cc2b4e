"""Folders of links: the images of each discovered class."""

from pathlib import Path
from typing import Any

from gemel.errors import UserError


def check(images: str, into: Path) -> None:
    """Before the images are looked at: is there something to link, and room for it?

    Raises:
        UserError: the images are no files, or the folder is not empty.
    """
    if not Path(images).expanduser().exists():
        raise UserError(f"--into needs files; {images} is a data set")
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise UserError(f"--into {into} is not empty; name a new folder")


def link(table: Any, into: Path) -> None:
    """A folder for each class, in it links to its images; the images stay where they are."""
    for path, number in zip(table.column("path").to_pylist(), table.column("class").to_pylist(), strict=True):
        image = Path(path).absolute()
        folder = into / f"{number:04}"
        folder.mkdir(parents=True, exist_ok=True)
        link, copy = folder / image.name, 1
        while link.is_symlink():  # images of one name from several folders
            copy += 1
            link = folder / f"{image.stem}-{copy}{image.suffix}"
        link.symlink_to(image)
