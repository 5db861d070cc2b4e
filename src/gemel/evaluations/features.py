"""One pass over a dataset: features, and the most likely classes where the method has classes; cached, and resumed.

The rows lie in memory-mapped files of the subject's folder: there may be more images than memory holds, the same
question is answered at once, and an interrupted pass is continued. Probabilities are never held for all images: of
ImageNet's 1.28 million and 32,768 classes they would take 168 GB, the eight most likely classes of each take 82 MB.
"""

import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gemel.data.batches import InferenceLoader, default_workers
from gemel.data.listing import printable
from gemel.data.normalise import Normalise
from gemel.data.sources import Source
from gemel.data.sources.identity import version_marks
from gemel.device import device
from gemel.distributed import merged, rank, world_size
from gemel.engine.frozen import Engine, Look, engine_for, frozen
from gemel.engine.modes import evaluation_mode
from gemel.engine.processes import by_the_first
from gemel.engine.progress import Display
from gemel.errors import UserError
from gemel.evaluations.base import Progress, Subject, frozen_subject
from gemel.evaluations.feature_cache import Columns, Store, key_of, look_of, tensors_of

SHOWN = 5
"""unreadable images that are named"""

CHUNK = 4096
"""images after which what was seen is safe on the disk"""

KEPT = 8
"""most likely classes of an image that are cached; more are computed again from its features"""


class Top(NamedTuple):
    """The most likely classes of each image, the most likely first."""

    probability: Tensor
    """(N, k) float32, mapped from a file; k = min(8, C)"""
    classes: Tensor
    """(N, k) int32, likewise"""
    class_count: int
    """C, the method's number of classes"""


@dataclass(frozen=True)
class Seen:
    """What a network made of the readable images of a source, in their order.

    Args:
        source: the images.
        indices: (N,) in the source.
        features: (N, width) float32, mapped from a file: writing to it changes no file.
        top: the most likely classes; None for a method without classes.
        rejected: reasons of the unreadable ones, by index.
    """

    source: Source
    indices: NDArray[np.int64]
    features: Tensor
    top: Top | None
    rejected: dict[int, str]

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """(N,) -1 where unknown; None without labels."""
        return None if self.source.labels is None else self.source.labels[self.indices]

    @property
    def classes(self) -> NDArray[np.int32] | None:
        """(N,) the most likely class of each image; None for a method without classes."""
        return None if self.top is None else self.top.classes[:, 0].numpy()

    def at(self, indices: NDArray[np.int64]) -> "Seen":
        """Return the readable ones of the images at these indices of the source (as `hold_out` gives them), sorted."""
        rows = np.flatnonzero(np.isin(self.indices, indices))
        chosen, top = torch.from_numpy(rows), self.top
        if top is not None:
            top = Top(top.probability[chosen], top.classes[chosen], top.class_count)
        return Seen(self.source, self.indices[rows], self.features[chosen], top, self.rejected)


def see(subject: Subject, source: Source, *, tell: Progress | None = None) -> Seen:
    """Run the inference crop of every image through the subject's network in evaluation mode.

    Cached in FOLDER/cache/features by a hash of the network's tensors, the images as they are on the disk, and the
    crop; what is there already is read, what is damaged is computed again. Each of several processes sees a contiguous
    share of the images; all return the same rows, each image once. While another command computes the same rows, this
    one waits for them.

    Args:
        subject: the network; where its method has classes, each image's most likely ones too.
        source: the images.
        tell: told after each batch.

    Raises:
        UserError: no image can be read, the network takes no such images, or it changed during the pass.
    """
    if subject.has_own_input:
        seen = see(frozen_subject(subject.network, subject.facts), source, tell=tell)
        return replace(seen, top=_top_of(subject, seen.features))
    _check_kind(subject, source)
    before, classes = tensors_of(subject), _class_count(subject)
    columns: Columns = {"features": (int(subject.facts["width"]), np.float32)}
    if classes is not None:
        columns |= {"probability": (min(KEPT, classes), np.float32), "classes": (min(KEPT, classes), np.int32)}
    key = by_the_first(lambda: key_of(before, subject.facts, source))
    look = look_of(before, subject.facts, source)
    store = Store(subject.folder, key, len(source), columns)
    marks = cache(lambda: version_marks(source))  # asked for on the first process, where there is something to do
    with ExitStack() as stack:
        if world_size() == 1 and not store.finished and not store.writable:
            spare = stack.enter_context(TemporaryDirectory())  # its files stay readable while they are mapped
            store = Store(Path(spare), key, len(source), columns)
        begun = by_the_first(lambda: _begun(subject, store, stack, lambda parts: store.adopt(look, marks(), parts)))
        if begun is not None:
            parts, engine = begun
            written = merged(_pass(subject, source, store, parts, engine, tell))
            if tensors_of(subject) != before:
                raise UserError(f"{subject.name} changed while it was judged; its features are worth nothing")
            by_the_first(lambda: store.finish([*parts, *written.values()], look, marks()))
        rows, indices, rejected = store.read()
    if not len(indices):
        raise UserError(f"none of the {len(source)} images of {printable(source.name)} can be read")
    top = None if classes is None else Top(rows["probability"], rows["classes"], classes)
    return Seen(source, indices, rows["features"], top, rejected)


def _top_of(subject: Subject, features: Tensor) -> Top | None:
    """Return the most likely classes of images by features of a network that is not the method's."""
    classes = _class_count(subject)
    if classes is None:
        return None
    parts: list[tuple[Tensor, Tensor]] = []
    with judging(subject, device()), torch.inference_mode():
        for rows in features.split(CHUNK):
            found = subject.classify(rows.to(device()))
            assert found is not None
            values, numbers = most_likely(found.float(), min(KEPT, classes))
            parts.append((values.cpu(), numbers.int().cpu()))
    probability, numbers = (torch.cat(column) for column in zip(*parts, strict=True))
    return Top(probability, numbers, classes)


def _check_kind(subject: Subject, source: Source) -> None:
    """Refuse images for a network of vectors, vectors for one of images, and vectors of another width."""
    wanted = subject.facts["options"].get("width") if subject.facts["name"] == "vectors" else None
    given = source.width
    if wanted != given:
        name, takes, has = printable(source.name), f"vectors of {wanted} numbers", f"vectors of {given} numbers"
        raise UserError(
            f"{subject.name} takes {takes if wanted else 'images'}, and {name} holds {has if given else 'images'}"
        )


def _begun(
    subject: Subject, store: Store, stack: ExitStack, adopt: Callable[[list[str]], list[str]]
) -> tuple[list[str], Engine] | None:
    """Part files that are there already, and what runs the network, once no other command works on them.

    None where the pass is finished. `adopt` adds part files of what earlier passes know to the given ones.
    """
    if store.finished:
        return None
    stack.enter_context(store.alone())
    if store.finished:
        return None
    parts, size = adopt(store.prepare()), int(subject.facts["size"])
    if subject.facts["name"] == "vectors":
        return parts, "torch"
    return parts, store.engine(lambda: engine_for(subject.network, size, images=store.images))


def most_likely(probabilities: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the `count` largest of (B, C) probabilities, and their classes; of equal ones the lowest class first.

    >>> most_likely(torch.tensor([[0.2, 0.4, 0.4]]), 2)
    (tensor([[0.4000, 0.4000]]), tensor([[1, 2]]))
    """
    values, classes = probabilities.topk(count, dim=1)
    tied = (probabilities >= values[:, -1:]).sum(1) > count  # topk takes any of the classes at the border
    if bool(tied.any()):
        ordered = probabilities[tied].sort(dim=1, descending=True, stable=True)
        values[tied], classes[tied] = ordered.values[:, :count], ordered.indices[:, :count]
    classes, order = classes.sort(dim=1)
    values, order = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    return values, classes.gather(1, order)


def drawn(rows: NDArray[np.int64], sample: int, seed: int = 0) -> NDArray[np.int64]:
    """Return at most `sample` of the rows (0: all of them), sorted; which ones follows from the seed alone."""
    if not 0 < sample < len(rows):
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, sample, replace=False))


def labelled(seen: Seen, *, classes: int = 2, sample: int = 0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return features and labels of the images whose label is known; nothing is copied where that is all of them.

    Args:
        seen: what was seen.
        classes: different labels that the protocol needs at least.
        sample: of more images so many are drawn; 0: all.
        seed: of the sample.

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
    rows = drawn(np.flatnonzero(known), sample, seed)
    features = seen.features if len(rows) == len(known) else seen.features[torch.from_numpy(rows)]
    if not all(bool(torch.isfinite(part).all()) for part in features.split(CHUNK)):
        raise UserError("the features hold NaN or infinite values; the training diverged")
    return features, torch.from_numpy(labels[rows])


def rejected_in(*passes: Seen | None) -> int:
    """Return how many images could not be read."""
    return sum(len(seen.rejected) for seen in passes if seen is not None)


def say_unreadable(seen: Seen, quiet: bool) -> None:
    """Print which images have no row, unless `quiet`."""
    if quiet or rank() != 0 or not seen.rejected:
        return
    first = [f"{printable(seen.source.path(index))} ({why})" for index, why in list(seen.rejected.items())[:SHOWN]]
    more = f", and {len(seen.rejected) - SHOWN} more" if len(seen.rejected) > SHOWN else ""
    print(f"{len(seen.rejected)} of {len(seen.source)} images can't be read and are left out: {', '.join(first)}{more}")


def printed(quiet: bool) -> Progress | None:
    """Return what shows the progress of long passes on standard error; None where nothing is to be printed."""
    if quiet or rank() != 0:
        return None
    display, before = Display(0, say=None), 0
    say = partial(print, file=sys.stderr, flush=True)

    def tell(done: int, count: int) -> None:
        nonlocal display, before
        if count != display.total or done < before:  # another pass
            display = Display(count, done=done, say=say, bar=False, patient=True)
        before = done
        display.update(done, lambda _: ("", ""))

    return tell


def _pass(
    subject: Subject, source: Source, store: Store, parts: Sequence[str], engine: Engine, tell: Progress | None
) -> dict[int, str]:
    """See this process's share of the images that are in no part file; return the part files, by their first index."""
    unseen = store.unseen(parts)
    share = np.array_split(unseen, world_size())[rank()]
    done = (len(source) - len(unseen)) // world_size()
    count = done + len(share)
    written: dict[int, str] = {}
    network = frozen(subject.network, int(subject.facts["size"]), engine=engine)
    for chunk in (share[start : start + CHUNK] for start in range(0, len(share), CHUNK)):
        loader = InferenceLoader(
            source,
            size=int(subject.facts["size"]),
            glyph=subject.facts["views"] == "glyph",
            whole=subject.facts.get("crop") == "whole",
            workers=default_workers(source),
            indices=chunk.tolist(),
        )
        batches: list[Mapping[str, Tensor]] = []
        for index, rows in _look(subject, network, loader):
            batches.append(rows)
            if tell is not None:
                tell(done + int(np.searchsorted(chunk, index[-1])) + 1, count)
        done += len(chunk)
        columns = {
            name: torch.cat([rows[name] for rows in batches]) if batches else torch.empty(0, width)
            for name, (width, _) in store.columns.items()
        }
        written[int(chunk[0])] = store.write_part(chunk, columns, loader.rejected)
    return written


def _look(
    subject: Subject, network: Look, loader: InferenceLoader
) -> Iterator[tuple[NDArray[np.int64], Mapping[str, Tensor]]]:
    """Yield indices, and the columns of the cache, batch by batch; `network` gives what the subject's would."""
    is_vectors = loader.source.width is not None
    mean, std = subject.facts["mean"], subject.facts["std"]
    other = network is not subject.network  # onnxruntime's
    normalise = nn.Identity() if is_vectors else Normalise(mean, std, planes=other).to(device())
    with judging(subject, device()):
        for views, index in loader:
            with torch.inference_mode():
                features = network(normalise(views.to(device())))
                classes = subject.classify(features)
                rows = {"features": features.detach().float().cpu()}
                if classes is not None:
                    values, numbers = most_likely(classes.float(), min(KEPT, classes.shape[1]))
                    rows |= {"probability": values.cpu(), "classes": numbers.int().cpu()}
            yield index.numpy(), rows


@contextmanager
def judging(subject: Subject, home: torch.device) -> Generator[None]:
    """Have the network and the method in evaluation mode on a device; afterwards as they were, where they were."""
    parts = [subject.network] if subject.method is None else [subject.network, subject.method]
    homes = [next((tensor.device for tensor in part.state_dict().values()), home) for part in parts]
    with evaluation_mode(*parts):
        try:
            for part in parts:
                part.to(home).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
            yield
        finally:
            for part, former in zip(parts, homes, strict=True):
                part.to(former)


def _class_count(subject: Subject) -> int | None:
    if subject.method is None:
        return None
    home = next((tensor.device for tensor in subject.method.state_dict().values()), torch.device("cpu"))
    with judging(subject, home), torch.inference_mode():
        classes = subject.classify(torch.zeros(1, int(subject.facts["width"]), device=home))
    return None if classes is None else classes.shape[1]
