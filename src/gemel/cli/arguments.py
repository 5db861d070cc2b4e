"""A command's signature is its schema: its words are read by the one checker, its help is made from the docstring."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_origin

import typer

from gemel.errors import UserError

RAW = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""arguments are passed on as they are typed"""

Functions = Callable[[Sequence[str]], Sequence[Callable[..., Any]]]
Checks = Mapping[str, Callable[[str], object]]


def add(
    app: typer.Typer,
    function: Callable[..., None],
    name: str = "",
    *,
    takes: Functions = lambda words: (),
    checks: Checks | None = None,
    explain: Callable[[], str] | None = None,
) -> None:
    """Add a command to the app.

    Args:
        app: of all commands.
        function: does the work; positional arguments are bare words, keyword-only ones are flags, and a list among
            the positional ones takes all words that are left.
        name: of the command; left out: the function's.
        takes: further functions, from the words, whose keyword-only arguments are flags too, for `**options`;
            without words, those that every call has.
        checks: by argument, what raises UserError for a value of the right type.
        explain: returns the help, where the docstring is not enough.
    """

    def run(context: typer.Context) -> None:
        if asks_help(context.args):
            print(explain() if explain else help_of(function, name or function.__name__, takes(context.args)))
        else:
            function(**_read(function, name or function.__name__, context.args, takes, checks or {}))

    add_raw(app, run, name or function.__name__, (function.__doc__ or "").partition("\n")[0])


def add_raw(app: typer.Typer, function: Callable[[typer.Context], None], name: str, line: str) -> None:
    """Add a command that reads its own words; `line` is its help among all commands."""
    app.command(name, short_help=line, context_settings=RAW)(function)


def asks_help(arguments: Sequence[str]) -> bool:
    """Return whether a command that reads its own words was asked for help."""
    return "--help" in arguments or "-h" in arguments


def help_of(function: Callable[..., None], name: str, more: Sequence[Callable[..., Any]] = ()) -> str:
    """Return the help of a command: its usage, its words and its flags."""
    from gemel.settings.schema import argument_helps, describe, schema_of

    helps = argument_helps(function)
    lines = [f"Usage: {_usage(function, name)}", "", (function.__doc__ or "").partition("\n")[0], ""]
    lines += [f"  {word.upper():22} {helps.get(key, '')}" for key, word in _words(function).items()]
    rows = [row for one in (function, *more) for row in describe(schema_of(one)) if row[0] != "quiet"]
    return "\n".join([*lines, *option_lines(rows)])


def option_lines(rows: Sequence[tuple[str, str, str, str]], indent: str = "  ") -> list[str]:
    """Return one line of help for each row of a schema's description."""
    shown = [(key, "" if default == "False" else default.strip("[]"), meaning) for key, _, default, meaning in rows]
    return [
        f"{indent}--{key.replace('_', '-'):20} {meaning}{f' [{default}]' if default else ''}"
        for key, default, meaning in shown
    ]


def ends_in(*endings: str, option: str = "--out") -> Callable[[str], None]:
    """Return a check of a file to write: its ending, its folder, and that it can be written."""

    def check(text: str) -> None:
        from gemel.runs.output_paths import check_suffix

        check_suffix(Path(text), *endings, option=option)

    return check


def is_run(text: str) -> None:
    """Check that a run stands in a folder."""
    from gemel.runs.run import Run

    Run(text)


def _read(
    function: Callable[..., None], name: str, arguments: Sequence[str], takes: Functions, checks: Checks
) -> dict[str, Any]:
    """Return the values of a command's words in their types.

    Raises:
        UserError: with every mistake in them.
    """
    from gemel.settings.schema import mistakes_in, schema_of, typed
    from gemel.settings.tree import layer_of_flags

    words = _words(function)
    more: Sequence[Callable[..., Any]] = ()
    mistakes: list[str] = []
    try:
        more = takes(arguments)
    except UserError as error:
        mistakes += error.mistakes
        more = takes(())
    schemas = [schema_of(function, positional=True), *map(schema_of, more)]
    layer = layer_of_flags(arguments, list(words.values()), *schemas)
    fields = {key: field for schema in schemas for key, field in schema.model_fields.items() if key != "quiet"}
    known = [key for key in layer.values if key in fields or not mistakes]  # other keys may be what `takes` failed on

    def spell(key: str) -> str:
        return key.upper() if key in words else layer.spell(key)

    title = str(layer.values.get("protocol", name))
    mistakes += layer.mistakes
    wrong = {key: mistakes_in({key: layer.values[key]}, fields, spell, title=title) for key in known}
    for key, check in checks.items():
        if key in layer.values and not wrong.get(key):
            try:
                check(layer.values[key])
            except UserError as error:
                mistakes += error.mistakes
    mistakes += [line for lines in wrong.values() for line in lines]
    missing = [spell(key) for key, field in fields.items() if field.is_required() and key not in layer.values]
    if missing:
        mistakes.append(f"{' and '.join(missing)} missing; {_usage(function, name)}")
    if mistakes:
        raise UserError(*mistakes)
    return typed(layer.values, fields)


def _words(function: Callable[..., None]) -> dict[str, str]:
    """Return the keys of the bare words as `layer_of_flags` takes them."""
    return {
        key: f"{key}..." if get_origin(one.annotation) is list else key
        for key, one in inspect.signature(function).parameters.items()
        if one.kind is one.POSITIONAL_OR_KEYWORD
    }


def _usage(function: Callable[..., None], name: str) -> str:
    parts: list[str] = []
    for key, one in inspect.signature(function).parameters.items():
        required = one.default is one.empty
        if one.kind is one.POSITIONAL_OR_KEYWORD:
            word = _words(function)[key].upper()
            parts.append(word if required else f"[{word}]")
        elif one.kind is one.KEYWORD_ONLY and required:
            parts.append(f"--{key} {key.upper()}")
    return f"gemel {name} {' '.join(parts)} [OPTIONS]"
