"""A folder of links to the images of a table."""

import errno
import os
import re
import shutil
from pathlib import Path
from typing import Any

from gemel.errors import UserError
from gemel.runs.output_paths import check_writable, short_name

WRONG = "wrong"
"""folder of the images that the user marked so"""


def check_links(images: str, into: Path) -> None:
    """Check, before the images are read, that there are files to link and a folder for the links.

    Raises:
        UserError: the images are no files of their own, or the folder is not empty or cannot be written.
    """
    from gemel.data.sources import open_source

    if open_source(images).file(0) is None:
        raise UserError(f"--into makes links to files, and the images of {images} are none of their own; leave it out")
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise UserError(f"--into {into} is not empty; name a new folder")
    standing = next(folder for folder in (into.absolute(), *into.absolute().parents) if folder.exists())
    check_writable(standing, f"--into {into}")


def link(table: Any, into: Path) -> None:
    """Make a folder for each class with links to its images, and one for those that the user marked as wrong.

    The images stay where they are.
    """
    names, edited = (
        table.column(name).to_pylist() if name in table.column_names else [""] * table.num_rows
        for name in ("name", "edited")
    )
    rows = zip(table.column("path").to_pylist(), table.column("class").to_pylist(), names, edited, strict=True)
    for path, number, name, edit in rows:
        image = Path(_on_disk(path)).absolute()
        readable = "" if name in ("", str(number)) else "-" + re.sub(r"[^\w. -]", "_", name)
        folder = into / (WRONG if edit == WRONG else short_name(f"{number:04}{readable}"))
        folder.mkdir(parents=True, exist_ok=True)
        target, copy = folder / image.name, 1
        while os.path.lexists(target):  # images of one name from several folders
            copy += 1
            target = folder / short_name(image.stem, f"-{copy}{image.suffix}")
        _put(image, target)


def _put(image: Path, target: Path) -> None:
    """Make a link to an image; a copy where the file system knows no links, or Windows allows none."""
    try:
        target.symlink_to(image)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EINVAL):
            raise
        shutil.copy2(image, target)


def _on_disk(path: str) -> str:
    r"""Return the path that a table shows as text: `\udcXX` was a byte outside UTF-8, unless a file is called so."""
    if os.path.lexists(path):
        return path
    return re.sub(r"\\udc([89a-f][0-9a-f])", lambda found: chr(0xDC00 + int(found.group(1), 16)), path)
