"""The command line: call a command, answer with an exit code and no traceback for the user's mistakes.

Imports nothing that takes time, so that an interrupt is answered from the first moment.
"""

import atexit
import errno
import os
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from io import TextIOWrapper
from types import FrameType
from typing import Any

INTERRUPTED = 130
"""the exit code"""


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 2 the user's words or files are at fault, 130 interrupted, 1 anything else."""
    end = _QuickEnd() if arguments is None else None
    with _signals(forever=arguments is None):
        words = sys.argv[1:] if arguments is None else arguments
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):  # a path that is not text, or a terminal that has no letter α
                stream.reconfigure(errors="backslashreplace")
        debug = "--debug" in words
        words = [word for word in words if word != "--debug"]  # for every command, wherever it stands
        code = _guarded(words, debug=debug)
    if end is not None:
        end.code = code
    sys.exit(code)


class _QuickEnd:
    """Ends the process without freeing what torch and others have made, object by object, which takes seconds.

    As the first function that is registered for the end it is the last that is called.
    """

    code = 1
    """of an exception that nobody caught"""

    def __init__(self) -> None:
        self.process = os.getpid()
        atexit.register(self.end)

    def end(self) -> None:
        """Write what is still held back, and exit."""
        if os.getpid() != self.process:
            return
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):  # closed: Python's own end has an exit code for it
            return
        os._exit(self.code)


@contextmanager
def _signals(*, forever: bool) -> Generator[None]:
    """Answer SIGINT and SIGTERM by an interrupt; only the main thread may set handlers.

    Args:
        forever: the process ends with the command, and what is still pending must not be interrupted.
    """
    handlers: dict[int, Any] = {signal.SIGINT: _interrupt, signal.SIGTERM: _interrupt}
    if "SLURM_JOB_ID" in os.environ:
        handlers[signal.SIGUSR1] = _ask_again  # launcher.REQUEUE
    try:
        old = {one: signal.signal(one, handler) for one, handler in handlers.items()}
    except ValueError:
        old = {}
    try:
        yield
    finally:
        for one, handler in old.items():
            signal.signal(one, signal.SIG_IGN if forever else handler)


def _interrupt(_: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; but end at once in the middle of an import, which may turn it into other exceptions."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            if os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0":
                os.write(2, b"gemel: interrupted\n")
            os._exit(INTERRUPTED)
        frame = frame.f_back
    raise KeyboardInterrupt


def _ask_again(*_: Any) -> None:
    """Ask for the job again where SLURM's time is over and nothing is being trained; what stands is kept."""
    from gemel.launcher import is_first, requeue

    if is_first():
        requeue()
    raise KeyboardInterrupt


def _guarded(words: list[str], *, debug: bool) -> int:
    try:
        from gemel.cli.app import app

        return _exit_code(lambda: app(words, standalone_mode=False), debug=debug)
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED


def _exit_code(command: Callable[[], Any], *, debug: bool) -> int:
    import traceback

    import typer

    from gemel.errors import Diverged, Interrupted, UserError, brief, is_out_of_memory, system_words

    usage_error: Any = typer.BadParameter.__bases__[0]  # of click, which Typer depends on or carries with it
    try:
        code = int(command() or 0)
        if code == INTERRUPTED:  # Typer's own answer to Ctrl-C, which it gives without a word
            _complain("interrupted")
        return code
    except UserError as error:
        if debug:
            traceback.print_exc()
        for mistake in error.mistakes:
            _complain(mistake)
        return 2
    except usage_error as error:
        _complain(error.format_message())
        return 2
    except (Interrupted, typer.Abort) as error:
        _complain(str(error) or "interrupted")
        return INTERRUPTED
    except (Diverged, OSError) as error:
        if debug:
            traceback.print_exc()
        _complain(system_words(error) if isinstance(error, OSError) else error)
        return 2 if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG else 1
    except (MemoryError, RuntimeError) as error:
        if debug or not is_out_of_memory(error):
            raise
        advice = "choose a smaller network, --batch-size or --image-size"
        _complain(f"not enough memory ({brief(str(error))}); {advice}")
        return 2


def _complain(text: object) -> None:
    """Print an error; the first of several processes speaks for all."""
    from gemel.launcher import is_first

    if is_first():
        print(f"gemel: {text}", file=sys.stderr)
