"""DeepCluster against its released code: whitening, k-means with empty clusters, samplers, the loss, Sobel."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from toy import PRECISIONS, Golden, given, near

from gemel.backbones.convnet import convnet
from gemel.backbones.parts.sobel import sobel
from gemel.methods.base import Embedded
from gemel.methods.deepcluster import DeepCluster, deepcluster_loss
from gemel.methods.parts.cluster_sampler import sampled_order, without_gaps
from gemel.methods.parts.kmeans import kmeans
from gemel.methods.parts.whitening import Whitening
from gemel.metrics.clustering import clustering_scores
from hooks import begun

FAISS = 1e-4
"""its numbers are float32's"""


def rows_of(golden: Golden) -> Tensor:
    features = golden["deepcluster.features"]
    return Whitening.of(features, 8)(features)


def test_whitening(relatives_b: Golden) -> None:
    rows = rows_of(relatives_b)
    near(rows @ rows.T, relatives_b["deepcluster.gram"], FAISS)


def test_whitened_features_are_uncorrelated() -> None:
    rows = torch.randn(200, 12, dtype=torch.float64) @ torch.randn(12, 12).double() + 3
    whitening = Whitening.of(rows, 5)
    found = (rows - whitening.mean) @ whitening.axes
    assert_close(found.T @ found / len(rows), torch.eye(5, dtype=torch.float64))
    assert_close(whitening(rows).norm(dim=1), torch.ones(200, dtype=torch.float64))
    flat = torch.cat([torch.randn(50, 2), torch.zeros(50, 3)], dim=1)
    assert bool(Whitening.of(flat, 5)(flat).isfinite().all()), "axes without variance give nothing"


def test_kmeans(relatives_b: Golden) -> None:
    rows = rows_of(relatives_b)
    found = kmeans(rows, rows[relatives_b["deepcluster.start"]], iterations=20)
    assert torch.equal(found.labels, relatives_b["deepcluster.assign"])
    objective = relatives_b["deepcluster.objective"]
    near([*found.objective, found.objective[-1]], objective, FAISS)  # the last round changes nothing
    near(rows @ found.centroids.T, relatives_b["deepcluster.centroid_similarity"], FAISS)


@pytest.mark.parametrize("iterations", [1, 2])
def test_an_empty_cluster_takes_a_part_of_another(relatives_b: Golden, iterations: int) -> None:
    points, start = (relatives_b[f"deepcluster.empty.{name}"] for name in ("points", "start"))
    torch.manual_seed(0)
    found = kmeans(points, start, iterations=iterations)
    near(found.centroids, relatives_b[f"deepcluster.empty.after{iterations}"], FAISS)


def test_kmeans_finds_what_lies_apart() -> None:
    centres = torch.nn.functional.normalize(torch.randn(6, 10, dtype=torch.float64))
    labels = torch.arange(60) % 6
    rows = centres[labels] + 0.01 * torch.randn(60, 10)
    found = kmeans(rows, rows[:6], iterations=20)
    assert clustering_scores(labels.numpy(), found.labels.numpy())["nmi"] == pytest.approx(1.0)
    assert found.objective == sorted(found.objective, reverse=True)
    few = kmeans(rows[:4].float(), rows[:6].float(), iterations=3)
    assert bool(few.centroids.isfinite().all()), "more clusters than rows"


def test_samplers(relatives_b: Golden) -> None:
    """With numpy's own generator the released draw, number by number."""
    labels = without_gaps(relatives_b["deepcluster.sampler.assign"])
    order = labels.argsort(stable=True)
    assert torch.equal(order, relatives_b["deepcluster.relabel.image"])
    assert torch.equal(labels[order], relatives_b["deepcluster.relabel.label"])
    for released, key in ((False, "drawn"), (True, "released_image")):
        found = sampled_order(labels.numpy(), np.random.RandomState(31), released=released)
        assert found.tolist() == relatives_b[f"deepcluster.sampler.{key}"].tolist()
    assert len(labels) // (int(labels.max()) + 1) + 1 == int(relatives_b["deepcluster.sampler.each"])


def test_the_uniform_sampler_is_uniform() -> None:
    labels = np.repeat(np.arange(5), [5, 40, 100, 300, 555])
    drawn = sampled_order(labels, np.random.RandomState(0))
    assert np.bincount(labels[drawn]).min() > 190
    released = sampled_order(
        labels[np.random.RandomState(1).permutation(1000)], np.random.RandomState(0), released=True
    )
    assert len(released) == 1000


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_loss(relatives_b: Golden, dtype: torch.dtype, tolerance: float) -> None:
    features, weight, bias = given(relatives_b, "deepcluster.head", "features weight bias", dtype)
    terms = deepcluster_loss(features, weight, bias, relatives_b["deepcluster.assign"])
    terms["loss"].backward()
    near(terms["loss"], relatives_b["deepcluster.head.loss"], tolerance)
    for name, one in (("features", features), ("weight", weight), ("bias", bias)):
        near(one.grad, relatives_b[f"deepcluster.head.grad_{name}"], 10 * tolerance, name)


def test_sobel(relatives_b: Golden) -> None:
    near(sobel(relatives_b["deepcluster.sobel.images"]), relatives_b["deepcluster.sobel.out"], 1e-9)


def method(**options: Any) -> DeepCluster:
    torch.manual_seed(0)
    small = {"classes": 4, "hidden": (16,), "dimensions": 8, **options}
    return DeepCluster(convnet(widths=(8, 8), strides=(2, 2)), **small)


def test_an_epoch_begins_anew() -> None:
    made = begun(method(), 40)
    top = made.top.weight.detach().clone()
    assert made.renewed() == list(made.top.parameters())
    assert made.renewed() == []
    assert set(made.labels.tolist()) == set(range(int(made.labels.max()) + 1))
    assert float(made.stability) == 0
    begun_again = made.labels.clone()
    made.before_epoch(lambda *_, **__: Embedded(torch.randn(40, 16), torch.ones(40, dtype=torch.bool)), 0.5)
    assert not torch.equal(top, made.top.weight)
    expected = clustering_scores(begun_again.numpy(), made.labels.numpy())["nmi"]
    assert float(made.stability) == pytest.approx(expected)
    of_top = made.parameter_groups()[-1]
    assert of_top.schedule == "constant", "a layer made anew near the end has to learn too"
    momenta = [group.momentum for group in made.parameter_groups()]
    assert momenta == [None, 0.0]


def test_clusters_stay_for_the_least_number_of_steps() -> None:
    """An epoch of one step, as of few images, is too short for a new top layer."""
    made = method(least_steps=3)
    made.attach(40)
    tops: list[Tensor] = []
    for step in range(7):
        made.before_epoch(lambda *_, **__: Embedded(torch.randn(40, 16), torch.ones(40, dtype=torch.bool)), step / 7)
        tops.append(made.top.weight.detach().clone())
        assert len(made.renewed()) == (2 if step % 3 == 0 else 0)
        made.after_step((step + 1) / 7)
    anew = [step for step in range(1, 7) if not torch.equal(tops[step], tops[step - 1])]
    assert anew == [3, 6]
    assert made.learned.value == 1


def test_images_that_cannot_be_read_are_not_drawn() -> None:
    made = method(sampler="uniform")
    made.attach(40)
    readable = torch.arange(40) % 5 != 0
    made.before_epoch(lambda *_, **__: Embedded(torch.randn(40, 16), readable), 0.0)
    assert torch.equal(made.labels >= 0, readable)
    for sampler in ("uniform", "released"):
        made.sampler = sampler
        order = made.order(0)
        assert order is not None
        assert len(order) == 40
        assert bool(readable[order].all())
