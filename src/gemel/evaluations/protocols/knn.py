"""k-NN: the labels of the nearest neighbours vote, weighted by their similarity."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt

from gemel.data.sources import Source
from gemel.engine.processes import by_the_first
from gemel.evaluations.base import Evaluation, Progress, Subject
from gemel.evaluations.features import Seen, labelled, rejected_in, see
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
        sample: without a test set, images that judge each other; of more a sample is drawn, by seed 0; 0: all
    """

    def __init__(
        self, *, k: Counts = (20,), temperature: PositiveFloat = 0.07, sample: NonNegativeInt = 50_000
    ) -> None:
        self.k = k
        self.temperature = temperature
        self.sample = sample

    def run(
        self, subject: Subject, train: Source, test: Source | None, *, tell: Progress | None
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Return top1 and, from five classes on, top5; of several k top1_k10, top5_k10, ..."""
        seen = see(subject, train, tell=tell)
        tested = None if test is None else see(subject, test, tell=tell)
        return by_the_first(lambda: self._judge(seen, tested))

    def _judge(self, seen: Seen, tested: Seen | None) -> tuple[dict[str, float], dict[str, Any]]:
        bank, bank_labels = labelled(seen, sample=self.sample if tested is None else 0)
        queries, query_labels = (bank, bank_labels) if tested is None else labelled(tested, classes=1)
        found = knn_accuracies(
            queries,
            bank,
            query_labels,
            bank_labels,
            ks=self.k,
            temperature=self.temperature,
            leave_one_out=tested is None,
        )
        metrics = found[self.k[0]]
        if len(self.k) > 1:
            metrics = {f"{name}_k{k}": value for k, scores in found.items() for name, value in scores.items()}
        return metrics, {
            "k": self.k[0] if len(self.k) == 1 else list(self.k),
            "temperature": self.temperature,
            "similarity": "cosine",
            **({"sample": self.sample, "seed": 0} if tested is None else {}),
            "split": "leave one out" if tested is None else f"test set {tested.source.name}",
            "bank": len(bank),
            "queries": len(queries),
            "rejected": rejected_in(seen, tested),
        }
