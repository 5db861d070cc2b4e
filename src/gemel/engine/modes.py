"""Evaluation mode for the time of a block."""

from collections.abc import Generator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluation_mode(*modules: nn.Module) -> Generator[None]:
    """Put modules into evaluation mode; afterwards every submodule has the flag that it had before.

    A method may keep parts in evaluation mode while it trains (a teacher, a frozen backbone): `module.train()` would
    switch them on.
    """
    flags = [(part, part.training) for module in modules for part in module.modules()]
    try:
        for module in modules:
            module.eval()
        yield
    finally:
        for part, training in flags:
            part.training = training
