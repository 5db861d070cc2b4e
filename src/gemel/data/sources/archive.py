"""Images in zip and tar archives, and in webdataset's shards; nothing is unpacked, any image is read by itself."""

# as in folder.py: a name need not be text
# ruff: noqa: PTH100, PTH113
import os
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from gemel.data.labels import by_values
from gemel.data.listing import printable
from gemel.data.messages import counted
from gemel.data.sources.base import Source
from gemel.data.sources.members import Found, Members, Place, key_of, members_of
from gemel.data.sources.patterns import files_of, is_pattern
from gemel.data.sources.random_access import RandomAccess
from gemel.data.sources.tar_archive import read_tar, scan_tar
from gemel.data.sources.zip_archive import read_zip, scan_zip
from gemel.errors import UserError, system_words

Scan = Callable[[Found, RandomAccess], None]
Read = Callable[[RandomAccess, Place], bytes]

_KINDS: dict[str, tuple[Scan, Read]] = {".zip": (scan_zip, read_zip), ".tar": (scan_tar, read_tar)}

ENDINGS = tuple(_KINDS)

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")


class ArchiveSource(Source):
    """Members of archives.

    Args:
        name: as the user gave it.
        shown: each archive's path as the user gave it; `path` joins it with a member's name.
        archives: the files.
        members: the images in them.
    """

    def __init__(
        self, name: str, shown: Sequence[str], archives: Sequence[RandomAccess], members: Members, **described: Any
    ) -> None:
        super().__init__(name, **described)
        self._shown, self._archives, self._members = shown, archives, members
        self._versions = [one.version for one in archives]
        self._top = _common_folder(members)

    def __len__(self) -> int:
        return len(self._members.names)

    has_folders = True

    @property
    def folders(self) -> Sequence[str]:
        """Each archive, as if it were a folder, and the folder in it that holds all its images."""
        return ["", *self._shown, *(f"{one}/{os.fsdecode(self._top)}" for one in self._shown if self._top)]

    def path(self, index: int) -> str:
        """Return the archive as it was given, and the name in it."""
        name = os.fsdecode(self._members.names[index])
        return f"{self._shown[self._members.place(index).archive]}/{name}"

    def key(self, index: int) -> str:
        """Return the name in the archive, below the folder that holds all images, if there is one."""
        return os.fsdecode(self._members.names[index][len(self._top) :])

    def file_size(self, index: int) -> int:
        """Return the member's bytes, unpacked."""
        return self._members.place(index).length

    def identity(self, index: int) -> Hashable:
        """Return the archive's number on its disk, and where the image lies in it."""
        place = self._members.place(index)
        return *self._archives[place.archive].stamp[:4], place.offset

    def version(self, index: int) -> bytes:
        """Return the archive's path, size and times, and the member's name and place."""
        place = self._members.place(index)
        return (
            self._versions[place.archive] + f" {place.offset} {place.checksum} ".encode() + self._members.names[index]
        )

    def read(self, index: int) -> bytes:
        """Return the member's bytes.

        Raises:
            OSError: it is damaged, or the archive has changed since it was opened.
        """
        place = self._members.place(index)
        archive = self._archives[place.archive]
        return _KINDS[_ending(archive.path)][1](archive, place)


def _common_folder(members: Members) -> bytes:
    """Return the first folder, with its slash, that all names begin with; they are sorted."""
    top, slash, _ = members.names[0].partition(b"/")
    return top + slash if slash and members.names[len(members.names) - 1].startswith(top + slash) else b""


def open_archives(given: Any, *, rescan: bool = False) -> Source | None:
    """Return the images of .zip or .tar files: of one, of a pattern of names, or of a list; None for something else.

    Raises:
        UserError: an archive is missing, damaged or compressed as a whole, or there are no images.
    """
    if isinstance(given, str):
        if given.lower().endswith(_COMPRESSED) and os.path.isfile(given):
            raise UserError(
                f"{printable(given)} is compressed as a whole, so that no image can be read by itself; unpack it once, "
                "or pack it as .tar or .zip"
            )
        if _ending(given) not in _KINDS:
            return None
        if is_pattern(given):
            return archive_source(given, files_of(given), rescan=rescan)
        return archive_source(given, [given], rescan=rescan) if os.path.isfile(given) else None
    if not isinstance(given, Sequence) or not given:
        return None
    paths = [os.fsdecode(one) for one in given if isinstance(one, str | os.PathLike)]
    if len(paths) < len(given) or any(_ending(one) not in _KINDS for one in paths):
        return None
    return archive_source("list of archives", [os.path.expanduser(one) for one in paths], rescan=rescan)  # noqa: PTH111


def archive_source(name: str, files: Sequence[str], *, rescan: bool) -> Source:
    """Return the images of archives; a shard's samples give one image each, and their classes as labels.

    Raises:
        UserError: as `open_archives`.
    """
    try:
        archives = [RandomAccess(os.path.abspath(one)) for one in files]
    except OSError as error:
        raise UserError(system_words(error)) from error
    members = members_of(archives, lambda found, one: _KINDS[_ending(one.path)][0](found, one), rescan=rescan)
    if len(files) > 1:
        members = _one_a_sample(members)
    if not len(members.names):
        what = f", but {counted(members.passed_over)}" if members.passed_over else ""
        raise UserError(f"no images in {printable(name)}{what}")
    source = ArchiveSource(name, files, archives, members)
    source.passed_over = members.passed_over
    if members.labels is not None:
        source.labels, source.label_names = by_values(os.fsdecode(one) for one in members.labels)
    return source


def _one_a_sample(members: Members) -> Members:
    """Leave out what shards hold of a sample beside its image: `0001.mask.png` where there is `0001.png`."""
    names, places = members.names[:], members.places
    keys = [(archive, key_of(name)) for archive, name in zip(places[:, 0].tolist(), names, strict=True)]
    whole = {key for key, name in zip(keys, names, strict=True) if _is_whole(name)}
    kept = [row for row, key in enumerate(keys) if _is_whole(names[row]) or key not in whole]
    if len(kept) == len(names):
        return members
    members.passed_over["further image of a sample"] += len(names) - len(kept)
    labels = None if members.labels is None else type(members.names).of([members.labels[row] for row in kept])
    return Members(type(members.names).of([names[row] for row in kept]), places[kept], labels, members.passed_over)


def _is_whole(name: bytes) -> bool:
    return name[len(key_of(name)) :].count(b".") == 1


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()  # noqa: PTH122
