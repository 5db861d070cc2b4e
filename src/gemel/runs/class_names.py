"""Names of discovered classes, kept in RUN/classes.yaml; classes of the same name count as one."""

from collections.abc import Mapping, Sequence

import yaml

from gemel.errors import UserError, brief
from gemel.runs.files import write_text
from gemel.runs.run import Run
from gemel.settings.config_file import read_mapping

FILE = "classes.yaml"
LONGEST = 100
"""characters of a name"""


def read_names(run: Run) -> dict[int, str]:
    """Return the name of each named class by its number.

    Raises:
        UserError: the file is no mapping of class numbers to names.
    """
    path = run.path / FILE
    if not path.is_file():
        return {}
    try:
        found = read_mapping(path, "`3: cat`", keys=(str, int))
    except UserError as error:
        raise UserError(f"{path} {error}") from error
    wrong = [f"{path}: {mistake}" for key, name in found.items() if (mistake := mistake_in_name(key, name))]
    if wrong:
        raise UserError(*wrong)
    return {int(key): str(name).strip() for key, name in found.items()}


def write_names(run: Run, names: Mapping[int, str]) -> None:
    """Write the names that later calls of classify and the report show."""
    lines = "# class: name; classes of the same name count as one. Written by gemel classify; edit it as you like.\n"
    shown = dict(sorted(names.items()))
    write_text(run.path / FILE, lines + yaml.safe_dump(shown, sort_keys=False, allow_unicode=True))


def renamed(names: Mapping[int, str], words: Sequence[str]) -> dict[int, str]:
    """Return names changed by words like `3=cat`; `3=` removes the name.

    >>> renamed({1: "dog", 3: "car"}, ["3=cat", "5=cat", "1="])
    {3: 'cat', 5: 'cat'}

    Raises:
        UserError: with every word that is not of this form.
    """
    found, wrong = dict(names), list[str]()
    for word in words:
        number, sign, name = word.partition("=")
        mistake = f"{brief(word)!r} is not of the form CLASS=NAME" if not sign else ""
        mistake = mistake or mistake_in_name(number, name or "none")
        if mistake:
            wrong.append(f"--rename: {mistake}")
        elif name.strip():
            found[int(number)] = name.strip()
        else:
            found.pop(int(number), None)
    if wrong:
        raise UserError(*wrong)
    return found


def check_numbers(names: Mapping[int, str], classes: int) -> None:
    """Check class numbers against the number of classes.

    Raises:
        UserError: there is no such class.
    """
    beyond = [str(number) for number in names if number >= classes]
    if beyond:
        raise UserError(f"class {', '.join(beyond)} was named; there are classes 0 to {classes - 1}")


def mistake_in_name(number: str, name: object) -> str:
    """Return what is wrong with the number or the name of a class; empty where nothing is."""
    if not number.strip().isdecimal() or len(number) > 9:
        return f"{brief(number)!r} is not the number of a class"
    if isinstance(name, bool):  # as YAML reads no, yes, on and off
        return f"the name of class {number} is read as {name}; put it in quotes"
    if isinstance(name, str) and name != name.encode("utf-8", "ignore").decode():
        return f"the name of class {number} holds half of a character: {brief(name)}"
    if not isinstance(name, str | int | float) or not 0 < len(str(name).strip()) <= LONGEST:
        return f"the name of class {number} must have 1 to {LONGEST} characters, not {brief(name)}"
    return ""
