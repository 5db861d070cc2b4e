"""Clustering: the method's own classes, and k-means on features, against labels that training never saw."""

from typing import Annotated, Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from gemel.data.sources import Source
from gemel.errors import UserError
from gemel.evaluations.base import Evaluation, Progress, Subject
from gemel.evaluations.features import labelled, rejected_in, see
from gemel.metrics.clustering import clustering_scores
from gemel.metrics.silhouette import silhouette


class Cluster(Evaluation):
    """NMI, AMI, ARI, F, accuracy (one class to one label, by Hungarian matching), purity (many classes to one label)
    and silhouette; a method's classes by those names, k-means on the backbone's features by kmeans_NAME.

    Args:
        kmeans: clusters of k-means; 0: as many as there are labels; more: over-clustering, where acc leaves classes out
        restarts: starts of k-means, the best of which counts
        seed: of k-means and of the silhouette's sample
        silhouette_sample: images whose silhouette is computed; of more a sample is drawn; 0: none
    """

    def __init__(
        self,
        *,
        kmeans: NonNegativeInt = 0,
        restarts: PositiveInt = 10,
        seed: Annotated[int, Field(ge=0, lt=2**32)] = 0,
        silhouette_sample: NonNegativeInt = 10_000,
    ) -> None:
        self.kmeans, self.restarts, self.seed, self.silhouette_sample = kmeans, restarts, seed, silhouette_sample

    def run(
        self, subject: Subject, train: Source, test: Source | None, *, tell: Progress | None
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Scores of the images themselves, or with a test set of its images by k-means fitted on the first."""
        seen = see(subject, train, tell=tell)
        tested = None if test is None else see(subject, test, tell=tell)
        judged = seen if tested is None else tested
        features, labels = labelled(judged, classes=1)
        clusters = self.kmeans or len(np.unique(labels.numpy()))
        if clusters > len(seen.features):
            raise UserError(f"{clusters} clusters of {len(seen.features)} images; lower --kmeans")
        metrics: dict[str, float] = {}
        if judged.classes is not None and judged.labels is not None:
            own = judged.classes[judged.labels >= 0]
            metrics |= self._scores(labels, own, features)
        found = self._kmeans(seen.features, features, clusters)
        metrics |= {f"kmeans_{name}": value for name, value in self._scores(labels, found, features).items()}
        return metrics, {
            "kmeans": clusters,
            "kmeans_fitted_on": "features as they are, of all images, labelled or not",
            "restarts": self.restarts,
            "seed": self.seed,
            "images": len(labels),
            "label_classes": len(np.unique(labels.numpy())),
            "split": "fitted and judged on the same images" if test is None else f"test set {test.name}",
            "nmi": "arithmetic; _max: by the larger entropy",
            "ami": "arithmetic; _max: by the larger entropy",
            "acc": "one class to one label, matched on the judged images",
            "purity": "many classes to one label; grows with the number of classes",
            "f": "Fowlkes-Mallows",
            "silhouette": f"Euclidean, {min(self.silhouette_sample, len(labels))} of {len(labels)} images",
            "rejected": rejected_in(seen, tested),
        }

    def _kmeans(self, fitted: Tensor, judged: Tensor, clusters: int) -> NDArray[np.int64]:
        from sklearn.cluster import KMeans

        model = KMeans(clusters, n_init=cast(Any, self.restarts), random_state=self.seed).fit(fitted.numpy())
        return np.asarray(model.predict(judged.numpy()), np.int64)

    def _scores(self, labels: Tensor, classes: NDArray[Any], features: Tensor) -> dict[str, float]:
        scores = clustering_scores(labels, classes)
        if self.silhouette_sample and len(np.unique(classes)) > 1:
            scores["silhouette"] = silhouette(features, classes, sample=self.silhouette_sample, seed=self.seed)
        return scores
