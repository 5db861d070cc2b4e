"""The caller's process, left as it was: threads, random state, warnings and loggers."""

import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager

import torch

from gemel.device import device

_NOISY = ("lightning_fabric", "lightning.fabric")
"""loggers whose notes on hardware and tips gemel gives itself, or that don't concern it"""


@contextmanager
def preserved() -> Generator[None]:
    """Run a block that seeds generators, sets threads and silences warnings; afterwards all is as it was."""
    threads = torch.get_num_threads()
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    generators = [device()] if device().type == "cuda" else []
    with torch.random.fork_rng(generators), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning_fabric")
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
