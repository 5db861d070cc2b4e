"""A path of 45 logistic regressions, beside scikit-learn value by value: one JSON line.

    python benchmarks/logistic.py [--threads 2] [--budget 300]

10,000 x 512 features, float32, as a rectifier leaves them, 20 classes that overlap (15 % of the labels are redrawn).
scikit-learn solves values one by one, cold, with its lbfgs (tol 1e-6, up to 5,000 iterations), drawn from the path in a
fixed random order until the budget of seconds is spent; `ratio` is the time of those values by scikit-learn over the
time of our WHOLE path, so it is a lower bound where `values` is below 45; `ratio_of_45` holds if the other values cost
as much. Objectives are computed in float64 arithmetic: `same` values agree to 1e-4; at the others scikit-learn stops
early, above our objective. `loss_above`: the most that ours is above theirs, relative.
"""

import argparse
import json
import time
import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from gemel.supervised.logistic import fit_path

SAMPLES, WIDTH, CLASSES = 10_000, 512, 20


def data() -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(0)
    spectrum = np.arange(1, WIDTH + 1) ** -0.5
    labels = random.integers(CLASSES, size=SAMPLES)
    centres = 0.8 * random.normal(size=(CLASSES, WIDTH)) * spectrum
    hidden = centres[labels] + random.normal(size=(SAMPLES, WIDTH)) * spectrum
    turn = np.linalg.qr(random.normal(size=(WIDTH, WIDTH)))[0]
    redrawn = random.random(SAMPLES) < 0.15
    labels[redrawn] = random.integers(CLASSES, size=redrawn.sum())
    features = np.maximum(4 * hidden @ turn + 0.2, 0).astype(np.float32)
    return torch.from_numpy(features), torch.from_numpy(labels)


def objective(
    features: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, mu: float
) -> float:
    logits = features.double() @ weight.double().T + bias.double()
    return float(torch.nn.functional.cross_entropy(logits, labels) + mu / 2 * weight.double().square().sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--budget", type=float, default=300.0)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    features, labels = data()
    strengths = (np.logspace(-6, 5, 45) / SAMPLES).tolist()
    begin = time.perf_counter()
    path = fit_path(features, labels, strengths, classes=CLASSES)
    ours = time.perf_counter() - begin

    theirs, differences = 0.0, list[float]()
    with threadpool_limits(given.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for place in np.random.default_rng(0).permutation(45).tolist():
            begin = time.perf_counter()
            model = LogisticRegression(C=1 / (strengths[place] * SAMPLES), tol=1e-6, max_iter=5000)
            model.fit(features.numpy(), labels.numpy())
            theirs += time.perf_counter() - begin
            found = (torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_))
            expected = objective(features, labels, *found, strengths[place])
            reached = objective(features, labels, path[place].weight, path[place].bias, strengths[place])
            differences.append(reached / expected - 1)
            if theirs > given.budget:
                break
    print(
        json.dumps(
            {
                "benchmark": "logistic path",
                "threads": given.threads,
                "path_seconds": round(ours, 2),
                "values": len(differences),
                "scikit_learn_seconds": round(theirs, 2),
                "ratio": round(theirs / ours, 1),
                "ratio_of_45": round(theirs / ours * 45 / len(differences), 1),
                "same": sum(abs(one) <= 1e-4 for one in differences),
                "scikit_learn_stopped_early": sum(one < -1e-4 for one in differences),
                "loss_above": float(f"{max(differences):.1e}"),
            }
        )
    )


if __name__ == "__main__":
    main()
