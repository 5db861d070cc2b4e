"""k-NN: the labels of the nearest neighbours vote, weighted by their similarity."""

from typing import Any

from pydantic import PositiveFloat, PositiveInt

from gemel.evaluations.base import Evaluation, labelled
from gemel.evaluations.features import Seen
from gemel.metrics.neighbours import knn_accuracy


class Knn(Evaluation):
    """Weighted k-NN on cosine similarity (the form of DINO's code): a neighbour's vote weighs exp(s / T).

    Without a test set every image is judged by all others (leave one out).

    Args:
        k: neighbours that vote
        temperature: T
    """

    def __init__(self, *, k: PositiveInt = 20, temperature: PositiveFloat = 0.07) -> None:
        self.k, self.temperature = k, temperature

    def run(self, train: Seen, test: Seen | None) -> tuple[dict[str, float], dict[str, Any]]:
        """top1 and, from five classes on, top5; shares of 1."""
        bank, bank_labels = labelled(train)
        queries, query_labels = (bank, bank_labels) if test is None else labelled(test)
        metrics = knn_accuracy(
            queries, bank, query_labels, bank_labels, k=self.k, temperature=self.temperature, leave_one_out=test is None
        )
        split = "leave one out" if test is None else f"test set {test.source.name}"
        return metrics, {
            "k": self.k,
            "temperature": self.temperature,
            "split": split,
            "bank": len(bank),
            "queries": len(queries),
        }
