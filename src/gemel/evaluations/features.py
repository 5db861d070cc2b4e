"""One pass over a data set: features, and class probabilities where the method has classes; kept, and taken up again.

The rows lie in files of the subject's folder, mapped into memory: more images than memory holds can be seen, the
same question is answered at once, and an interrupted pass goes on where it stood.
"""

import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gemel.data.batches import InferenceLoader, default_workers
from gemel.data.listing import printable
from gemel.data.normalise import Normalise
from gemel.data.sources import Source
from gemel.distributed import rank, wait_for_all, world_size
from gemel.errors import UserError
from gemel.evaluations.base import Progress, Subject
from gemel.evaluations.feature_cache import Store, key_of, tensors_of

SHOWN = 5
"""unreadable images that are named"""

CHUNK = 4096
"""images after which what was seen is safe on the disk"""


@dataclass(frozen=True)
class Seen:
    """What a network made of the readable images of a source, in their order.

    Args:
        source: the images.
        places: (N,) places in the source.
        features: (N, width) float32, mapped from a file: writing to it changes no file.
        probabilities: (N, C) float32, likewise; None for a method without classes.
        rejected: reasons of the unreadable ones, by place.
    """

    source: Source
    places: NDArray[np.int64]
    features: Tensor
    probabilities: Tensor | None
    rejected: dict[int, str]

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """(N,) -1 where unknown; None without labels."""
        return None if self.source.labels is None else self.source.labels[self.places]

    def at(self, places: NDArray[np.int64]) -> "Seen":
        """Of the images at these places of the source (as `hold_out` gives them) the readable ones, sorted."""
        rows = np.flatnonzero(np.isin(self.places, places))
        chosen = torch.from_numpy(rows)
        probabilities = None if self.probabilities is None else self.probabilities[chosen]
        return Seen(self.source, self.places[rows], self.features[chosen], probabilities, self.rejected)


def see(subject: Subject, source: Source, *, tell: Progress | None = None) -> Seen:
    """Run the inference crop of every image through the subject's network in evaluation mode.

    Kept in FOLDER/cache/features by a hash of the network's tensors, the images' paths, sizes and times, and the crop;
    what is there already is read, what is damaged is made anew. Of several processes each sees a contiguous share of
    the images; all return the same rows, each image once.

    Args:
        subject: the network; where it has a method, its class probabilities too.
        source: the images.
        tell: told after each batch.

    Raises:
        UserError: no image can be read, or the network changed while it looked.
    """
    before = tensors_of(subject)
    shape = len(source), int(subject.facts["width"]), _class_count(subject)
    key = key_of(before, subject.facts, source)
    store = Store(subject.folder, key, *shape)
    if world_size() == 1 and not store.finished and not store.writable:
        with TemporaryDirectory() as spare:  # its files stay readable while they are mapped
            return _seen(subject, source, Store(Path(spare), key, *shape), before, tell)
    return _seen(subject, source, store, before, tell)


def _seen(subject: Subject, source: Source, store: Store, before: str, tell: Progress | None) -> Seen:
    if rank() == 0:
        store.prepare()
    wait_for_all()
    if not store.finished:
        _pass(subject, source, store, tell)
        if tensors_of(subject) != before:
            raise UserError(f"{subject.name} changed while it was judged; its features are worth nothing")
        wait_for_all()
        if rank() == 0:
            store.finish()
        wait_for_all()
    features, probabilities, places, rejected = store.read()
    if not len(places):
        raise UserError(f"none of the {len(source)} images of {printable(source.name)} can be read")
    return Seen(source, places, features, probabilities, rejected)


def labelled(seen: Seen, *, classes: int = 2) -> tuple[Tensor, Tensor]:
    """Features and labels of the images whose label is known; nothing is copied where all are.

    Args:
        seen: what was seen.
        classes: different labels that the protocol needs at least.

    Raises:
        UserError: fewer than two labels, fewer classes, or features that are not finite.
    """
    labels = seen.labels
    known = np.zeros(0, bool) if labels is None else labels >= 0
    if labels is None or known.sum() < 2:
        raise UserError(
            f"{seen.source.name} has {int(known.sum())} labels; give --labels folders (the first folder below it) "
            "or --labels FILE.csv (path,label)"
        )
    if len(np.unique(labels[known])) < classes:
        raise UserError(
            f"all {int(known.sum())} labelled images of {seen.source.name} are of one class; scores need two or more"
        )
    features = seen.features if known.all() else seen.features[torch.from_numpy(known)]
    if not all(bool(torch.isfinite(rows).all()) for rows in features.split(CHUNK)):
        raise UserError("the features hold numbers that are not finite; the training diverged")
    return features, torch.from_numpy(labels[known])


def rejected_in(*passes: Seen | None) -> int:
    """How many images could not be read."""
    return sum(len(seen.rejected) for seen in passes if seen is not None)


def say_unreadable(seen: Seen, quiet: bool) -> None:
    """Which images have no row, unless nothing is to be printed."""
    if quiet or rank() != 0 or not seen.rejected:
        return
    first = [f"{printable(seen.source.path(place))} ({why})" for place, why in list(seen.rejected.items())[:SHOWN]]
    more = f", and {len(seen.rejected) - SHOWN} more" if len(seen.rejected) > SHOWN else ""
    print(f"{len(seen.rejected)} of {len(seen.source)} images can't be read and are left out: {', '.join(first)}{more}")


def printed(quiet: bool) -> Progress | None:
    """A line every ten seconds, with the time left; None where nothing is to be printed."""
    if quiet or rank() != 0:
        return None
    begun = shown = monotonic()
    first = -1

    def tell(done: int, count: int) -> None:
        nonlocal shown, first, begun
        now = monotonic()
        if first < 0 or done < first:  # of another pass
            first, begun = done, now
        if now - shown > 10.0:
            shown = now
            left = (now - begun) / max(1, done - first) * (count - done)
            print(f"{done} of {count}, {left:.0f} s left", file=sys.stderr, flush=True)

    return tell


def _pass(subject: Subject, source: Source, store: Store, tell: Progress | None) -> None:
    """See the images of this process's share that nobody has seen yet."""
    share = np.array_split(np.arange(len(source)), world_size())[rank()]
    left = share[store.unseen(share)]
    done = len(share) - len(left)
    for chunk in (left[start : start + CHUNK] for start in range(0, len(left), CHUNK)):
        loader = InferenceLoader(
            source,
            size=int(subject.facts["size"]),
            glyph=subject.facts["views"] == "glyph",
            workers=default_workers(source),
            indices=chunk.tolist(),
        )
        for index, features, probabilities in _look(subject, loader):
            store.put(index, features, probabilities)
            if tell is not None:
                tell(done + int(np.searchsorted(chunk, index[-1])) + 1, len(share))
        done += len(chunk)
        store.settle(chunk, loader.rejected)


def _look(
    subject: Subject, loader: InferenceLoader
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32] | None]]:
    """Places, features and class probabilities, batch by batch."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    normalise = Normalise(subject.facts["mean"], subject.facts["std"]).to(device)
    with judging(subject, device):
        for views, index in loader:
            with torch.inference_mode():
                features = subject.network(normalise(views.to(device)))
                classes = None if subject.method is None else subject.method.classify(features)
            yield (
                index.numpy(),
                features.detach().float().cpu().numpy(),
                None if classes is None else classes.detach().float().cpu().numpy(),
            )


@contextmanager
def judging(subject: Subject, device: torch.device) -> Generator[None]:
    """The network and the method in evaluation mode on a device; afterwards as they were, where they were."""
    parts = [subject.network] if subject.method is None else [subject.network, subject.method]
    modes = [(module, module.training) for part in parts for module in part.modules()]
    homes = [next((tensor.device for tensor in part.state_dict().values()), device) for part in parts]
    try:
        for part in parts:
            part.eval().to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        yield
    finally:
        for part, home in zip(parts, homes, strict=True):
            part.to(home)
        for module, training in modes:
            module.training = training


def _class_count(subject: Subject) -> int | None:
    if subject.method is None:
        return None
    home = next((tensor.device for tensor in subject.method.state_dict().values()), torch.device("cpu"))
    with judging(subject, home), torch.inference_mode():
        classes = subject.method.classify(torch.zeros(1, int(subject.facts["width"]), device=home))
    return None if classes is None else classes.shape[1]
