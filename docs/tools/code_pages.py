"""Pages of the reference: every command's help, and the functions of the front door."""

from contextlib import redirect_stdout, suppress
from io import StringIO

import gemel
from gemel.cli.app import app
from gemel.cli.main import main

CLASSES = ("Run", "UserError")


def commands() -> str:
    """Return the page of the commands: what each prints for --help."""
    lines = [
        *("# Commands", ""),
        "What `gemel COMMAND --help` prints. Exit codes: 0 done; 2 the words or files are at fault, and every mistake",
        "is listed; 130 interrupted, with a checkpoint written; 1 anything else.",
        *("", "```text", _printed("--help"), "```"),
    ]
    for command in app.registered_commands:
        lines += ["", f"## gemel {command.name}", "", "```text", _printed(str(command.name), "--help"), "```"]
    return "\n".join(lines) + "\n"


def front_door() -> str:
    """Return the page of the front door, each function from its docstring."""
    lines = [
        *("# Python", ""),
        "`import gemel` is instant: each function brings what it needs when it is called. The words are those of the",
        "command line, and so are the checks; mistakes raise `gemel.UserError`.",
        *("", "## Functions", ""),
    ]
    for name in gemel.__all__:
        if name not in CLASSES:
            lines += [f"::: gemel.{name}", ""]
    lines += ["## Classes", "", "::: gemel.Run", "    options:", "      members: true", "", "::: gemel.UserError", ""]
    return "\n".join(lines)


def _printed(*words: str) -> str:
    shown = StringIO()
    with redirect_stdout(shown), suppress(SystemExit):
        main(list(words))
    return shown.getvalue().strip()
