"""A batch in shares: one, two and three processes train to the same bits, and learn what they learn without shares."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import relu

import gemel
from forked import pair, together
from gemel import backbones, distributed, methods
from gemel.backbones.base import measured
from gemel.backbones.convnet import convnet
from gemel.data.plan import Plan
from gemel.data.sources import open_source
from gemel.engine import checkpoints
from gemel.engine.devices import Devices
from gemel.engine.in_shares import Shares, check_network, turned
from gemel.engine.loop import Loop
from gemel.engine.ordered_sums import by_image
from gemel.errors import UserError
from gemel.launcher import launched
from gemel.runs.run import Run
from gemel.settings.recipes import AdamWOptimizer, PhotoViews
from gemel.training.stages import Stage
from gemel.training.task import Pretraining
from hooks import BATCH, task_of, weights_of

SHARES, STEPS = 6, 2

NAMES = [name for name in methods.available() if name != "imsat"]  # which refuses them


def begun(name: str, folder: Path, *, dtype: torch.dtype = torch.float32, shares: int | None = SHARES) -> Pretraining:
    task = task_of(name, folder, dtype=dtype, shares=shares)
    task.begin()
    return task


def trained(task: Pretraining, steps: int = STEPS) -> Tensor:
    """Weights and buffers of a method after some steps."""
    double = next(task.method.parameters()).dtype == torch.float64
    devices = Devices("64" if double else "32", averages=False)
    loop, batches = Loop(task, devices, save=lambda state: None, seconds=1e9), task.batches()
    for _ in range(steps):
        loop.step(batches)
    return weights_of(task)


def every_method(folder: Path) -> dict[str, Tensor]:
    """Each method's tensors after some steps."""
    return {name: trained(begun(name, folder)) for name in NAMES}


def in_turn(names: list[str], folder: Path, kept: Path, steps: range) -> dict[str, Tensor]:
    """Take some steps from where another call, of another number of processes maybe, has left each method."""
    found: dict[str, Tensor] = {}
    for name in names:
        task = task_of(name, folder, steps.start, dtype=torch.float32, shares=SHARES)
        if steps.start:
            task.load(torch.load(kept / f"{name}-{steps.start}.pt", weights_only=True))
        else:
            task.begin()
        found[name] = trained(task, len(steps))
        if launched().rank == 0:
            torch.save(task.state(), kept / f"{name}-{steps.stop}.pt")
    return found


def agreed(folder: Path) -> Tensor:
    """TWIST's networks that agree upon labels, and the student that learns them: steps of both stages."""
    torch.manual_seed(0)
    here, source = launched(), open_source(str(folder))
    options = {"classes": 4, "hidden": 8, "layers": 1, "heads": 2, "labels": "agreed", "networks": 2}
    method = methods.find("twist")(convnet(widths=(16, 32), strides=(2, 2), pool=1), **options)
    method.attach(len(source))
    plan = Plan(source, PhotoViews(), 32, 0, BATCH, rank=here.rank, processes=here.processes)
    before: Any = None
    for number, name in enumerate(method.stages):
        stage = Stage(number, name, plan.views, AdamWOptimizer(lr=1e-3, warmup_epochs=0), 2, 2 * number)
        task = Pretraining(method, stage, plan, shares=SHARES)
        if before is not None:
            task.continue_after(before)
        task.begin()
        trained(task, task.steps)
        before = task
    return weights_of(before)


def test_every_method_has_the_same_bits_on_any_number_of_processes(more_photos: Path) -> None:
    (alone,) = together(1, every_method, more_photos)
    for processes in (2, 3):
        for found in together(processes, every_method, more_photos):
            assert [name for name in NAMES if not found[name].equal(alone[name])] == [], processes


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_what_it_learns_without_shares(name: str, more_photos: Path) -> None:
    in_shares, plain = (trained(begun(name, more_photos, dtype=torch.float64, shares=one)) for one in (SHARES, None))
    assert float((in_shares - plain).norm() / plain.norm()) < 1e-9


def test_processes_in_turn_end_with_the_bits_of_one(more_photos: Path, tmp_path: Path) -> None:
    names = ["barlow_twins", "byol", "swav", "deepcluster_v2", "twist"]
    (tmp_path / "whole").mkdir()
    (whole,) = together(1, in_turn, names, more_photos, tmp_path / "whole", range(7))
    together(1, in_turn, names, more_photos, tmp_path, range(2))
    together(3, in_turn, names, more_photos, tmp_path, range(2, 5))
    for found in together(2, in_turn, names, more_photos, tmp_path, range(5, 7)):
        assert [name for name in names if not found[name].equal(whole[name])] == []


def test_two_stages_have_the_same_bits(more_photos: Path) -> None:
    (alone,) = together(1, agreed, more_photos)
    assert all(found.equal(alone) for found in together(3, agreed, more_photos))


def test_a_run_on_two_processes_has_the_bits_of_one(photos: Path, tmp_path: Path) -> None:
    words = ["--epochs", "2", "--batch-size", "9", "--shares", "4", "--image-size", "16", "--backbone", "convnet"]
    words += ["--backbone.widths", "8", "--method.hidden", "16", "--backbone.strides", "2", "--method.heads", "2"]
    words += ["--classes", "4", "--threads", "1", "--workers", "0"]
    both = pair("pretrain", str(photos), *words, "--out", str(tmp_path / "two"))
    ends = [one.end() for one in both]
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert "batch_size: 8 (9 can't be shared evenly by 4 shares)" in ends[0][1]
    one = gemel.pretrain(config=tmp_path / "two" / "run.yaml", out=tmp_path / "one", quiet=True)
    states = [checkpoints.load(Run(path)) for path in (one.path, tmp_path / "two")]
    found, wanted = (state["method"] for state in states if state is not None)
    assert [key for key in wanted if not found[key].equal(wanted[key])] == []


def seen(name: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features of all, and the gradients of a network, in float64."""
    torch.manual_seed(0)
    backbone = backbones.find(name, 32)().double()
    here = launched()
    own = images[here.rank * len(images) // here.processes :][: len(images) // here.processes]
    with Shares(SHARES, len(images) // SHARES).shown():
        features = backbone(torch.cat([own, own.flip(3)]))  # two views in one pass
    with distributed.as_one():
        features.square().mean().backward()
    return features.detach(), torch.cat([one.grad.flatten() for one in backbone.parameters() if one.grad is not None])


def bits(names: list[str], side: int) -> dict[str, Tensor]:
    """Features and gradients of networks, of three images that are a share each, on two threads."""
    torch.set_num_threads(2)
    here, found = launched(), dict[str, Tensor]()
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(6, 3, side, side, generator=generator)[2 * here.rank * 3 // here.processes :]
    images = images[: 6 // here.processes].contiguous(memory_format=torch.channels_last)
    for name in names:
        torch.manual_seed(0)
        backbone = backbones.find(name, side)().to(memory_format=torch.channels_last)
        for _ in range(2):  # one call for all rows is taken only the second time
            with Shares(3, 2).shown():
                features = backbone(images)
            with distributed.as_one():
                features.square().mean().backward()
        grads = [one.grad.flatten() for one in backbone.parameters() if one.grad is not None]
        found[name] = torch.cat([features.detach().flatten(), *grads])
    return found


def test_functions_that_round_the_last_values_otherwise_see_a_share_at_a_time() -> None:
    """Sigmoid, SiLU and powers: their last few values of a call are computed without vectors, and round otherwise."""
    names = ["efficientnet_b0", "regnety_002", "lab_resnet", "mobilenetv3_small_050"]
    (alone,) = together(1, bits, names, 36)
    for found in together(3, bits, names, 36):
        assert [name for name in names if not found[name].equal(alone[name])] == []


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050"])
def test_networks_see_what_they_see_at_once(name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(12, 3, 32, 32, generator=generator, dtype=torch.float64)
    ((features, gradient),) = together(1, seen, name, images)
    for other in together(2, seen, name, images):
        assert other[0].equal(features)
        assert other[1].equal(gradient)
    torch.manual_seed(0)
    backbone = backbones.find(name, 32)().double()
    whole = backbone(torch.cat([images, images.flip(3)]))
    whole.square().mean().backward()
    wanted = torch.cat([one.grad.flatten() for one in backbone.parameters() if one.grad is not None])
    torch.testing.assert_close(features, whole, rtol=1e-8, atol=1e-10)
    assert float((gradient - wanted).norm() / wanted.norm()) < 1e-8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": {"name": "vit_tiny_patch16_224"}}, "the network uses expand"),
        ({"backbone": {"name": "sequencer2d_s"}}, "the network uses zeros"),
        ({"method": {"name": "moco_v2", "groups": 2}}, "take --method.groups 1"),
        ({"method": {"name": "imsat"}}, "imsat changes its images"),
        ({"part": 4}, "leave one of them out"),
        ({"batch_size": 3}, "no row for each of 6 shares"),
        ({"train": "heads"}, "--shares: heads learn from vectors"),
    ],
)
def test_what_does_not_go_with_shares_is_told_before_anything_is_written(
    settings: dict[str, Any], message: str, photos: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {
        "shares": SHARES,
        "train": "all",
        "image_size": 32,
        "batch_size": 6,
        "epochs": 1,
    } | settings
    with pytest.raises(UserError, match=message):
        gemel.pretrain(photos, out=tmp_path / "run", quiet=True, **given)
    assert not (tmp_path / "run").exists()


def test_a_network_that_draws_random_numbers_is_refused() -> None:
    backbone = measured(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.1), nn.Flatten()), 8)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with pytest.raises(UserError, match="draws random numbers"):
        check_network(backbone, 8)
    torch.testing.assert_close(backbone.state_dict(), before, rtol=0, atol=0)


class Apart(nn.Module):
    """Does to images what can't be done to shares."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first, self.query = nn.Conv2d(3, 4, 3), nn.Parameter(torch.ones(1, 4))
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)

    def forward(self, images: Tensor) -> Tensor:
        features = self.first(images).mean((2, 3))
        if self.how == "attention":
            return features + self.attention(*[features[:, None]] * 3)[0][:, 0]
        if self.how == "scale":
            return features * self.query
        if self.how == "table":
            return features * nn.functional.linear(self.query, self.attention.out_proj.weight)
        if self.how == "others":
            return features - features.mean(0, keepdim=True)
        return nn.functional.linear(torch.stack([features, features]), self.attention.out_proj.weight)[0]


@pytest.mark.parametrize("how", ["attention", "table", "others", "turned"])
def test_what_cannot_be_told_apart_by_image_is_refused(how: str) -> None:
    with pytest.raises(UserError, match="leave --shares out"):
        check_network(measured(Apart(how), 8), 8)


def test_a_parameter_in_a_product_learns_from_all_images() -> None:
    backbone, images = measured(Apart("scale"), 8), torch.randn(6, 3, 8, 8)
    check_network(backbone, 8)
    grads: list[Tensor] = []
    for shares in (nullcontext(), Shares(3, 2).shown()):
        with shares:
            backbone(images).square().sum().backward()
        grads.append(torch.cat([one.grad.flatten() for one in backbone.parameters() if one.grad is not None]))
        backbone.zero_grad()
    torch.testing.assert_close(*grads)


def test_a_teacher_with_as_many_outputs_as_there_are_images() -> None:
    """Its weights, which do not learn, are no rows."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 6), nn.SiLU(inplace=True))
    backbone, images = measured(network, 4), torch.randn(6, 3, 4, 4)
    with torch.no_grad():
        wanted = backbone(images)
        with Shares(3, 2).shown():
            torch.testing.assert_close(backbone(images), wanted)


def test_processes_that_cannot_hold_as_many_shares_each(photos: Path, tmp_path: Path) -> None:
    both = pair("pretrain", str(photos), "--shares", "3", "--train", "all", "--out", str(tmp_path / "run"))
    code, _, errors = both[0].end()
    assert code == 2
    assert "--shares 3: 2 processes can't have as many each; start a number that divides it" in errors
    assert both[1].end()[0] == 2


@pytest.mark.parametrize("form", [(2, 3, 2), (1, 3, 4), (4, 1, 3)])
def test_views_and_shares_change_places(form: tuple[int, int, int]) -> None:
    images = torch.randn(12, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    found = turned(images, form)
    assert found.equal(images.unflatten(0, form).transpose(0, 1).flatten(0, 2))
    assert found.is_contiguous(memory_format=torch.channels_last), "another layout would have other sums"


class Wrong(nn.Module):
    """Looks at images together, so that one call for all rows is not one for each share."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows - rows.mean(0)


def test_one_call_is_taken_only_where_it_has_the_same_bits() -> None:
    rows = torch.randn(6, 3)
    for _ in range(3):  # known after the first
        for work in (Wrong(), relu):
            found = by_image(str(work), work, 3, rows)
            assert found.equal(torch.cat([work(part) for part in rows.chunk(3)]))
