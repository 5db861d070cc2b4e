"""Clustering: the method's own classes, and k-means on features, against labels that training never saw."""

from typing import Annotated, Any, cast

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from gemel.evaluations.base import Evaluation, labelled
from gemel.evaluations.features import Seen
from gemel.metrics.clustering import clustering_scores


class Cluster(Evaluation):
    """NMI, AMI, ARI, accuracy (one class to one label, by Hungarian matching), purity; a method's classes by those
    names, k-means on the backbone's features by kmeans_NAME.

    Args:
        kmeans: clusters of k-means; 0: as many as there are labels
        restarts: starts of k-means, the best of which counts
        seed: of k-means
    """

    def __init__(
        self,
        *,
        kmeans: NonNegativeInt = 0,
        restarts: PositiveInt = 10,
        seed: Annotated[int, Field(ge=0, lt=2**32)] = 0,
    ) -> None:
        self.kmeans, self.restarts, self.seed = kmeans, restarts, seed

    def run(self, train: Seen, test: Seen | None) -> tuple[dict[str, float], dict[str, Any]]:
        """Scores of the images themselves, or with a test set of its images by k-means fitted on the first."""
        from sklearn.cluster import KMeans

        judged = train if test is None else test
        features, labels = labelled(judged)
        fitted = train.features.numpy()
        clusters = self.kmeans or len(np.unique(labels.numpy()))
        clusters = min(clusters, len(fitted))
        model = KMeans(clusters, n_init=cast(Any, self.restarts), random_state=self.seed).fit(fitted)
        metrics: dict[str, float] = {}
        if judged.probabilities is not None and judged.labels is not None:
            own = judged.probabilities.argmax(1).numpy()[judged.labels >= 0]
            metrics |= clustering_scores(labels, own)
        scores = clustering_scores(labels, model.predict(features.numpy()))
        metrics |= {f"kmeans_{name}": value for name, value in scores.items()}
        return metrics, {
            "kmeans": clusters,
            "restarts": self.restarts,
            "seed": self.seed,
            "images": len(labels),
            "split": "fitted and judged on the same images" if test is None else f"test set {test.source.name}",
            "nmi": "arithmetic",
            "ami": "arithmetic; _max: by the larger entropy",
        }
