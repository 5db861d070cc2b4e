"""Loops over pixels as machine code, cached on disk so that a second process does not compile them again."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

try:
    import numba as _numba
except ImportError:  # a platform that it doesn't support: `on_device.py` does the same in a slower way
    _numba = None

_compiler: Any = _numba
_F = TypeVar("_F", bound=Callable[..., Any])


def compiled(**options: Any) -> Callable[[_F], _F]:
    """Compile a function at its first call; the functions that it calls must be in its own file.

    The cached code of a function is compiled anew when its file changes, and only then.

    Args:
        options: numba's.
    """

    def decorate(function: _F) -> _F:
        if _compiler is None:
            return function
        # nogil: threads run it in parallel. numpy's errors: no loop checks whether it divides by zero.
        chosen: dict[str, Any] = {"nogil": True, "error_model": "numpy", **options}
        try:
            return cast(_F, _compiler.njit(cache=True, **chosen)(function))
        except RuntimeError:  # neither the package's folder nor the user's cache can be written to
            return cast(_F, _compiler.njit(**chosen)(function))

    return decorate


def is_compiled() -> bool:
    """Return whether compiled functions are fast; without numba they are plain Python."""
    return _compiler is not None and not _compiler.config.DISABLE_JIT
