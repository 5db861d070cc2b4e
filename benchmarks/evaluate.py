"""The costly parts of evaluations beside what others offer, in one process: one JSON line each.

    python benchmarks/evaluate.py [knn] [logistic] [clustering] [--threads 2] [--rounds 3]

Peers are measured in turns with gemel's functions, so that a busy machine slows both; ratios are of the best rounds.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from gemel.metrics.clustering import clustering_scores
from gemel.metrics.neighbours import knn_accuracies, nearest
from gemel.supervised.logistic import fit_path


def in_turns(rounds: int, **works: Callable[[], object]) -> dict[str, float]:
    """Seconds of each, the best of so many rounds, one after the other in every round."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(rounds):
        for name, work in works.items():
            begun = time.perf_counter()
            work()
            best[name] = min(best[name], time.perf_counter() - begun)
    return best


def knn(rounds: int) -> dict[str, Any]:
    """10,000 queries, a bank of 100,000 x 512, 1,000 classes, k 200: all of lightly's vote and all of ours."""
    from lightly.utils.benchmarking import knn_predict

    random = torch.Generator().manual_seed(0)
    centres = torch.randn(1000, 512, generator=random)
    labels, truth = (torch.randint(1000, (rows,), generator=random) for rows in (100_000, 10_000))
    bank, queries = (centres[own] + 6 * torch.randn(len(own), 512, generator=random) for own in (labels, truth))
    bank_of_lightly, queries_of_lightly = normalize(bank, dim=1).T.contiguous(), normalize(queries, dim=1)
    held = torch.empty(1000, len(bank))

    def lightly() -> Tensor:
        parts = [
            knn_predict(part, bank_of_lightly, labels, 1000, 200, 0.07)[:, 0] for part in queries_of_lightly.split(256)
        ]
        return torch.cat(parts)

    def product() -> None:
        for part in queries_of_lightly.split(1000):
            torch.mm(part, bank_of_lightly, out=held)

    seconds = in_turns(
        rounds,
        product=product,
        search=lambda: nearest(queries, bank, 200),
        gemel=lambda: knn_accuracies(queries, bank, truth, labels, ks=(200,)),
        lightly=lightly,
    )
    ours = knn_accuracies(queries, bank, truth, labels, ks=(10, 20, 100, 200))
    return {
        "case": "knn 10,000 x 100,000 x 512, k 200",
        **{f"{name}_seconds": round(value, 2) for name, value in seconds.items()},
        "gflops_of_product": round(2e-9 * 10_000 * 100_000 * 512 / seconds["product"], 1),
        "search_over_product_rate": round(seconds["product"] / seconds["search"], 3),
        "whole_over_product_rate": round(seconds["product"] / seconds["gemel"], 3),
        "times_lightly": round(seconds["lightly"] / seconds["gemel"], 2),
        "top1": round(ours[200]["top1"], 4),
        "top1_lightly": round((lightly() == truth).double().mean().item(), 4),
    }


def clustering(rounds: int) -> dict[str, Any]:
    """50,000 images: 1,000 classes against 1,000 labels, and 4,096 against 1,000."""
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_mutual_info_score

    random = np.random.default_rng(0)
    labels = random.integers(1000, size=50_000)
    classes, many = (
        np.where(random.random(50_000) < 0.4, labels, random.integers(n, size=50_000)) for n in (1000, 4096)
    )
    table = np.zeros((4096, 1000), np.int64)
    np.add.at(table, (many, labels), 1)
    seconds = in_turns(
        rounds,
        scores_1000=lambda: clustering_scores(labels, classes),
        scores_4096=lambda: clustering_scores(labels, many),
        hungarian_4096=lambda: linear_sum_assignment(table, maximize=True),
        sklearn_ami_1000=lambda: adjusted_mutual_info_score(labels, classes),
    )
    ours, theirs = clustering_scores(labels, classes)["ami"], adjusted_mutual_info_score(labels, classes)
    return {
        "case": "clustering of 50,000",
        **{f"{name}_seconds": round(value, 3) for name, value in seconds.items()},
        "ami_differs_by": abs(ours - theirs),
    }


def logistic(rounds: int) -> dict[str, Any]:
    """45 strengths on 10,000 x 512, 20 classes, beside scikit-learn value by value (some of the values)."""
    from sklearn.linear_model import LogisticRegression

    random = torch.Generator().manual_seed(0)
    labels = torch.randint(20, (10_000,), generator=random)
    features = torch.randn(20, 512, generator=random)[labels] + 4 * torch.randn(10_000, 512, generator=random)
    strengths = np.logspace(-6, 5, 45).tolist()
    exact, truth = features.double().numpy(), labels.numpy()

    def loss_of(weight: Tensor, bias: Tensor, strength: float) -> float:
        logits = features.double() @ weight.double().T + bias.double()
        return float(cross_entropy(logits, labels) + strength / 2 * weight.double().square().sum())

    begun = time.perf_counter()
    ours = fit_path(features, labels, strengths, classes=20)
    ours_seconds, theirs_seconds, worst = time.perf_counter() - begun, 0.0, 0.0
    for strength, one in list(zip(strengths, ours, strict=True))[:: max(1, 12 // rounds)]:
        begun = time.perf_counter()
        model = LogisticRegression(C=1 / (strength * len(labels)), max_iter=10_000, tol=1e-5).fit(exact, truth)
        theirs_seconds += time.perf_counter() - begun
        theirs = loss_of(torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_), strength)
        worst = max(worst, loss_of(one.weight, one.bias, strength) / theirs - 1)
    measured = len(strengths[:: max(1, 12 // rounds)])
    return {
        "case": "logistic regression, 45 strengths, 10,000 x 512, 20 classes",
        "gemel_seconds": round(ours_seconds, 2),
        "sklearn_seconds": round(theirs_seconds / measured * len(strengths), 2),
        "sklearn_values_measured": measured,
        "times_sklearn": round(theirs_seconds / measured * len(strengths) / ours_seconds, 1),
        "loss_above_sklearn_at_most": worst,
    }


CASES = {"knn": knn, "logistic": logistic, "clustering": clustering}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], default=list(CASES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for name in given.cases:
        print(json.dumps({"threads": torch.get_num_threads(), **CASES[name](given.rounds)}), flush=True)


if __name__ == "__main__":
    main()
