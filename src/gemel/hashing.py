"""Hashes that name what a result depends on: a question, the tensors of a network, a list of byte strings."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def hash_of(parts: Iterable[bytes | memoryview], length: int = 64) -> str:
    """Return the first `length` hexadecimal digits of SHA-256 over byte strings, each with its length before it.

    >>> hash_of([b"ab", b"c"], 8) == hash_of([b"a", b"bc"], 8)
    False
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()[:length]


def hash_of_question(question: Any, length: int = 24) -> str:
    """Return a hash of numbers, strings, lists and mappings; the order of a mapping's keys does not count.

    >>> hash_of_question({"k": 20, "data": "digits"}) == hash_of_question({"data": "digits", "k": 20})
    True
    """
    return hash_of([json.dumps(question, sort_keys=True, default=str).encode()], length)


def hash_of_tensors(tensors: Mapping[str, "Tensor"]) -> str:
    """Return a hash of names, types, shapes and values, in their order: that of a network's `state_dict()`."""
    import torch

    def parts() -> Iterable[bytes | memoryview]:
        for name, value in tensors.items():
            yield f"{name} {value.dtype} {tuple(value.shape)}".encode()
            yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data

    return hash_of(parts())
