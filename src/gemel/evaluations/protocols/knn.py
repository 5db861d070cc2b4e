"""k-NN: the labels of the nearest neighbours vote, weighted by their similarity."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt

from gemel.data.sources import Source
from gemel.errors import UserError
from gemel.evaluations.base import Evaluation, Progress, Subject
from gemel.evaluations.feature_cache import images_key
from gemel.evaluations.features import labelled, rejected_in, see
from gemel.metrics.neighbours import knn_accuracies


def _several(given: Any) -> Any:
    return (given,) if isinstance(given, int) else given


Counts = Annotated[tuple[PositiveInt, ...], Field(min_length=1), BeforeValidator(_several)]
"""one number of neighbours or several"""


class Knn(Evaluation):
    """Weighted k-NN on cosine similarity (the form of DINO's code): a neighbour's vote weighs exp(s / T).

    Without a test set every image is judged by all others (leave one out).

    Args:
        k: neighbours that vote; several (10,20,100,200) are answered by one search
        temperature: T
    """

    def __init__(self, *, k: Counts = (20,), temperature: PositiveFloat = 0.07) -> None:
        self.k = k
        self.temperature = temperature

    def run(
        self, subject: Subject, train: Source, test: Source | None, *, tell: Progress | None
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """top1 and, from five classes on, top5; of several k top1_k10, top5_k10, ..."""
        if test is not None and images_key(train) == images_key(test):
            raise UserError(
                f"--test names the very images of {train.name}: each would be its own neighbour; leave it out, and "
                "each is judged by all others"
            )
        seen = see(subject, train, tell=tell)
        tested = None if test is None else see(subject, test, tell=tell)
        bank, bank_labels = labelled(seen)
        queries, query_labels = (bank, bank_labels) if tested is None else labelled(tested, classes=1)
        each = self.k
        found = knn_accuracies(
            queries,
            bank,
            query_labels,
            bank_labels,
            ks=each,
            temperature=self.temperature,
            leave_one_out=tested is None,
        )
        if len(each) == 1:
            metrics = found[each[0]]
        else:
            metrics = {f"{name}_k{k}": value for k, scores in found.items() for name, value in scores.items()}
        return metrics, {
            "k": each[0] if len(each) == 1 else list(each),
            "temperature": self.temperature,
            "similarity": "cosine",
            "split": "leave one out" if test is None else f"test set {test.name}",
            "bank": len(bank),
            "queries": len(queries),
            "rejected": rejected_in(seen, tested),
        }
