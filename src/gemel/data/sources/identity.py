"""Which image it is."""

import os

from gemel.data.sources.base import Source
from gemel.hashing import hash_of


def fingerprint(source: Source) -> str:
    """Return the hash of the images' paths, in their order."""
    return hash_of(os.fsencode(source.path(index)) + b"\0" for index in range(len(source)))
