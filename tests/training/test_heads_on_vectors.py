"""Heads on vectors: a run from end to end, broken off and resumed, and what the commands make of it."""

import os
import signal
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import parquet
from sklearn.datasets import load_digits

import gemel
from gemel import methods
from gemel.backbones.vectors import vectors
from gemel.data.plan import Batch
from gemel.engine import checkpoints
from gemel.errors import Interrupted, UserError
from gemel.methods.base import Embedded
from gemel.methods.parts.clustered_start import clusters
from gemel.methods.twist import Twist, multi_crop_loss
from gemel.metrics.clustering import clustering_scores
from gemel.settings.schema import schema_of
from gemel.training.task import Pretraining

DIGITS = load_digits()
WITH_CLASSES = [name for name in methods.available() if "classes" in schema_of(methods.find(name)).model_fields]
SHORT: dict[str, Any] = {"epochs": 10, "classes": 10, "threads": 1, "workers": 0, "quiet": True}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vectors")
    names = [f"{number:04}" for number in range(len(DIGITS.data))]
    np.savez(folder / "digits.npz", vector=DIGITS.data.astype(np.float32), path=names)
    lines = [f"{name},{label}" for name, label in zip(names, DIGITS.target, strict=True)]
    (folder / "labels.csv").write_text("\n".join(["path,label", *lines]))
    return folder / "digits.npz"


@pytest.fixture(scope="module")
def run(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> gemel.Run:
    out = tmp_path_factory.mktemp("heads") / "run"
    return gemel.pretrain(rows, out=out, labels=rows.parent / "labels.csv", **SHORT)


def test_a_run_from_end_to_end(run: gemel.Run, rows: Path) -> None:
    assert run.settings["train"] == "heads"
    assert run.settings["backbone"] == {"name": "vectors", "width": 64, "components": 64, "whitening": 0.5}
    table = parquet.read_table(run.path / "classes.parquet")
    assert table["path"].to_pylist()[:2] == ["0000", "0001"]
    scores = {result["protocol"]: result["metrics"] for result in run.evaluations()}
    assert scores["cluster"]["acc"] > 0.7
    assert scores["knn"]["top1"] > 0.96
    assert (run.path / "report.html").is_file()
    again = gemel.classify(run, rows)
    assert again["class"].to_pylist() == table["class"].to_pylist()
    assert np.stack(gemel.embed(run, rows)["vector"].to_pylist()).shape == (1797, 64)


def test_broken_off_and_resumed(run: gemel.Run, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, follow = count(1), Pretraining.after_step

    def interrupted(self: Pretraining, progress: float) -> None:
        follow(self, progress)
        if type(self) is Pretraining and next(steps) == 33:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Pretraining, "after_step", interrupted)
        with pytest.raises(Interrupted, match="after step 33 of 70; gemel resume"):
            gemel.pretrain(rows, out=tmp_path / "run", labels=rows.parent / "labels.csv", **SHORT)
    resumed = gemel.resume(tmp_path / "run", quiet=True)
    one, two = (checkpoints.load(each) for each in (run, resumed))
    assert one is not None and two is not None
    assert all(torch.equal(value, two["method"][name]) for name, value in one["method"].items())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"backbone": "resnet18"}, "vectors have no network of theirs"),
        ({"train": "all"}, "vectors have no network of theirs"),
        ({"memory": "1GB"}, "--memory: heads learn from vectors, not from images; leave it out"),
        ({"part": 8}, "--part: heads learn from vectors"),
        ({"classes": 5000}, "--classes 5000 of 1797 images; give at most as many"),
    ],
)
def test_mistakes(given: dict[str, Any], message: str, rows: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        gemel.pretrain(rows, out=tmp_path / "run", **{**SHORT, **given})
    assert not (tmp_path / "run").exists()


def test_images_for_a_run_of_vectors(run: gemel.Run) -> None:
    with pytest.raises(UserError, match="takes vectors of 64 numbers, and digits holds images"):
        gemel.classify(run, "digits")
    with pytest.raises(UserError, match="takes vectors of 64 numbers, and array holds vectors of 5 numbers"):
        gemel.classify(run, np.random.default_rng(0).standard_normal((9, 5)).astype(np.float32))


@pytest.mark.parametrize("name", WITH_CLASSES)
def test_every_method_with_classes(name: str, rows: Path, tmp_path: Path) -> None:
    """Of vectors as of images, without a line more."""
    given = {**SHORT, "epochs": 2, "classes": 4}
    small = {key: value for key, value in methods.find(name).small.items() if key != "classes"}
    out = tmp_path / "run"
    run = gemel.pretrain(rows, out=out, method={"name": name, **small}, **given)
    table = parquet.read_table(run.path / "classes.parquet")
    assert table.num_rows == 1797
    assert set(table["class"].to_pylist()) <= set(range(4))
    assert gemel.classify(run, rows)["class"].to_pylist() == table["class"].to_pylist()


@pytest.mark.parametrize("layers", [0, 1])
def test_heads_in_one_product_are_heads_apart(layers: int) -> None:
    """Loss, terms and gradients of three heads, each by itself, and each with its own β."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"classes": 4, "hidden": 5, "layers": layers, "heads": 3, "beta": (1.0, 0.5)}
    twist = Twist(vectors(width=6, components=6), **options).double()
    views = [torch.randn(12, 6, dtype=torch.float64) for _ in range(2)]
    terms = twist(Batch(views, torch.arange(12), torch.full((12,), -1)), 0.0)
    terms["loss"].backward()
    bank: Any = twist.heads[0]
    first, bias = bank.first.weight, bank.first.bias
    size, losses = len(first) // 3, list[torch.Tensor]()
    own = first.detach().requires_grad_()
    for head in range(3):
        part = slice(size * head, size * (head + 1))
        rows = torch.cat(views) @ own[part].T + bias.detach()[part]
        if layers:
            rows = _normed(rows).relu() @ bank.weight.detach()[head] + bank.bias.detach()[4 * head : 4 * head + 4]
        losses.append(multi_crop_loss(_normed(rows).chunk(2), beta=(1.0, 0.5, 1.0)[head])["loss"])
    expected = torch.stack(losses).mean()
    torch.testing.assert_close(terms["loss"], expected)
    expected.backward()
    torch.testing.assert_close(first.grad, own.grad)


def _normed(rows: torch.Tensor) -> torch.Tensor:
    return (rows - rows.mean(0)) * (rows.var(0, correction=0) + 1e-5).rsqrt()


def test_copies_are_one_cluster_and_no_warning() -> None:
    rows = torch.eye(3, 6).repeat(20, 1)
    found = clusters(rows, 5, 2)
    assert found.shape == (60, 2)
    assert all(len(column.unique()) == 3 for column in found.T)


def test_some_heads_begin_from_clusters() -> None:
    """Until a quarter of the way they learn what k-means found, then the loss of all others."""
    torch.manual_seed(0)
    data = torch.cat([torch.randn(30, 6) + 5 * torch.eye(6)[kind] for kind in range(4)])
    twist = Twist(vectors(width=6, components=6), classes=4, hidden=8, layers=1, heads=4, clustered=0.5)
    twist.attach(len(data))
    twist.before_stage("pretrain", lambda *given, **more: Embedded(data, torch.ones(len(data), dtype=torch.bool)))
    assert twist.starts is not None and twist.starts.shape == (120, 2)
    assert clustering_scores(np.repeat(np.arange(4), 30), twist.starts[:, 0].numpy())["acc"] == 1.0
    optimizer = torch.optim.AdamW(twist.parameters(), lr=1e-2)
    batch = Batch([data, data], torch.arange(120), torch.full((120,), -1))
    for _ in range(60):
        twist(batch, 0.1)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        found = twist.heads[0](data)[1].view(120, 4, 4).argmax(2)
    assert bool((found[:, 2:].int() == twist.starts).all())
    assert not bool((found[:, :2].int() == twist.starts).all(0).any())
    early, late = (float(twist(batch, progress)["loss"].detach()) for progress in (0.1, 0.25))
    assert early != late
