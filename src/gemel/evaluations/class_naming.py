"""Names of discovered classes: found by a labelled sample; classes of one name count as one."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gemel.device import device
from gemel.errors import UserError
from gemel.evaluations.base import Subject
from gemel.evaluations.features import Seen, judging, most_likely
from gemel.metrics.clustering import match_classes

Naming = Literal["one_to_one", "majority"]

CHUNK_BYTES = 2**26
"""probabilities that are held at a time"""


def names_from(seen: Seen, naming: Naming) -> dict[int, str]:
    """Name classes by the images whose label is known.

    Args:
        seen: of a labelled sample.
        naming: one_to_one: each label names at most one class, so that most images are right (Kuhn-Munkres); other
            classes stay unnamed. majority: each class takes its most frequent label, and several may share one.

    Raises:
        UserError: no label is known.
    """
    labels, classes = seen.labels, seen.classes
    assert classes is not None
    if labels is None or not (labels >= 0).any():
        raise UserError(f"{seen.source.name} has no labels to name classes by; give --labels folders or FILE.csv")
    matched = match_classes(labels, classes, one_to_one=naming == "one_to_one")
    return {number: seen.source.label_names[label] for number, label in matched.items()}


def likely(subject: Subject, seen: Seen, top: int, names: Mapping[int, str] = {}) -> tuple[Tensor, Tensor]:
    """Return probabilities and numbers of each image's most likely classes, both (N, min(top, C)), best first.

    Classes of one name count as one, under its lowest number. What the pass has cached answers as far as it goes;
    more classes than that, or joined ones, are computed again from the features, some images at a time.

    Args:
        subject: what was looked at; its method has classes.
        seen: what it made of the images.
        top: classes of each image.
        names: of classes.
    """
    kept = seen.top
    assert kept is not None
    numbers, group = class_groups(names, kept.class_count)
    top = min(top, len(numbers))
    if len(numbers) == kept.class_count and top <= kept.classes.shape[1]:
        return kept.probability[:, :top], kept.classes[:, :top]
    probability = torch.empty(len(seen.features), top)
    classes = torch.empty(len(seen.features), top, dtype=torch.int32)
    size, here = max(1, CHUNK_BYTES // (4 * kept.class_count)), device()
    with judging(subject, here), torch.inference_mode():
        for start in range(0, len(seen.features), size):
            rows = subject.classify(seen.features[start : start + size].to(here))
            assert rows is not None
            joined = rows.new_zeros(len(rows), len(numbers)).index_add(1, group.to(here), rows)
            values, places = most_likely(joined.float(), top)
            probability[start : start + size] = values.cpu()
            classes[start : start + size] = numbers[places.cpu()]
    return probability, classes


def class_groups(names: Mapping[int, str], count: int) -> tuple[Tensor, Tensor]:
    """Return the lowest class of each group, (G,), and the group of each class, (C,)."""
    lowest: dict[str, int] = {}
    for number in sorted(names):
        lowest.setdefault(names[number], number)
    heads = [lowest[names[number]] if number in names else number for number in range(count)]
    kept, group = np.unique(heads, return_inverse=True)
    return torch.from_numpy(kept), torch.from_numpy(group)
