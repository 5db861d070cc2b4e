"""Finer classes joined by group-average linkage, beside scipy's of the images themselves."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from torch import Tensor

import gemel
from gemel.methods.base import Embedded
from gemel.methods.parts.joined_classes import JoinedClasses, joined
from methods.test_twist import batch, method


def parts(one: NDArray[np.int64]) -> set[frozenset[int]]:
    """Numbers of classes mean nothing: which rows stand together."""
    return {frozenset(np.flatnonzero(one == number).tolist()) for number in np.unique(one)}


@given(rows=st.integers(2, 30), classes=st.integers(1, 8), seed=st.integers(0, 1000))
def test_classes_of_one_image_each_are_joined_as_by_scipy(rows: int, classes: int, seed: int) -> None:
    features = np.random.default_rng(seed).normal(size=(rows, 6))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    alike = features @ features.T
    found = joined(alike, np.ones(rows), classes)
    apart = (1 - alike)[np.triu_indices(rows, 1)].clip(0)
    expected = fcluster(linkage(apart, "average"), classes, "maxclust")
    assert parts(found) == parts(expected.astype(np.int64))
    assert set(found.tolist()) == set(range(min(rows, classes)))


@given(sizes=st.lists(st.integers(0, 5), min_size=2, max_size=8), seed=st.integers(0, 1000))
def test_a_step_joins_the_two_whose_images_are_most_alike(sizes: list[int], seed: int) -> None:
    """Means over pairs of images, by their definition; two joins, the second of unequal sizes."""
    used = [number for number, size in enumerate(sizes) if size]
    assume(len(used) > 2)
    random = np.random.default_rng(seed)
    images = [random.normal(size=(size, 4)) for size in sizes]
    images = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in images]
    alike = np.array([[(a @ b.T).mean() if len(a) and len(b) else 0.0 for b in images] for a in images])
    found = joined(alike, np.array(sizes, float), len(used) - 2)
    groups = [[number] for number in used]
    for _ in range(2):
        pairs = [(a, b) for a in range(len(groups)) for b in range(a)]
        rows = [np.concatenate([images[number] for number in group]) for group in groups]
        a, b = max(pairs, key=lambda pair: (rows[pair[0]] @ rows[pair[1]].T).mean())
        groups[b] += groups.pop(a)
    assert parts(found[used]) == {frozenset(used.index(number) for number in group) for group in groups}
    assert all(found[number] == 0 for number, size in enumerate(sizes) if not size)


def look(features: Tensor) -> Tensor:
    """Six finer classes, by the direction; the second head numbers them the other way round."""
    sure = torch.nn.functional.one_hot(features[:, :6].argmax(1), 6).float()
    return torch.stack([sure, sure.flip(1)], 1)


def test_a_frequent_kind_of_four_parts_is_found_whole() -> None:
    """200 images in four directions that are near each other, and two rare kinds of 10 apart."""
    kinds = torch.tensor([0] * 200 + [1] * 10 + [2] * 10)
    finer = torch.cat([torch.arange(200) % 4, torch.full((10,), 4), torch.full((10,), 5)])
    features = torch.eye(9)[finer]
    features[kinds == 0, 6] = 0.9
    module = JoinedClasses(heads=2, classes=3, finer=2)
    before = module(look(features))
    assert before.shape == (220, 2, 3)
    module.join(features, look)
    found = module(look(features))
    torch.testing.assert_close(found.sum(2), torch.ones(220, 2))
    for head in range(2):
        assert parts(found[:, head].argmax(1).numpy()) == parts(kinds.numpy())
    again = JoinedClasses(heads=2, classes=3, finer=2)
    again.load_state_dict(module.state_dict())
    assert torch.equal(again(look(features)), found)


@pytest.mark.parametrize("options", [{}, {"heads": 3, "layers": 1}, {"heads": 3, "consensus": True}, {"teacher": True}])
def test_twist_learns_the_finer_and_gives_the_joined(options: dict[str, object]) -> None:
    twist = method(classes=3, finer=4, **options)
    assert twist(batch(), 0.0)["loss"].isfinite()
    features = torch.randn(40, twist.backbone.width, generator=torch.Generator().manual_seed(0))
    if twist.teacher is not None:
        twist.before_stage("pretrain")
    twist.eval().after_stage(lambda *given, **more: Embedded(features, torch.ones(40, dtype=torch.bool)))
    found = twist.classify(features)
    assert found.shape == (40, 3)
    torch.testing.assert_close(found.sum(1), torch.ones(40))
    finer = twist._logits(features).softmax(2)  # pyright: ignore[reportPrivateUsage]
    assert finer.shape == (40, options.get("heads", 1), 12)


def test_a_run_keeps_its_joined_classes(tmp_path: Path) -> None:
    options = {"name": "twist", "finer": 2, "hidden": 64, "heads": 2}
    tiny = {"epochs": 6, "image_size": 8, "threads": 1, "workers": 0, "quiet": True}
    run = gemel.pretrain("digits:tail10", classes=8, method=options, out=tmp_path / "run", **tiny)
    classes = run.classes()["class"].to_pylist()
    assert 1 < len(set(classes)) <= 8
    assert gemel.classify(run, "digits:tail10")["class"].to_pylist() == classes
    graph = gemel.export(run, "onnx", out=tmp_path / "graph.onnx")  # its outputs are compared with the network's
    assert Path(graph).is_file()
