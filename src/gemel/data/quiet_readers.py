"""What image readers say of odd files is kept from the user, in whatever threads they read."""

import logging
import os
import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

_READERS = r"(PIL|tifffile|pydicom)\b"
_lock = threading.Lock()
_decoding = 0
_filters: list[Any] = []
_loggers = [logging.getLogger(name) for name in ("PIL", "tifffile", "pydicom")]
_no_lines = logging.NullHandler()


@contextmanager
def quiet_readers() -> Generator[None]:
    """Keep the readers' warnings and log lines of odd files from the user, who gets an image or a reason.

    Filters and handlers belong to the process, and others may save and restore them meanwhile. So the first one to
    enter adds one of each, and the last one to leave removes these, and nothing else.
    """
    global _decoding, _filters
    with _lock:
        if not _decoding:
            warnings.filterwarnings("ignore", module=_READERS)
            _filters = _warning_filters()
            for logger in _loggers:
                logger.addHandler(_no_lines)  # with a handler Python prints nothing on its own
        _decoding += 1
    try:
        yield
    finally:
        with _lock:
            _decoding -= 1
            if not _decoding:
                for logger in _loggers:
                    logger.removeHandler(_no_lines)
                for filters in (_filters, _warning_filters()):
                    filters[:] = [one for one in filters if getattr(one[3], "pattern", None) != _READERS]


def _warning_filters() -> list[Any]:
    return cast(list[Any], warnings.filters)


def _reset_after_fork() -> None:
    global _lock, _decoding
    _lock, _decoding = threading.Lock(), 0


if hasattr(os, "register_at_fork"):  # a worker forked while another thread held the lock would wait for ever
    os.register_at_fork(after_in_child=_reset_after_fork)
