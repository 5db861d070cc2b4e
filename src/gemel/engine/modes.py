"""Training or evaluation mode for the time of a block."""

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager

from torch import nn


@contextmanager
def in_mode(training: bool, *modules: nn.Module) -> Generator[None]:
    """Put modules into a mode; afterwards every submodule has the flag that it had before.

    A method may keep parts in evaluation mode while it trains (a teacher, a frozen backbone): `module.train()` would
    switch them on.
    """
    flags = [(part, part.training) for module in modules for part in module.modules()]
    try:
        for module in modules:
            module.train(training)
        yield
    finally:
        for part, mode in flags:
            part.training = mode


def evaluation_mode(*modules: nn.Module) -> AbstractContextManager[None]:
    """Put modules into evaluation mode, as `in_mode`."""
    return in_mode(False, *modules)
