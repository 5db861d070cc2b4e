"""What a run's folder says of its method: title, readings of the loss terms, advice; no method is imported."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gemel.published import everything, form_of
from gemel.reports.formatting import sentence


class MethodFacts(NamedTuple):
    """A run's method, as environment.json describes it."""

    name: str
    """as in run.yaml: of its file"""
    title: str
    terms: Mapping[str, str]
    """how to read each term of the loss"""
    advice: Mapping[str, str]
    """what to try, by kind of finding of the health verdict"""


def method_facts(settings: Mapping[str, Any], environment: Mapping[str, Any]) -> MethodFacts:
    """Return what is recorded of a run's method.

    A run that recorded nothing gets the title that papers print, else the file's name; its terms have no reading.

    Args:
        settings: as in run.yaml.
        environment: as in environment.json.
    """
    name = section_name(settings.get("method"))
    recorded = environment.get("method")
    found: Mapping[str, Any] = recorded if isinstance(recorded, Mapping) else {}
    title = found.get("title")
    return MethodFacts(
        name,
        title if isinstance(title, str) and title else _printed(Path(name).stem),
        _texts(found.get("terms")),
        _texts(found.get("advice")),
    )


def section_name(section: Any) -> str:
    """Return the name of a section of run.yaml, which may be the bare name."""
    return str(section.get("name", "")) if isinstance(section, Mapping) else str(section or "")


def _printed(name: str) -> str:
    """Return the spelling of the published results where they know the method, else the words of its file's name."""
    spelled = next((row.method for row in everything() if form_of(row.method, name) == ""), None)
    return spelled or sentence(name.replace("_", " "))


def _texts(found: Any) -> dict[str, str]:
    pairs = found.items() if isinstance(found, Mapping) else ()
    return {str(key): value for key, value in pairs if isinstance(value, str)}
