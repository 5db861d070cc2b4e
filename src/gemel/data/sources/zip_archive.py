"""Members of zip archives: where they lie, and their bytes."""

import bz2
import errno
import os
import struct
import zipfile
import zlib

from gemel.data.listing import printable
from gemel.data.sources.members import Found, Place
from gemel.data.sources.random_access import BYTES_LIMIT, RandomAccess
from gemel.errors import UserError

_HEADER = struct.Struct("<4s22xHH")  # signature, ..., lengths of name and extra field
_SPARE = 512
"""bytes that names and extra fields hardly exceed: one read brings header and data"""

_ENCRYPTED = 1
_PLAIN, _DEFLATED, _BZIP2 = 0, 8, 12
_ENCRYPTED_METHOD = -2


def scan_zip(found: Found, archive: RandomAccess) -> None:
    """Find the members of an archive by its directory; nothing is unpacked.

    Raises:
        UserError: it is damaged.
    """
    try:
        with zipfile.ZipFile(archive.path) as opened:
            for one in opened.infolist():
                if not one.is_dir():
                    name = os.fsencode(one.filename)
                    name = name if b"/" in name else name.replace(b"\\", b"/")  # as some programs on Windows write
                    method = _ENCRYPTED_METHOD if one.flag_bits & _ENCRYPTED else one.compress_type
                    found.add(name, one.header_offset, one.compress_size, one.file_size, method, one.CRC)
    except (OSError, ValueError, NotImplementedError, struct.error, zipfile.BadZipFile) as error:
        raise UserError(f"{printable(archive.path)} can't be read as a zip archive: {error}") from error


def read_zip(archive: RandomAccess, place: Place) -> bytes:
    """Return a member's bytes.

    Raises:
        OSError: it is damaged, encrypted or compressed by another method than deflate and bzip2.
    """
    if place.length > BYTES_LIMIT:
        raise OSError(errno.EFBIG, f"{place.length:,} bytes, more than {BYTES_LIMIT:,}")
    if place.method not in (_PLAIN, _DEFLATED, _BZIP2):
        by = "encrypted" if place.method == _ENCRYPTED_METHOD else f"compressed by zip's method {place.method}"
        raise OSError(errno.EOPNOTSUPP, f"{by}; pack it with deflate, or without compression")
    read = archive.read(place.offset, _HEADER.size + _SPARE + place.stored)
    if len(read) < _HEADER.size or read[:4] != b"PK\3\4":
        raise OSError(errno.EIO, "damaged archive: there is no member where its directory has one")
    _, name, extra = _HEADER.unpack_from(read)
    start = _HEADER.size + name + extra
    packed = read[start : start + place.stored]
    if len(packed) < place.stored:
        packed = archive.read(place.offset + start, place.stored)
    data = _unpacked(packed, place)
    if len(data) != place.length or zlib.crc32(data) != place.checksum:
        raise OSError(errno.EIO, "damaged in the archive: its checksum is another")
    return data


def _unpacked(packed: bytes, place: Place) -> bytes:
    if place.method == _PLAIN:
        return packed
    try:
        if place.method == _BZIP2:
            return bz2.BZ2Decompressor().decompress(packed, place.length)
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, max(1, place.length))  # 0: no limit
    except (zlib.error, OSError, ValueError, EOFError) as error:
        raise OSError(errno.EIO, f"damaged in the archive: {error}") from error
