"""Crops that workers left unfinished become the finished views, wherever they are, without waiting for the device."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric.utilities import move_data_to_device
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from conftest import write_photos
from gemel.data import on_device
from gemel.data.batches import Loader
from gemel.data.normalise import Normalise
from gemel.data.plan import Batch, Plan, Unfinished
from gemel.data.sources import open_source
from gemel.data.views import PhotoDraw, draw
from gemel.settings.recipes import PhotoViews
from gemel.settings.view_presets import VIEW_FAMILIES


@pytest.mark.parametrize("autocast", [False, True])
def test_unfinished_batches_are_finished_alike(tmp_path: Path, autocast: bool) -> None:
    write_photos(tmp_path, 8)
    views = PhotoViews(global_count=3, kinds=("random", "plain", "strong"), local_count=1)
    partners = (torch.arange(8).view(8, 1) + torch.tensor([[1, 3]])).numpy() % 8
    plan = Plan(open_source(tmp_path), views, 48, 0, 4, partners=partners)
    whole, parted = Loader(plan), Loader(dataclasses.replace(plan, on_device=True), workers=2)
    for one, two in zip(whole, parted, strict=True):
        assert isinstance(one, Batch)
        assert isinstance(two, Unfinished)
        assert [finishes is None for finishes in two.finishes] == [False, True, True, False] * 2
        moved = move_data_to_device(two, torch.device("cpu"))
        assert type(moved) is Unfinished, "Fabric moves it as it is"
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            batch = moved.finished()
        assert torch.equal(one.index, batch.index)
        assert torch.equal(one.label, batch.label)
        assert len(batch.views) == len(batch.partners) == 4
        for a, b in zip(one.views + one.partners, batch.views + batch.partners, strict=True):
            assert a.shape == b.shape
            # a value that is off by one at 128 is far off after solarising
            assert ((a.int() - b.int()).abs() <= 1).float().mean() > 0.999


@pytest.mark.parametrize("name", ["moco_v1", "twist_multicrop"])
def test_finishing_reads_nothing_back_from_the_device(name: str) -> None:
    """A fake CUDA tensor raises where a number is read, or a shape depends on one."""
    views = VIEW_FAMILIES[name]
    batch = [_crops(views, number, side) for number, side in enumerate(views.sizes(40))]
    with FakeTensorMode():
        for side, finishes in batch:
            crops = torch.empty((3, 3, side, side), dtype=torch.uint8, device="cuda")
            finished = on_device.finish(crops, on_device.Finishes(*(_on_cuda(part) for part in finishes)))
            assert (finished.shape, finished.dtype, finished.device.type) == (crops.shape, torch.uint8, "cuda")
            floats = Normalise(views.mean, views.std).to("cuda")(finished)
            assert (floats.shape, floats.dtype, floats.device.type) == (crops.shape, torch.float32, "cuda")


def _crops(views: PhotoViews, view: int, side: int) -> tuple[int, on_device.Finishes]:
    draws = [draw(views, seed=0, epoch=0, index=index, view=view, height=50, width=60, size=side) for index in range(3)]
    return side, on_device.stack([one for one in draws if isinstance(one, PhotoDraw)])


def _on_cuda(part: Any) -> Any:
    return torch.empty(part.shape, dtype=part.dtype, device="cuda") if isinstance(part, Tensor) else part
