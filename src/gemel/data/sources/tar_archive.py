"""Members of tar archives, and of webdataset's shards: where they lie, and their bytes.

The archive's headers are walked once. Python's tarfile takes 40 microseconds for each, and keeps half a kilobyte.
"""

import errno
from typing import BinaryIO

from gemel.data.listing import printable
from gemel.data.sources.members import Found, Place, key_of
from gemel.data.sources.random_access import RandomAccess
from gemel.errors import UserError

BLOCK = 512
_FILES = (b"0", b"\0", b"7")
_LONG_NAME, _RECORDS = b"L", b"x"
_ABOUT_OTHERS = (b"g", b"K")
"""headers of the whole archive, and of a link's target"""

_NOT_READ = {b"1": "link in an archive", b"2": "link in an archive", b"S": "sparse file in an archive"}
_RECORDS_LIMIT = 1_000_000  # bytes of names and records before a member

_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstandard"}

LABEL = b".cls"
"""ending of webdataset's member that holds a sample's class"""

_LABEL_BYTES = 256
"""a longer label is none"""


def scan_tar(found: Found, archive: RandomAccess) -> None:
    """Find the members of an archive by its headers; labels of samples are read.

    Raises:
        UserError: it is no tar archive, compressed as a whole, damaged or cut short.
    """
    with open(archive.path, "rb", buffering=0) as file:  # noqa: PTH123  the path need not be text
        offset, name, size = 0, b"", None
        while True:
            file.seek(offset)
            head = file.read(BLOCK)
            if not head.strip(b"\0") and offset <= archive.stamp.size:
                return
            if len(head) < BLOCK or not _is_header(head):
                raise UserError(_why_not(archive, head, offset))
            kind, data, length = head[156:157], offset + BLOCK, _number(head[124:136])
            if kind == _RECORDS:
                name, size = _of_records(file.read(min(length, _RECORDS_LIMIT)), name, size)
            elif kind == _LONG_NAME:
                name = file.read(min(length, _RECORDS_LIMIT)).rstrip(b"\0")
            elif kind not in _ABOUT_OTHERS:
                length = length if size is None else size
                if kind in _FILES:
                    _take(found, file, name or _name(head), data, length)
                elif kind in _NOT_READ:
                    found.passed_over[_NOT_READ[kind]] += 1
                name, size = b"", None
            offset = data + -(-length // BLOCK) * BLOCK


def read_tar(archive: RandomAccess, place: Place) -> bytes:
    """Return a member's bytes.

    Raises:
        OSError: the archive is cut short, or the member is larger than what is read.
    """
    data = archive.read(place.offset, place.stored)
    if len(data) < place.stored:
        raise OSError(errno.EIO, f"the archive is cut short: {len(data):,} of {place.stored:,} bytes are there")
    return data


def _take(found: Found, file: BinaryIO, name: bytes, data: int, length: int) -> None:
    if name.lower().endswith(LABEL) and length <= _LABEL_BYTES:
        file.seek(data)
        found.labels[found.archive, key_of(name.removeprefix(b"./"))] = file.read(length).strip()
    else:
        found.add(name, data, length, length)


def _is_header(head: bytes) -> bool:
    try:
        _number(head[124:136])
        return _number(head[148:156]) == sum(head) - sum(head[148:156]) + 8 * ord(" ")
    except ValueError:
        return False


def _number(field: bytes) -> int:
    """Return a number: octal digits, or binary where the first bit is set, as GNU tar writes sizes above 8 GB."""
    return int.from_bytes(field[1:], "big") if field[0] == 0x80 else int(field.strip(b"\0 ") or b"0", 8)


def _name(head: bytes) -> bytes:
    name = head[:100].partition(b"\0")[0]
    prefix = head[345:500].partition(b"\0")[0] if head[257:263] == b"ustar\0" else b""  # GNU keeps times there
    return prefix + b"/" + name if prefix else name


def _of_records(text: bytes, name: bytes, size: int | None) -> tuple[bytes, int | None]:
    """Return path and size of POSIX's records, `LENGTH KEY=VALUE` one behind the other; others' say nothing."""
    while (number := text.partition(b" ")[0]).isdigit() and int(number):
        key, _, value = text[len(number) + 1 : int(number)].removesuffix(b"\n").partition(b"=")
        name = value if key == b"path" else name
        size = int(value) if key == b"size" and value.isdigit() else size
        text = text[int(number) :]
    return name, size


def _why_not(archive: RandomAccess, head: bytes, offset: int) -> str:
    shown = printable(archive.path)
    packed = next((name for start, name in _PACKED.items() if head.startswith(start)), None) if not offset else None
    if packed:
        return f"{shown} is compressed as a whole ({packed}), so that no image can be read by itself; unpack it once"
    if not offset:
        return f"{shown} is no tar archive"
    return f"{shown} is damaged or cut short at byte {offset:,} of {archive.stamp.size:,}; pack it again"
