"""A step's batch is a pure function of (seed, step); unreadable images are replaced and reported."""

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import write_photos
from gemel.data.batches import InferenceLoader, Loader, ViewLoader, draw_views
from gemel.data.plan import Batch, Plan
from gemel.data.sources import open_source
from gemel.data.views import choose_partner
from gemel.errors import UserError
from gemel.settings.recipes import GlyphViews, PhotoViews

DIGITS = open_source("digits")


def plan(**changes: object) -> Plan:
    values = {"source": DIGITS, "views": GlyphViews(), "size": 16, "seed": 3, "batch_size": 64}
    return Plan(**{**values, **changes})  # pyright: ignore[reportArgumentType]


def test_an_epoch_shows_each_image_once_and_drops_the_rest() -> None:
    indices = np.concatenate([plan().rows(step) for step in range(28)])
    assert len(indices) == len(set(indices.tolist())) == 28 * 64
    again = np.concatenate([plan().rows(step) for step in range(28, 56)])
    assert not np.array_equal(indices, again), "another epoch, another order"


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_take_contiguous_rows(processes: int) -> None:
    parts = [plan(rank=rank, processes=processes).rows(5) for rank in range(processes)]
    assert np.array_equal(np.concatenate(parts), plan().rows(5))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_starts_anywhere(workers: int) -> None:
    assert plan(batch_size=256).steps_per_epoch == 7
    whole = list(Loader(plan(batch_size=256), range(5, 9)))
    rest = list(Loader(plan(batch_size=256), range(6, 9), workers=workers))
    for one, two in zip(whole[1:], rest, strict=True):
        assert torch.equal(one.index, two.index)
        assert torch.equal(one.label, two.label)
        assert all(torch.equal(a, b) for a, b in zip(one.views, two.views, strict=True))


def test_batches_are_uint8_and_labelled() -> None:
    batch = next(iter(Loader(plan())))
    assert [view.shape for view in batch.views] == [(64, 3, 16, 16)] * 2
    assert batch.views[0].dtype == torch.uint8
    assert DIGITS.labels is not None
    assert np.array_equal(batch.label.numpy(), DIGITS.labels[batch.index.numpy()])


def test_unreadable_images_give_way_to_the_next(tmp_path: Path) -> None:
    paths = sorted(write_photos(tmp_path, 12))
    paths[4].write_bytes(b"")
    paths[5].write_text("no picture")
    source = open_source(tmp_path)
    drawn = draw_views(plan(source=source, views=PhotoViews()), 0, [3, 4, 11])
    assert drawn.batch.index.tolist() == [3, 6, 11]
    assert set(drawn.rejected) == {4, 5}
    assert all(drawn.rejected.values())
    loader = InferenceLoader(source, size=16, glyph=False, batch_size=3)
    assert torch.cat([index for _, index in loader]).tolist() == [0, 1, 2, 3, 6, 7, 8, 9, 10, 11]
    assert set(loader.rejected) == {4, 5}


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    for path in write_photos(tmp_path, 3):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="none of the 3 images"):
        draw_views(plan(source=open_source(tmp_path)), 0, [0])


PARTNERS = np.stack([(np.arange(1797) + step) % 1797 for step in (1, 5, 9)], 1)


def test_partners_are_drawn_by_seed_epoch_and_index() -> None:
    whole = plan(partners=PARTNERS)
    drawn = [choose_partner(PARTNERS, seed=3, epoch=0, index=index) for index in range(1797)]
    offsets = (np.array(drawn) - np.arange(1797)) % 1797
    assert set(offsets) == {1, 5, 9}
    assert all(abs((offsets == one).mean() - 1 / 3) < 0.05 for one in (1, 5, 9))
    for changes in ({"seed": 4, "epoch": 0}, {"seed": 3, "epoch": 1}):
        other = [choose_partner(PARTNERS, index=index, **changes) for index in range(1797)]
        assert 0.2 < np.mean(np.array(other) == drawn) < 0.5
    steps = range(27, 30)
    batches = list(Loader(whole, steps))
    for step, batch in zip(steps, Loader(whole, steps, workers=2), strict=True):
        same = batches[step - 27]
        assert all(torch.equal(one, two) for one, two in zip(batch.partners, same.partners, strict=True))
        assert all(torch.equal(one, two) for one, two in zip(batch.views, same.views, strict=True))
    (half,) = Loader(plan(partners=PARTNERS, rank=1, processes=2), range(28, 29))
    assert torch.equal(half.partners[1], batches[1].partners[1][32:])
    (alone,) = Loader(plan(), range(28, 29))
    assert alone.partners == []
    assert torch.equal(alone.views[0], batches[1].views[0]), "the image's own views stay the same"


def test_a_partner_is_the_image_of_its_index() -> None:
    views = GlyphViews(kinds="plain")
    batch = draw_views(plan(views=views, partners=PARTNERS), 2, range(20)).batch
    chosen = [choose_partner(PARTNERS, seed=3, epoch=2, index=index) for index in range(20)]
    expected = draw_views(plan(views=views), 0, chosen).batch
    assert torch.equal(batch.partners[0], expected.views[0])
    itself = draw_views(plan(partners=np.arange(1797)[:, None]), 0, range(20)).batch
    assert not torch.equal(itself.partners[0], itself.views[0]), "an image that is its own partner is drawn apart"


def test_unreadable_partners_give_way_to_the_next(tmp_path: Path) -> None:
    paths = sorted(write_photos(tmp_path, 6))
    paths[3].write_bytes(b"")
    source = open_source(tmp_path)
    drawn = draw_views(plan(source=source, views=PhotoViews(kinds="plain"), partners=np.full((6, 1), 3)), 0, [0, 3])
    assert drawn.batch.index.tolist() == [0, 4]
    assert set(drawn.rejected) == {3}
    assert torch.equal(drawn.batch.partners[0][0], drawn.batch.views[0][1])


def test_an_epoch_has_an_order_of_its_own() -> None:
    own = np.concatenate([np.arange(1000, 1100).repeat(18), np.arange(7)])
    found = [batch.index.numpy() for batch in Loader(plan(order=own), range(28, 56))]
    assert np.array_equal(np.concatenate(found), own[: 28 * 64])
    half = next(iter(Loader(plan(order=own, rank=1, processes=2), range(28, 56))))
    assert np.array_equal(half.index.numpy(), own[32:64])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"order": np.arange(1791)}, r"order must be an array of integers \(1792,\) or longer.*not int64 \(1791,\)"),
        ({"order": np.arange(1792.0)}, "order must be an array of integers .* not float64"),
        ({"order": np.arange(6, 1798)}, "order must be indices of the images, 0 to 1796, not from 0 to 1797"),
        ({"partners": PARTNERS[:-1]}, r"partners must be an array of integers \(1797, k\).*not int64 \(1796, 3\)"),
        ({"partners": np.empty((1797, 0), np.int64)}, r"k at least 1, not int64 \(1797, 0\)"),
        ({"partners": PARTNERS - 1}, "partners must be indices of the images, 0 to 1796, not from -1 to 1795"),
        ({"batch_size": 1800, "processes": 7}, "cannot fill a batch of 1800.*\n.*cannot be shared by 7 processes"),
    ],
)
def test_partners_and_orders_that_cannot_be(changes: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        Loader(plan(**changes))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epochs_views_in_the_order_of_the_images(tmp_path: Path, workers: int) -> None:
    paths = sorted(write_photos(tmp_path, 12))
    paths[4].write_bytes(b"")
    whole = plan(source=open_source(tmp_path), views=PhotoViews(local_count=2), batch_size=4)
    loader = ViewLoader(whole, 3, batch_size=5, workers=workers)
    batches = list(loader)
    assert len(loader) == 3
    assert [len(batch.index) for batch in batches] == [4, 5, 2]
    assert torch.cat([batch.index for batch in batches]).tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]
    assert set(loader.rejected) == {4}
    training = draw_views(whole, 3, [5, 6, 7, 8, 9]).batch
    assert len(batches[1].views) == 2, "global views alone"
    assert all(torch.equal(one, two) for one, two in zip(batches[1].views, training.views[:2], strict=True))
    parted = list(ViewLoader(dataclasses.replace(whole, on_device=True), 3, [9, 4, 2], workers=workers))
    assert [batch.batch.index.tolist() for batch in parted] == [[9, 2]]
    assert all(
        torch.equal(one, two) for one, two in zip(parted[0].finished().views, _views(whole, [9, 2]), strict=True)
    )


def _views(whole: Plan, indices: list[int]) -> list[torch.Tensor]:
    return draw_views(whole, 3, indices).batch.views[:2]


def test_batches_that_cannot_be() -> None:
    with pytest.raises(UserError, match="1797 images cannot fill a batch of 2000"):
        Loader(plan(batch_size=2000))
    with pytest.raises(UserError, match="cannot be shared by 3 processes"):
        Loader(plan(processes=3))


def test_glyphs_are_always_finished() -> None:
    assert isinstance(next(iter(Loader(plan(on_device=True)))), Batch)


def test_a_plan_travels_to_workers() -> None:
    assert np.array_equal(pickle.loads(pickle.dumps(plan())).rows(1), plan().rows(1))
