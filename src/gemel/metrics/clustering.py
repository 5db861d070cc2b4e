"""How well discovered classes agree with labels (NMI, AMI, ARI, F, accuracy, purity) and how well they are separated.

scikit-learn's numbers, which TWIST's evaluation uses too (`evaluate_cluster.py`); AMI and the matching of classes are
our own, for speed. n_kl counts the images of class k with label l; a_k and b_l are its sums over labels and over
classes, n is their total; logarithms are natural.
"""

import warnings
from math import log
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gemel.errors import UserError

UNKNOWN = -1
"""The label of an image whose label is unknown."""

_Floats = NDArray[np.float64]


def clustering_scores(labels: ArrayLike, classes: ArrayLike) -> dict[str, float]:
    """All scores of a clustering; images whose label is -1 (unknown) are left out of every one of them.

    - `nmi` = MI / mean(H(labels), H(classes)), MI = Σ n_kl/n log(n n_kl / (a_k b_l)); `nmi_max` divides by the
      larger entropy. 0..1.
    - `ami` = (MI - E[MI]) / (mean(H, H) - E[MI]), E under random classes of the same sizes; `ami_max` as above: the
      form of TWIST's slides, whose published numbers are `ami`. Up to 1, about 0 by chance.
    - `ari`: Rand index adjusted for chance. -0.5..1, about 0 by chance.
    - `acc` = max over one-to-one maps m from classes to labels of the share of images with m(class) = label
      (Hungarian). Where there are more classes than labels, classes without a partner count as wrong.
    - `purity` = 1/n Σ_k max_l n_kl: many classes may mean one label; tends to 1 with many classes, so never compare
      it with `acc`.
    - `f`: Fowlkes-Mallows, TP / √((TP + FP)(TP + FN)) over pairs of images. 0..1.
    - `classes_used`: how many classes hold at least one labelled image.

    NMI and purity grow with the number of classes, AMI and ARI do not.

    Args:
        labels: N integers of any values; -1 is unknown.
        classes: N integers of any values; here -1 is a class like any other.

    Raises:
        UserError: lengths that differ, no known label, more than one dimension, or numbers that are not whole.

    >>> scores = clustering_scores([0, 0, 0, 1, 1, 1, 2, 2, 2], [1, 1, 1, 2, 2, 2, 0, 0, 3])
    >>> {name: round(score, 4) for name, score in scores.items() if name in ("nmi", "ari", "acc", "purity")}
    {'nmi': 0.9119, 'ari': 0.84, 'acc': 0.8889, 'purity': 1.0}
    """
    counts = _count(labels, classes)
    mean, largest = _adjusted_information(counts)
    table = counts.table()
    rows, columns = _hungarian(table)
    return _of_library(counts.label_of, counts.class_of) | {
        "ami": mean,
        "ami_max": largest,
        "acc": float(table[rows, columns].sum() / counts.total),
        "purity": float(table.max(axis=1).sum() / counts.total),
        "classes_used": float(len(counts.classes)),
    }


def _of_library(*partitions: NDArray[np.int64]) -> dict[str, float]:
    """Scores that scikit-learn computes as fast."""
    from sklearn import metrics  # a second to import

    with warnings.catch_warnings():
        # with few images to a class it asks whether they are classes at all
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        found = {
            "nmi": metrics.normalized_mutual_info_score(*partitions),
            "nmi_max": metrics.normalized_mutual_info_score(*partitions, average_method="max"),
            "ari": metrics.adjusted_rand_score(*partitions),
            "f": metrics.fowlkes_mallows_score(*partitions),
        }
    return {name: float(value) for name, value in found.items()}


def match_classes(labels: ArrayLike, classes: ArrayLike, *, one_to_one: bool = True) -> dict[int, int]:
    """Which label each class means; images whose label is -1 (unknown) are left out.

    Args:
        labels: N integers of any values; -1 is unknown.
        classes: N integers of any values.
        one_to_one: the Hungarian map, which gets most images right. Where there are more classes than labels some
            classes get no partner and are missing from the answer, and a class may get a label that none of its
            images has, if nothing better is left. Otherwise each class takes its most frequent label, the lowest
            of equally frequent ones.

    Returns:
        class -> label, sorted by class.

    Raises:
        UserError: as `clustering_scores`.

    >>> match_classes([5, 5, 7, 7, 7], [2, 2, 0, 0, 1])
    {0: 7, 2: 5}
    >>> match_classes([5, 5, 7, 7, 7], [2, 2, 0, 0, 1], one_to_one=False)
    {0: 7, 1: 7, 2: 5}
    """
    counts = _count(labels, classes)
    table = counts.table()
    rows, columns = _hungarian(table) if one_to_one else (np.arange(len(table)), table.argmax(axis=1))
    return {int(counts.classes[row]): int(counts.labels[column]) for row, column in zip(rows, columns, strict=True)}


def silhouette(features: ArrayLike, classes: ArrayLike) -> float:
    """Return the mean over images of s(i) = (b - a) / max(a, b), by Euclidean distances (Rousseeuw, 1987).

    a is the mean distance to the other images of i's class, b the smallest mean distance to another class;
    s(i) = 0 for an image alone in its class. O(n²) time: draw a sample of many images before.

    Args:
        features: (n, D) numbers.
        classes: n integers, at least two different ones.

    Returns:
        -1..1; near 0 classes overlap.

    Raises:
        UserError: lengths that differ, or one class alone.

    >>> round(silhouette([[0.0], [1.0], [10.0], [11.0], [30.0]], [0, 0, 1, 1, 2]), 4)
    0.7198
    """
    from sklearn import config_context, metrics

    rows, found = np.asarray(features, np.float64), np.asarray(classes)
    if rows.ndim != 2 or found.shape != (len(rows),):
        raise UserError(f"{found.shape} classes for features of shape {rows.shape}; give one class for each row")
    number = len(np.unique(found))
    if number < 2:
        raise UserError("one class alone has no silhouette; give two or more")
    if number == len(rows):
        return 0.0  # each image alone in its class, which scikit-learn refuses
    with config_context(working_memory=64):  # MB of distances at a time
        return float(metrics.silhouette_score(rows - rows.mean(0), found))  # an offset costs the distances digits


class _Counts(NamedTuple):
    classes: NDArray[np.integer[Any]]  # (K,) the values that occur, sorted
    labels: NDArray[np.integer[Any]]  # (L,)
    class_of: NDArray[np.int64]  # (n,) number of each image's class among them
    label_of: NDArray[np.int64]  # (n,)
    row: NDArray[np.int64]  # (M,) class number of each pair that occurs
    column: NDArray[np.int64]  # (M,) label number
    shared: NDArray[np.int64]  # (M,) n_kl
    class_sizes: NDArray[np.int64]  # (K,) a_k
    label_sizes: NDArray[np.int64]  # (L,) b_l
    total: int  # n

    def table(self) -> NDArray[np.int64]:
        """n_kl, (K, L)."""
        table = np.zeros((len(self.classes), len(self.labels)), np.int64)
        table[self.row, self.column] = self.shared
        return table


def _count(labels: ArrayLike, classes: ArrayLike) -> _Counts:
    given, found = _whole_numbers(labels, "labels"), _whole_numbers(classes, "classes")
    if len(given) != len(found):
        raise UserError(f"{len(given)} labels for {len(found)} classes; give one label and one class an image")
    known = given != UNKNOWN
    if not known.any():
        raise UserError(f"none of {len(given)} images has a label (-1 means unknown); scores need at least one")
    label_values, label_of = np.unique(given[known], return_inverse=True)
    class_values, class_of = np.unique(found[known], return_inverse=True)
    pairs, shared = np.unique(class_of * len(label_values) + label_of, return_counts=True)
    row, column = np.divmod(pairs, len(label_values))
    sizes = np.bincount(class_of), np.bincount(label_of)
    return _Counts(class_values, label_values, class_of, label_of, row, column, shared, *sizes, int(known.sum()))


def _whole_numbers(values: Any, name: str) -> NDArray[np.integer[Any]]:
    # A tensor that needs gradients or lies on a GPU refuses to become an array by itself.
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if array.ndim != 1:
        raise UserError(f"{name} of shape {array.shape}; give one number an image, in one dimension")
    if array.dtype.kind in "iu":
        return array
    if array.dtype.kind == "b" or not array.size:
        return array.astype(np.int64)
    if array.dtype.kind != "f":
        raise UserError(f"{name} of type {array.dtype}; give whole numbers")
    if not (np.isfinite(array) & (array == np.rint(array))).all():
        raise UserError(f"{name} hold numbers that are not whole, or not numbers; give whole numbers")
    return array.astype(np.int64)


def _hungarian(table: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    from scipy.optimize import linear_sum_assignment  # half a second to import

    return linear_sum_assignment(table, maximize=True)


def _adjusted_information(counts: _Counts) -> tuple[float, float]:
    """AMI by the mean and by the larger of the entropies, with scikit-learn's answers where it is 0 / 0."""
    sizes = len(counts.classes), len(counts.labels)
    if sizes in ((1, 1), (counts.total, counts.total)):
        return 1.0, 1.0  # all images together in both, or each for itself in both: the same partition
    if 1 in sizes:
        return 0.0, 0.0
    shares = counts.class_sizes / counts.total, counts.label_sizes / counts.total
    of_classes, of_labels = (float(-(share * np.log(share)).sum()) for share in shares)
    # logarithms apart: the product of two sizes may overflow
    by_chance = np.log(counts.class_sizes)[counts.row] + np.log(counts.label_sizes)[counts.column]
    terms = counts.shared / counts.total * (np.log(counts.shared) + log(counts.total) - by_chance)  # (M,)
    shared, expected = max(0.0, float(terms.sum())), _expected_information(counts)
    gain = shared - expected
    return gain / ((of_classes + of_labels) / 2 - expected), gain / (max(of_classes, of_labels) - expected)


def _expected_information(counts: _Counts) -> float:
    """E[MI] = Σ_kl Σ_m m/n log(n m / (a_k b_l)) P(m), P hypergeometric (Vinh, Epps and Bailey, 2010).

    The summand depends on the sizes alone, so each pair of sizes that occurs is summed once, and only where P is
    not negligible. scikit-learn sums all: minutes instead of a second for 4,096 classes of 1.3 million images.
    """
    total = float(counts.total)
    class_size, class_times = np.unique(counts.class_sizes, return_counts=True)
    label_size, label_times = np.unique(counts.label_sizes, return_counts=True)
    a, b = (sizes.astype(np.float64).ravel() for sizes in np.meshgrid(class_size, label_size, indexing="ij"))
    mean = a * b / total
    # Beyond 10 standard deviations and 30 more (for means near 0) P is below 1e-20.
    reach = 10 * np.sqrt(mean * (1 - a / total) * (1 - b / total) * total / max(total - 1, 1)) + 30
    low = np.maximum(np.ceil(mean - reach), np.maximum(1, a + b - total))
    width = np.minimum(np.floor(mean + reach), np.minimum(a, b)) - low
    order = np.argsort(-width)
    a, b, low, width = a[order], b[order], low[order], width[order]
    share = _hypergeometric(low, a, b, total) * np.outer(class_times, label_times).ravel()[order]
    by_chance = np.log(a) + np.log(b) - log(total)
    expected = 0.0
    for step in range(int(width[0]) + 1):
        wide = slice(int(np.searchsorted(-width, -step, side="right")))  # the pairs whose sum goes on
        a, b, share, m = a[wide], b[wide], share[wide], low[wide] + step
        expected += float((share * m / total * (np.log(m) - by_chance[wide])).sum())
        share = share * (a - m) * (b - m) / ((m + 1) * (total - a - b + m + 1))  # P(m + 1) / P(m)
    return expected


def _hypergeometric(m: _Floats, a: _Floats, b: _Floats, total: float) -> _Floats:
    """P(m) = a! b! (n-a)! (n-b)! / (n! m! (a-m)! (b-m)! (n-a-b+m)!)."""
    from scipy.special import gammaln  # a third of a second to import

    above = sum(gammaln(one + 1) for one in (a, b, total - a, total - b))
    below = sum(gammaln(one + 1) for one in (total, m, a - m, b - m, total - a - b + m))
    return np.exp(above - below)
