"""Templates of the pages."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def rendered(template: str, **values: Any) -> str:
    """Return a template of this folder with its values.

    Paths, class names and reasons may hold any text: everything is escaped but our own drawings.
    """
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    """Return the environment that keeps the compiled templates; compiling takes longer than any rendering."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
