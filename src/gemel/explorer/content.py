"""What the explorer's server answers with: the page, its blocks, pictures from the disk; and the edits it takes."""

import io
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import pyarrow as pa
from PIL import Image

from gemel.data.decode import Unreadable, pixels_of
from gemel.data.listing import printable
from gemel.data.picture_sheets import COLUMNS, PER_SHEET, kind_of, sheet, side_of
from gemel.data.sources import Source
from gemel.errors import UserError
from gemel.reports.explorer import PictureFacts, neighbours, page, paths, points, renew_edits
from gemel.runs.edits import apply_edits, check_edits, checked_edits
from gemel.runs.files import write_atomically
from gemel.runs.run import Run

LARGE_RUN = 1000
"""images from which the pictures are as small as on a page of so many: details come from the disk"""
SHOWN_AS_THEY_ARE = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"GIF8": "image/gif",
}
"""files that every browser shows, by how they begin; others are sent as PNG"""


class Answer(NamedTuple):
    """A body and its type."""

    kind: str
    body: bytes


class Content:
    """A run as the server shows it.

    Args:
        run: the run.
        source: its images.
        table: its map.
    """

    def __init__(self, run: Run, source: Source, table: pa.Table) -> None:
        self.run, self.source, self.table = run, source, table
        self._indices = table["index"].to_numpy()
        self._pictures = PictureFacts(side_of(source, LARGE_RUN), "", COLUMNS)
        self._pictures = self._pictures._replace(kind=kind_of(self._pictures.side))
        self._points = points(table)  # what the first picture waits for
        self._key = crc32(np.ascontiguousarray(self._indices).tobytes())
        self._writing = Lock()
        self._drawing = tuple(Lock() for _ in range(16))

    def page(self) -> Answer:
        """Return the page, with the edits that are in force."""
        text = page(self.run, self.table, self._pictures, None, images=self.table.num_rows)
        return Answer("text/html; charset=utf-8", text.encode())

    def block(self, name: str) -> Answer | None:
        """Return a block of the page's data; None if there is none of that name."""
        blocks: dict[str, Callable[[], bytes]] = {
            "points": lambda: self._points,
            "neighbours": lambda: neighbours(self.table),
            "paths": lambda: self._paths,
        }
        return Answer("application/octet-stream", blocks[name]()) if name in blocks else None

    @cached_property
    def _paths(self) -> bytes:
        return paths(self.table)

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.table["path"].to_pylist())

    def sheet(self, number: int) -> Answer | None:
        """Return a sheet of small pictures, drawn from the files at first; None if there is none of that number."""
        indices = self._indices[number * PER_SHEET : (number + 1) * PER_SHEET].tolist()
        if not indices or not self._pictures.side:
            return None
        name = f"sheet-{self._key:08x}-{self._pictures.side}-{number}.{self._pictures.kind}"
        path = self.run.path / "cache" / "explorer" / name
        with self._drawing[number % len(self._drawing)]:
            if not path.is_file():
                drawn = sheet(self.source, indices, self._pictures.side)
                _keep(path, drawn)
                return Answer(f"image/{self._pictures.kind}", drawn)
        return Answer(f"image/{self._pictures.kind}", path.read_bytes())

    def picture(self, row: int) -> Answer | None:
        """Return an image from the disk, by its row on the map; None if it isn't there any more, or can't be read.

        Nothing but the images of the run can be named, and by their number alone.
        """
        if not 0 <= row < len(self._indices):
            return None
        index = int(self._indices[row])
        if index >= len(self.source) or printable(self.source.path(index)) != self.table["path"][row].as_py():
            return None  # the folder holds other images than those of the map
        try:
            data = self.source.read(index)
            if isinstance(data, bytes):
                kind = next((kind for start, kind in SHOWN_AS_THEY_ARE.items() if data.startswith(start)), None)
                if kind is not None:
                    return Answer(kind, data)
            pixels = self.source.display.picture(pixels_of(data, self.source.decoding))
        except (OSError, Unreadable):
            return None
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
        return Answer("image/png", buffer.getvalue())

    def edit(self, changes: Any) -> None:
        """Write changes into the run.

        Raises:
            UserError: they are no edits, or not of this run.
        """
        if not isinstance(changes, dict):
            raise UserError("the request holds no edits")
        edits = checked_edits(changes, "the request")
        classes = int((self.table.schema.metadata or {})[b"classes"])
        check_edits(edits, paths=self._known, classes=classes, where="the request")
        with self._writing:
            apply_edits(self.run, edits)

    def close(self) -> None:
        """Let explorer.html start from the edits that were made."""
        renew_edits(self.run, self.table)


def _keep(path: Path, data: bytes) -> None:
    """Keep a sheet for the next time, where the run's folder can be written to."""
    try:
        write_atomically(path, lambda temporary: temporary.write_bytes(data))
    except OSError:
        return
