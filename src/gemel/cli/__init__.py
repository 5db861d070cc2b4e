"""The command line, one file a command; `main` reads the arguments and answers with an exit code."""

from gemel.cli.main import main

__all__ = ["main"]
