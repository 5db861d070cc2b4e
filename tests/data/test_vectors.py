"""Vectors in place of images: every kind of file, what is refused, and which vectors are near."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from gemel.backbones.vectors import fitted, vectors
from gemel.data.batches import Loader
from gemel.data.neighbour_table import count_for, neighbours
from gemel.data.plan import Plan
from gemel.data.sources import VectorSource, open_source
from gemel.errors import UserError
from gemel.settings.recipes import VectorViews

ROWS = load_digits().data[:300].astype(np.float32)
PATHS = [f"digit/{number:03}.png" for number in range(300)]


def written(folder: Path, kind: str) -> Path:
    path = folder / f"rows.{kind}"
    if kind == "npy":
        np.save(path, ROWS)
    elif kind == "npz":
        np.savez(path, vector=ROWS, path=PATHS)
    else:
        parquet.write_table(pa.table({"path": PATHS, "vector": list(ROWS)}), path)
    return path


@pytest.mark.parametrize("kind", ["npy", "npz", "parquet"])
def test_files(kind: str, tmp_path: Path) -> None:
    source = open_source(written(tmp_path, kind))
    assert isinstance(source, VectorSource)
    np.testing.assert_array_equal(source.take(np.arange(300)), ROWS)
    assert source.path(7) == (f"{tmp_path}/rows.npy/007" if kind == "npy" else "digit/007.png")
    assert source.version(1) != source.version(2)


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_a_column_of_labels_comes_along(kind: str, tmp_path: Path) -> None:
    """As with every other table: label by itself, another column by its name, and what is unknown stays so."""
    kinds = [None if row == 3 else "even" if row % 2 == 0 else "odd" for row in range(300)]
    path = tmp_path / f"rows.{kind}"
    if kind == "npz":
        named = np.array([one or "" for one in kinds])
        np.savez(
            path, vector=ROWS, label=named, fold=np.arange(300) % 3, centre=ROWS.mean(0), other=np.ones(300, complex)
        )
    else:
        folds = [row % 3 for row in range(300)]
        parquet.write_table(pa.table({"vector": list(ROWS), "label": kinds, "fold": folds, "other": list(ROWS)}), path)
    source = open_source(path)
    assert source.labels is not None
    assert source.label_names == ["even", "odd"]
    assert source.labels[:5].tolist() == [0, 1, 0, -1, 0]
    assert isinstance(source, VectorSource)
    assert source.only(np.array([3, 4])).column("label") == ["", "even"]
    folds = open_source(path, labels="fold")
    assert folds.labels is not None
    assert folds.labels[:5].tolist() == [0, 1, 2, 0, 1]
    assert open_source(path, labels="none").labels is None


def test_labels_for_other_rows_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", vector=ROWS, label=np.arange(299))
    with pytest.raises(UserError, match="holds 299 values of label for 300 vectors; give one for each"):
        open_source(tmp_path / "rows.npz")


def test_arrays_and_halves() -> None:
    source = open_source(ROWS.astype(np.float16))  # pyright: ignore[reportArgumentType]
    assert isinstance(source, VectorSource)
    assert source.vectors.dtype == np.float16
    assert source.take(np.array([3])).dtype == np.float32


def broken(**changes: Any) -> dict[str, Any]:
    return {"vector": list(ROWS), "path": PATHS} | changes


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": PATHS}, "300 of the 300 files in .* are not there"),
        ({"x": PATHS}, "has the columns x; call that of paths path, that of images image, or that of vectors vector"),
        (broken(vector=[*ROWS[:-1], ROWS[0][:5]]), "the vectors differ in length: 5, 64"),
        (broken(vector=[*ROWS[:-1], None]), "the vectors differ in length: 64, and 1 rows have none"),
        (broken(vector=PATHS), "vector holds string; give a list of numbers for each row"),
        (broken(vector=[*ROWS[:-1], np.full(64, np.nan, np.float32)]), "1 of 300 vectors of .* hold NaN .* row 299"),
        (broken(vector=[ROWS[0]] * 300), "all 300 vectors of .* are the same"),
    ],
)
def test_what_is_refused(columns: dict[str, Any], message: str, tmp_path: Path) -> None:
    parquet.write_table(pa.table(columns), tmp_path / "rows.parquet")
    with pytest.raises(UserError, match=message):
        open_source(tmp_path / "rows.parquet")


@pytest.mark.parametrize("kind", ["npy", "npz", "parquet"])
@pytest.mark.parametrize("length", [0, 10, 400])
def test_damaged_files(kind: str, length: int, tmp_path: Path) -> None:
    path = written(tmp_path, kind)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match="can't be read as vectors"):
        open_source(path)


def test_neighbours_are_scikit_learns() -> None:
    found = neighbours(torch.from_numpy(ROWS), 5)
    expected, _ = NearestNeighbors(n_neighbors=5).fit(ROWS).kneighbors()  # of equally far ones any may be taken
    distances = np.linalg.norm(ROWS[found] - ROWS[:, None], axis=2)
    np.testing.assert_allclose(distances, expected, rtol=1e-4)
    assert not (found == np.arange(300)[:, None]).any()


@pytest.mark.parametrize("kept", [5, 40])
@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
def test_components_are_scikit_learns(kept: int, whitening: float) -> None:
    rows = fitted(vectors(width=64, components=kept, whitening=whitening), torch.from_numpy(ROWS)).numpy()
    expected = PCA(kept, svd_solver="full").fit_transform(ROWS)
    spread = expected.std(0)
    expected = expected / (spread**whitening * spread[0] ** (1 - whitening))
    np.testing.assert_allclose(np.abs(rows[:, :5]), np.abs(expected[:, :5]), rtol=1e-3, atol=2e-3)
    np.testing.assert_allclose(rows.var(0).sum(), expected.var(0).sum(), rtol=1e-2)
    assert abs(rows[:, 0].std() - 1) < 1e-4


def test_components_without_spread() -> None:
    """As many components as dimensions, of which most are constant."""
    rows = torch.zeros(50, 6)
    rows[:, 2] = torch.arange(50.0)
    found = fitted(vectors(width=6, components=6, whitening=1.0), rows)
    assert bool(torch.isfinite(found).all())
    assert float(found[:, 1:].abs().max()) < 1e-3


@pytest.mark.parametrize(
    ("images", "classes", "expected"), [(1000, 10, 10), (336, 14, 6), (20, 10, 3), (3, 2, 2), (2, 2, 1)]
)
def test_fewer_neighbours_where_classes_are_small(images: int, classes: int, expected: int) -> None:
    assert count_for(images, classes) == expected
    assert neighbours(torch.randn(images, 2), expected).shape == (images, expected)


def test_a_batch_is_the_vectors_and_their_neighbours() -> None:
    source = VectorSource("rows", ROWS, PATHS)
    source.neighbours = neighbours(torch.from_numpy(ROWS), 4)
    plan = Plan(source, VectorViews(global_count=3), 0, 5, 100)
    batches = list(Loader(plan, range(6)))
    assert [tuple(view.shape) for view in batches[0].views] == [(100, 64)] * 3
    assert sorted(torch.cat([batch.index for batch in batches[:3]]).tolist()) == list(range(300))
    for batch in batches:
        index = batch.index.numpy()
        np.testing.assert_array_equal(batch.views[0].numpy(), ROWS[index])
        for view in batch.views[1:]:
            near = ROWS[source.neighbours[index]]  # (100, 4, 64)
            assert (near == view.numpy()[:, None]).all(2).any(1).all()
    halves = [list(Loader(Plan(source, plan.views, 0, 5, 100, rank=rank, processes=2), range(6))) for rank in (0, 1)]
    for whole, *parts in zip(batches, *halves, strict=True):
        for view, pieces in enumerate(zip(*(part.views for part in parts), strict=True)):
            assert torch.equal(whole.views[view], torch.cat(pieces))
