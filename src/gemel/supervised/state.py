"""The state of a fit that has not ended: one file, which is gone at the end."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gemel.data.sources.identity import version_key
from gemel.distributed import rank
from gemel.engine.checkpoints import read_tensors, written
from gemel.errors import UserError
from gemel.hashing import hash_of, hash_of_question
from gemel.runs.files import write_atomically
from gemel.supervised.images import Labelled

KEYS = ("done", "network", "heads", "optimizer", "history", "rejected", "precision")


class StateFile:
    """evaluations/.fit-<hash of the question>.ckpt: another question never continues from it.

    Args:
        folder: the subject's.
        question: everything that the fit's outcome depends on.
        keys: what a state must hold.
    """

    def __init__(self, folder: Path, question: Mapping[str, Any], keys: Sequence[str] = KEYS) -> None:
        self._keys = keys
        self.path = folder / "evaluations" / f".fit-{hash_of_question(question, 16)}.ckpt"

    def read(self) -> dict[str, Any] | None:
        """Return the state; None if there is none. A damaged one is reported, and the fit starts anew."""
        if not self.path.is_file():
            return None
        try:
            state = read_tensors(self.path)
            missing = [key for key in self._keys if key not in state]
            if missing:
                raise UserError(f"{self.path} is no state of a fit: {', '.join(missing)} missing")
        except UserError as error:
            if rank() == 0:
                print(f"{error}; the fit starts anew", file=sys.stderr, flush=True)
            return None
        return state

    def write(self, state: Mapping[str, Any]) -> None:
        """Write tensors, numbers and strings; of several processes the first one writes.

        Raises:
            OSError: the disk is full, or refuses.
        """
        if rank() == 0:
            tensors = dict(state)
            write_atomically(self.path, lambda path: written(lambda: torch.save(tensors, path), self.path))

    def remove(self) -> None:
        """Delete the file, as the fit has ended."""
        if rank() == 0:
            self.path.unlink(missing_ok=True)


def hash_of_images(images: Labelled) -> str:
    """Return a hash of the images as they are and are decoded, and of their labels."""
    source = images.source
    facts = (version_key(source), *source.decoding)
    return hash_of([repr(facts).encode(), images.indices.tobytes(), images.labels.tobytes()])
