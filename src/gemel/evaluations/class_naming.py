"""Discovered classes by names: from a labelled sample, and classes of one name taken together."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gemel.errors import UserError
from gemel.evaluations.features import Seen
from gemel.metrics.clustering import match_classes

Naming = Literal["one_to_one", "majority"]


def names_from(seen: Seen, naming: Naming) -> dict[int, str]:
    """Names of classes by the images whose label is known.

    Args:
        seen: of a labelled sample.
        naming: one_to_one: each label names at most one class, so that most images are right (Kuhn-Munkres); other
            classes stay unnamed. majority: each class takes its most frequent label, and several may share one.

    Raises:
        UserError: no label is known.
    """
    assert seen.probabilities is not None
    labels = seen.labels
    if labels is None or not (labels >= 0).any():
        raise UserError(f"{seen.source.name} has no labels to name classes by; give --labels folders or FILE.csv")
    matched = match_classes(labels, seen.probabilities.argmax(1).numpy(), one_to_one=naming == "one_to_one")
    return {number: seen.source.label_names[label] for number, label in matched.items()}


def merged(probabilities: Tensor, names: Mapping[int, str]) -> tuple[Tensor, list[int]]:
    """Probabilities of classes of one name summed, (N, C) to (N, G), and the lowest class of each group.

    >>> merged(torch.tensor([[0.5, 0.2, 0.3]]), {1: "cat", 2: "cat"})
    (tensor([[0.5000, 0.5000]]), [0, 1])
    """
    lowest = {name: min(one for one in names if names[one] == name) for name in names.values()}
    heads = np.array([lowest[names[one]] if one in names else one for one in range(probabilities.shape[1])])
    kept, group = np.unique(heads, return_inverse=True)
    summed = probabilities.new_zeros(len(probabilities), len(kept))
    return summed.index_add(1, torch.from_numpy(group), probabilities), kept.tolist()
