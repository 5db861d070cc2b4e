"""Work in parts on threads of their own, where operations are too small for two threads to share one."""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


@contextmanager
def threads_apart() -> Generator[ThreadPoolExecutor]:
    """Return as many threads as torch has; below, each operation of torch takes one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)
