"""A step on crops that workers left unfinished is the step on finished views."""

from pathlib import Path

import torch
from lightning.fabric.utilities import move_data_to_device

from conftest import write_photos
from gemel import backbones, methods
from gemel.data.batches import Loader, Plan, Unfinished
from gemel.data.sources import open_source
from gemel.request.step_time import seconds_a_step
from gemel.settings.recipes import AdamWOptimizer, PhotoViews
from gemel.training.task import Pretrainer


def test_a_step_on_unfinished_batches(tmp_path: Path) -> None:
    write_photos(tmp_path, 8)
    losses: list[float] = []
    for on_device in (False, True):
        plan = Plan(open_source(tmp_path), PhotoViews(), 16, 0, 4, on_device=on_device)
        torch.manual_seed(0)
        method = methods.find("barlow_twins")(backbones.find("convnet")(), projector=(32, 32))
        module = Pretrainer(method, AdamWOptimizer(), plan.views, batch_size=4, steps=10, warmup=0.1)
        batch = next(iter(Loader(plan)))
        assert isinstance(batch, Unfinished) == on_device
        moved = move_data_to_device(batch, torch.device("cpu"))
        assert type(moved) is type(batch), "Lightning moves it as it is"
        losses.append(float(module.training_step(moved, 0).detach()))
        assert seconds_a_step(method, AdamWOptimizer(), plan, workers=1) > 0
    assert abs(losses[0] - losses[1]) < 0.02 * abs(losses[0])
