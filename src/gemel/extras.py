"""Packages that not every installation has: imported where they are needed, and named where they are missing."""

from importlib import import_module
from typing import Any

from gemel.errors import UserError


def extra(package: str, group: str, what: str) -> Any:
    """Return an optional package.

    Args:
        package: to be imported.
        group: of gemel's extras, which brings it.
        what: needs it, for the message.

    Raises:
        UserError: it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise UserError(f"{what} needs the package {package}: pip install 'gemel[{group}]'") from error
