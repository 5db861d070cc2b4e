"""Clustering: the method's own classes, and k-means on features, against labels that training never saw."""

from typing import Annotated, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from gemel.data.sources import Source
from gemel.engine.processes import by_the_first
from gemel.errors import UserError
from gemel.evaluations.base import Evaluation, Progress, Subject
from gemel.evaluations.features import Seen, drawn, labelled, rejected_in, see
from gemel.metrics.clustering import clustering_scores, silhouette


class Cluster(Evaluation):
    """NMI, AMI, ARI, F, accuracy (one class to one label, by Hungarian matching), purity (many classes to one label)
    and silhouette; a method's classes by those names, k-means on the backbone's features by kmeans_NAME.

    Args:
        kmeans: clusters of k-means; 0: as many as there are labels; more: over-clustering, where acc leaves classes out
        restarts: starts of k-means, the best of which counts
        seed: of k-means and of the samples
        sample: images that k-means is fitted on and, without a test set, judged by; of more a sample is drawn; 0: all
        silhouette_sample: images whose silhouette is computed; of more a sample is drawn; 0: none
    """

    any_class = True

    def __init__(
        self,
        *,
        kmeans: NonNegativeInt = 0,
        restarts: PositiveInt = 10,
        seed: Annotated[int, Field(ge=0, lt=2**32)] = 0,
        sample: NonNegativeInt = 50_000,
        silhouette_sample: NonNegativeInt = 10_000,
    ) -> None:
        self.kmeans, self.restarts, self.seed = kmeans, restarts, seed
        self.sample, self.silhouette_sample = sample, silhouette_sample

    def run(
        self, subject: Subject, train: Source, test: Source | None, *, tell: Progress | None
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Return scores of the images themselves, or of a test set by k-means fitted on the images."""
        seen = see(subject, train, tell=tell)
        tested = None if test is None else see(subject, test, tell=tell)
        return by_the_first(lambda: self._judge(seen, tested))

    def _judge(self, seen: Seen, tested: Seen | None) -> tuple[dict[str, float], dict[str, Any]]:
        judged = seen if tested is None else tested
        features, labels = labelled(judged, classes=1, sample=self.sample if tested is None else 0, seed=self.seed)
        known = np.flatnonzero(np.asarray(judged.labels) >= 0)
        kinds = len(np.unique(labels.numpy()))
        clusters = self.kmeans or kinds
        fitted = drawn(np.arange(len(seen.features)), self.sample, self.seed)
        if clusters > len(fitted):
            raise UserError(f"{clusters} clusters of {len(fitted)} images; lower --kmeans")
        metrics: dict[str, float] = {}
        if judged.classes is not None and judged.labels is not None:
            metrics |= self._scores(judged.labels[known], judged.classes[known], judged.features, known)
        found = self._kmeans(seen.features[torch.from_numpy(fitted)], features, clusters)
        own = self._scores(labels.numpy(), found, features, np.arange(len(features)))
        metrics |= {f"kmeans_{name}": value for name, value in own.items()}
        return metrics, {
            "kmeans": clusters,
            "kmeans_fitted_on": "features as they are, labelled or not",
            "kmeans_images": len(fitted),
            "restarts": self.restarts,
            "seed": self.seed,
            "sample": self.sample,
            "images": len(known),
            "label_classes": kinds,
            "split": "fitted and judged on the same images" if tested is None else f"test set {tested.source.name}",
            "nmi": "arithmetic; _max: by the larger entropy",
            "ami": "arithmetic; _max: by the larger entropy",
            "acc": "one class to one label, matched on the judged images",
            "purity": "many classes to one label; grows with the number of classes",
            "f": "Fowlkes-Mallows",
            "silhouette": f"Euclidean, {min(self.silhouette_sample, len(labels))} of {len(known)} images",
            "rejected": rejected_in(seen, tested),
        }

    def _kmeans(self, fitted: Tensor, judged: Tensor, clusters: int) -> NDArray[np.int64]:
        from sklearn.cluster import KMeans

        model = KMeans(clusters, n_init=cast(Any, self.restarts), random_state=self.seed).fit(fitted.numpy())
        return np.asarray(model.predict(judged.numpy()), np.int64)

    def _scores(
        self, labels: NDArray[Any], classes: NDArray[Any], features: Tensor, rows: NDArray[np.int64]
    ) -> dict[str, float]:
        """Judge the classes of some rows of the features."""
        scores = clustering_scores(labels, classes)
        chosen = drawn(np.arange(len(rows)), self.silhouette_sample, self.seed)
        if self.silhouette_sample and len(np.unique(classes[chosen])) > 1:
            scores["silhouette"] = silhouette(features[torch.from_numpy(rows[chosen])], classes[chosen])
        return scores
