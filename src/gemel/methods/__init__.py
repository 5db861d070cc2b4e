"""Methods: the folder is the list; `find("twist")` imports twist.py and takes its one Method.

A user's own file is a method too. It is run only where the user names it in the call: the name in a run's settings, or
in a configuration file, may come from somebody else.
"""

import sys
import traceback
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from inspect import isabstract, isclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from gemel.errors import UserError, brief
from gemel.hashing import hash_of

if TYPE_CHECKING:
    from gemel.methods.base import Method
    from gemel.settings.recipes import Recipe


class MethodNotAllowed(UserError):
    """The method is a user's file that the call does not name."""


_loaded: dict[Path, tuple[str, ModuleType]] = {}
"""user's files that this process has run: hash of the content and module by path"""


def available() -> list[str]:
    """Return the names of the methods, read from the folder without importing them."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in ("__init__", "base"))


def find(name: str, *, named: bool = False) -> "type[Method]":
    """Return the method of a file here, or of a user's own file (`./mine.py`).

    Args:
        name: of the method or the file.
        named: the user named it in this call, so that a file may be run. Otherwise a file is found only if this
            process has run it already.

    Raises:
        MethodNotAllowed: the file may not be run.
        UserError: there is none, or something in the file is wrong.
    """
    if name.endswith(".py"):
        if not named and Path(name).resolve() not in _loaded:
            raise MethodNotAllowed(
                f"the method is the Python file {brief(name)}, which is run only if the call names it; "
                f"add --method {brief(name)} if you trust the file"
            )
        return _method_in(_run(Path(name)) if named else _loaded[Path(name).resolve()][1], name)
    if name not in available():
        raise UserError(
            f"--method {brief(name)!r} is unknown; there are {', '.join(available())}, or a file like ./mine.py"
        )
    return _method_in(import_module(f"gemel.methods.{name}"), name)


def allow(file: str | Path, name: str) -> None:
    """Run a file that the user named in this call, as the method of a run.

    Args:
        file: as the user named it.
        name: of the run's method in its settings; the file may lie elsewhere now.

    Raises:
        UserError: the run's method is not a file, or something in the file is wrong.
    """
    if not name.endswith(".py"):
        raise UserError(
            f"--method {brief(str(file))}: the run's method is {name}, which is part of gemel; leave it out"
        )
    _method_in(_run(Path(file)), str(file))
    _loaded[Path(name).resolve()] = _loaded[Path(file).resolve()]


def find_recipe(words: str, *, named: bool = False) -> "tuple[str, Recipe]":
    """Return the recipe of `twist/resnet50`, or the first of `twist`, with its name.

    Args:
        words: a method, or METHOD/RECIPE.
        named: as for `find`.

    Raises:
        UserError: there is no such method or recipe.
    """
    from gemel.settings.recipes import split_name  # brings pydantic, which the list of methods does without

    name, wanted = split_name(words)
    recipes = find(name, named=named).recipes
    if wanted and wanted not in recipes:
        known = ", ".join(f"{name}/{one}" for one in recipes)
        raise UserError(f"--method {words} is unknown; there are {known}")
    chosen = wanted or next(iter(recipes))
    return chosen, recipes[chosen]


def _method_in(module: ModuleType, name: str) -> "type[Method]":
    from gemel.methods.base import Method

    found = [one for one in vars(module).values() if isclass(one) and issubclass(one, Method) and not isabstract(one)]
    found = [one for one in found if one.__module__ == module.__name__]
    if len(found) != 1:
        raise UserError(f"{name} holds {len(found)} methods; one class that derives from Method is needed")
    return found[0]


def _run(path: Path) -> ModuleType:
    """Run a user's file, once for each content."""
    place = path.resolve()
    if not place.is_file():
        raise UserError(f"--method {brief(str(path))} is not a file; give a method's name or a Python file with one")
    try:
        source = place.read_bytes()
    except OSError as error:
        raise UserError(f"--method {brief(str(path))} can't be read: {error.strerror}") from error
    content = hash_of([str(place).encode(errors="surrogateescape"), source], 12)
    if place in _loaded and _loaded[place][0] == content:
        return _loaded[place][1]
    # Not its own name: a file called random.py must not stand in for Python's, nor one mine.py for another.
    spec = spec_from_file_location(f"gemel_user_{path.stem}_{content}", place)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # so that classes of the file can be pickled for worker processes
    try:
        exec(compile(source, place, "exec"), vars(module))  # not by the loader, which leaves a cache beside the file
        _check_schema(module, str(path))
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        del sys.modules[spec.name]
        if isinstance(error, UserError):
            raise
        raise UserError(f"--method {brief(str(path))} can't be imported: {_where(error, place)}") from error
    _loaded[place] = content, module
    return module


def _check_schema(module: ModuleType, name: str) -> None:
    """Read the constructor's annotations now, where a mistake in them can be told."""
    from gemel.settings.schema import schema_of

    schema_of(_method_in(module, name))


def _where(error: BaseException, path: Path) -> str:
    """Return line, kind and text of an error in a user's file, on one line."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    text = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
    return f"{f'line {line}: ' if line else ''}{type(error).__name__}: {brief(text)}"
