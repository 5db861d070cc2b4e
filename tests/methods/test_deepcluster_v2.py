"""DeepCluster v2: a released epoch, its memory and its clusters."""

from math import exp, log
from typing import Any

import pytest
import torch
from toy import Given, Golden, near

from gemel.backbones.convnet import convnet
from gemel.data.batches import Batch
from gemel.errors import UserError
from gemel.methods.base import Embedded
from gemel.methods.deepcluster_v2 import UNKNOWN, DeepClusterV2, deepcluster_v2_loss
from gemel.methods.parts.kmeans import kmeans
from hooks import batch_of, begun

PREFIX = "deepcluster2"


def test_clusters(relatives_b: Golden) -> None:
    bank, index = relatives_b[f"{PREFIX}.bank"], relatives_b[f"{PREFIX}.index"]
    for head in range(3):
        rows = bank[head % 2]
        found = kmeans(rows, rows[relatives_b[f"{PREFIX}.start{head}"]], iterations=10, spherical=True)
        near(found.centroids, relatives_b[f"{PREFIX}.centroids{head}"], 1e-9)
        labels = torch.full((36,), UNKNOWN).index_copy(0, index, found.labels)
        assert torch.equal(labels, relatives_b[f"{PREFIX}.assignments"][head])


def test_an_empty_cluster_keeps_its_centroid(relatives_b: Golden) -> None:
    rows = relatives_b[f"{PREFIX}.empty.bank"]
    found = kmeans(rows, rows[relatives_b[f"{PREFIX}.empty.start"]], iterations=10, spherical=True)
    near(found.centroids, relatives_b[f"{PREFIX}.empty.centroids"], 1e-9)
    assert torch.equal(found.labels, relatives_b[f"{PREFIX}.empty.assignments"])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_loss(relatives_b: Golden, dtype: torch.dtype, tolerance: float) -> None:
    centroids = [relatives_b[f"{PREFIX}.centroids{head}"].to(dtype) for head in range(3)]
    for step in range(4):
        views = relatives_b[f"{PREFIX}.views"][step].to(dtype, copy=True).requires_grad_()
        labels = relatives_b[f"{PREFIX}.assignments"][:, relatives_b[f"{PREFIX}.batch"][step]]
        assert step or bool((labels == UNKNOWN).any())
        loss = deepcluster_v2_loss(views.unbind(), labels, centroids)["loss"]
        loss.backward()
        near(loss, relatives_b[f"{PREFIX}.loss"][step], tolerance)
        near(views.grad, relatives_b[f"{PREFIX}.grad_views"][step], 10 * tolerance)


def test_an_epoch_fills_the_memory(relatives_b: Golden) -> None:
    """The method on views that are embeddings already; the memory as released, but in the order of the images."""
    method = DeepClusterV2(Given(16), classes=7, heads=3, projector=(16,))
    method.projector = torch.nn.Identity()
    method.attach(36)
    method.double()
    method.labels.copy_(relatives_b[f"{PREFIX}.assignments"])
    for step in range(4):
        index, views = relatives_b[f"{PREFIX}.batch"][step], relatives_b[f"{PREFIX}.views"][step]
        method(Batch(list(views), index, torch.full((8,), -1)), 0.0)
        method.after_step(0.0)
    index = relatives_b[f"{PREFIX}.index_after"]
    assert torch.equal(method.written.nonzero().flatten(), index.sort().values)
    near(method.memory[:, index], relatives_b[f"{PREFIX}.bank_after"], 1e-9)


def method(**options: Any) -> DeepClusterV2:
    torch.manual_seed(0)
    return DeepClusterV2(
        convnet(widths=(8, 8), strides=(2, 2)), **{"classes": 4, "projector": (16, 8), "heads": 2, **options}
    )


def test_images_that_an_epoch_left_out_have_no_label() -> None:
    made = begun(method(), 20)
    assert bool((made.labels >= 0).all())
    data = batch_of(made)  # images 0 to 11
    made(data, 0.0)
    made.after_step(0.0)
    made.before_epoch(lambda *_, **__: pytest.fail("the memory is enough"), 0.5)
    assert bool((made.labels[:, :12] >= 0).all())
    assert bool((made.labels[:, 12:] == UNKNOWN).all())
    assert not bool(made.written.any())
    left_out = data._replace(index=data.index + 8)
    assert torch.isfinite(made(left_out, 0.5)["loss"])
    nobody = data._replace(index=torch.full((12,), 19))
    assert float(made(nobody, 0.5)["loss"].detach()) == 0.0


def test_a_word_before_the_start() -> None:
    made = method()
    made.attach(20)
    for views, readable, told in ((1, 20, "two or more global views"), (2, 3, "3 images for 4 clusters")):
        seen = Embedded(torch.randn(20, views, 8), torch.arange(20) < readable)
        with pytest.raises(UserError, match=told):
            made.before_stage("pretrain", lambda *_, found=seen, **__: found)


def test_smallest_cases() -> None:
    centroids = torch.eye(10, dtype=torch.float64)
    loss = deepcluster_v2_loss([3 * centroids], torch.arange(10)[None], [centroids])["loss"]
    assert float(loss) == pytest.approx(log(1 + 9 * exp(-10)))
    rows = torch.eye(5, dtype=torch.float64).repeat(4, 1)
    found = kmeans(rows, rows[:5], iterations=10, spherical=True)
    assert torch.equal(found.centroids, torch.eye(5, dtype=torch.float64))
    assert torch.equal(found.labels, torch.arange(20) % 5)
