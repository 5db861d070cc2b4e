"""Methods: the folder is the list; `find("twist")` imports twist.py and takes its one Method."""

import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from inspect import isabstract, isclass
from pathlib import Path
from typing import TYPE_CHECKING

from gemel.errors import UserError

if TYPE_CHECKING:
    from gemel.methods.base import Method
    from gemel.settings.recipes import Recipe


def available() -> list[str]:
    """Names of the methods, read from the folder without importing them."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in ("__init__", "base"))


def find(name: str) -> "type[Method]":
    """The method of a file here, or of a user's own file (`./mine.py`).

    Raises:
        UserError: there is none.
    """
    if name.endswith(".py"):
        module = _import_file(Path(name))
    elif name in available():
        module = import_module(f"gemel.methods.{name}")
    else:
        raise UserError(f"--method {name!r} is unknown; there are {', '.join(available())}, or a file like ./mine.py")
    from gemel.methods.base import Method

    found = [one for one in vars(module).values() if isclass(one) and issubclass(one, Method) and not isabstract(one)]
    found = [one for one in found if one.__module__ == module.__name__]
    if len(found) != 1:
        raise UserError(f"{name} holds {len(found)} methods; one class that derives from Method is needed")
    return found[0]


def find_recipe(words: str) -> "tuple[str, Recipe]":
    """The recipe of `twist/resnet50`, or the first of `twist`, with its name.

    Raises:
        UserError: there is no such method or recipe.
    """
    from gemel.settings.recipes import split_name  # brings pydantic, which the list of methods does without

    name, wanted = split_name(words)
    recipes = find(name).recipes
    if wanted and wanted not in recipes:
        known = ", ".join(f"{name}/{one}" for one in recipes)
        raise UserError(f"--method {words} is unknown; there are {known}")
    chosen = wanted or next(iter(recipes))
    return chosen, recipes[chosen]


def _import_file(path: Path):
    if not path.is_file():
        raise UserError(f"--method {path} is not a file; give a method's name or a Python file that holds one")
    name = f"gemel_user_{path.stem}"  # a file called random.py must not stand in for Python's own
    spec = spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # so that classes of the file can be pickled for worker processes
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError, NameError, TypeError) as error:
        raise UserError(f"--method {path} can't be imported: {type(error).__name__}: {error}") from error
    return module
