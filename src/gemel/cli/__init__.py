"""The command line, one file a command; `main` reads the arguments and ends with an exit code."""

from gemel.cli.main import main

__all__ = ["main"]
