"""Supervised fitting on real digits and photographs; small networks."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from forked import together
from gemel.backbones.convnet import convnet
from gemel.data.sources import ArraySource, FileSource, Source, open_source
from gemel.data.sources.parts import Subset
from gemel.errors import Diverged, Interrupted, UserError
from gemel.supervised import classification
from gemel.supervised.fit import Fitted, fit
from gemel.supervised.images import Labelled, Plan
from gemel.supervised.recipes import Fitting, find_recipe

GLYPH = {"name": "convnet", "size": 12, "mean": [0.5] * 3, "std": [0.5] * 3, "views": "glyph"}
PHOTO = GLYPH | {"size": 8, "views": "photo"}


def digits(first: int, last: int) -> Subset:
    return Subset(open_source("digits"), np.arange(first, last))


def network(seed: int = 0, *extra: nn.Module) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(convnet(widths=(4, 8), strides=(2, 2), pool=1), *extra).eval()


def plain_network() -> nn.Module:
    """Without batch norm: several processes then see what one sees."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(100, 8), nn.Tanh())


class Flat(nn.Module):
    """As some transformers, it does not take a batch without rows."""

    def forward(self, images: Tensor) -> Tensor:
        return images.reshape(len(images), -1)


def flat_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(Flat(), nn.Linear(432, 8), nn.Tanh())


def row(**values: Any) -> Fitting:
    return Fitting.model_validate({"source": "test", "epochs": 2, "batch_size": 16, "lr": (0.1,)} | values)


def done(folder: Path, fitting: Fitting, model: nn.Module, train: Source | None = None, **options: Any) -> Fitted:
    """On 90 digits, judged by 41 others."""
    train = digits(0, 90) if train is None else train
    return fit(model, GLYPH, fitting, train, {"test": digits(200, 241)}, folder=folder, **options)


def assert_same(one: Fitted, two: Fitted) -> None:
    for head, other in zip(one.heads, two.heads, strict=True):
        assert torch.equal(head.weight, other.weight)
        assert torch.equal(head.bias, other.bias)
    state = two.network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in one.network.state_dict().items())
    assert one.history == two.history


@pytest.mark.parametrize(("epochs", "last"), [(100, 2.467e-4), (20, 6.156e-3), (30, 2.739e-3)])
def test_cosine_by_epoch(epochs: int, last: float) -> None:
    fitting = row(epochs=epochs)
    assert fitting.rate_factor(0, 5, 10) == 1.0
    assert fitting.rate_factor(epochs - 1, 9, 10) == pytest.approx(last, rel=2e-4)


def test_other_schedules() -> None:
    stairs = row(epochs=20, schedule="steps", milestones=(0.6, 0.8), factor=0.2)
    assert [stairs.rate_factor(epoch, 0, 1) for epoch in (0, 11, 12, 15, 16)] == [1, 1, 0.2, 0.2, 0.2**2]
    each = row(epochs=4, schedule="cosine_steps")
    assert each.rate_factor(1, 5, 10) == pytest.approx(0.5 * (1 + np.cos(np.pi * 1.5 / 4)))


def test_rates_are_scaled_only_where_asked() -> None:
    assert row(batch_size=1024).scale == 1.0
    assert row(batch_size=1024, scale_lr=True).scale == 4.0
    with pytest.raises(UserError, match="did you mean twist"):
        find_recipe({"twist": 1}, "twits", "linear")


class OneHot(nn.Module):
    """Images of one grey value 25 c to the c-th unit vector."""

    def forward(self, images: Tensor) -> Tensor:
        value = (images.mean((1, 2, 3)) * 0.5 + 0.5) * 255 / 25
        return torch.eye(10)[value.round().long().clamp(0, 9)]


@pytest.mark.parametrize("rate", [0.003, 0.03, 0.3])
def test_separable_features_are_learned_in_one_epoch(rate: float, tmp_path: Path) -> None:
    labels = np.arange(1000) % 10
    images = np.broadcast_to((25 * labels).astype(np.uint8)[:, None, None], (1000, 8, 8))
    source = ArraySource("grey", images, labels=labels)
    fitted = fit(OneHot(), PHOTO, row(lr=(rate,), epochs=1, batch_size=10), source, {"test": source}, folder=tmp_path)
    assert fitted.history["test"][0][0]["top1"] == 1.0


def test_a_frozen_network_is_left_as_it_was(tmp_path: Path) -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fitted = done(tmp_path, row(), model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(one.requires_grad and one.grad is None for one in model.parameters())
    assert fitted.facts["batch_norm"] == "running statistics"


class Stubborn(nn.BatchNorm1d):
    """A batch norm that does not follow eval()."""

    def train(self, mode: bool = True) -> "Stubborn":
        return super().train(True)


def test_a_frozen_network_that_moves_is_told(tmp_path: Path) -> None:
    model = network(0, Stubborn(8))
    told = r"frozen, and 3 of its tensors changed by the end of epoch 1 \(1.running_mean, 1.running_var"
    with pytest.raises(UserError, match=told):
        done(tmp_path, row(), model)


@pytest.mark.parametrize("optimizer", ["sgd", "larc"])
def test_heads_side_by_side_are_what_they_are_alone(optimizer: str, tmp_path: Path) -> None:
    rates = (0.003, 0.3, 30.0)
    together = done(tmp_path, row(lr=rates, optimizer=optimizer, weight_decay=1e-4), network())
    for number, rate in enumerate(rates):
        alone = done(tmp_path, row(lr=(rate,), optimizer=optimizer, weight_decay=1e-4), network())
        torch.testing.assert_close(alone.heads[0].weight, together.heads[number].weight, rtol=1e-6, atol=1e-6)
        assert [epoch[0] for epoch in alone.history["test"]] == [epoch[number] for epoch in together.history["test"]]
    assert together.heads[0].weight.std() < together.heads[2].weight.std()


def test_the_step_of_a_head_is_the_gradient_of_the_mean_cross_entropy(tmp_path: Path) -> None:
    """One full batch, one step: w = w₀ - γ ∂/∂w mean(CE), on the very views that were drawn."""
    model, fitting, train = network(), row(epochs=1, batch_size=40, lr=(0.5,)), digits(0, 40)
    fitted = done(tmp_path, fitting, model, train)
    step = next(Plan.of(Labelled.of(train), fitting, GLYPH, seed=0).batches(range(1), {}))
    head = nn.Linear(8, 10)
    nn.init.normal_(head.weight, 0.0, 0.01, generator=torch.Generator().manual_seed(0))
    nn.init.zeros_(head.bias)
    with torch.no_grad():
        features = model(step.views / 127.5 - 1)
    nn.functional.cross_entropy(head(features), step.labels).backward()
    assert head.weight.grad is not None
    torch.testing.assert_close(fitted.heads[0].weight, head.weight - 0.5 * head.weight.grad)


@pytest.mark.parametrize("backbone_lr", [None, 0.01])
def test_half_precision_is_near(backbone_lr: float | None, tmp_path: Path) -> None:
    fitting = row(backbone_lr=backbone_lr)
    full, half = done(tmp_path, fitting, network()), done(tmp_path, fitting, network(), precision="bf16")
    assert half.heads[0].weight.dtype == torch.float32
    assert not torch.equal(full.heads[0].weight, half.heads[0].weight)
    torch.testing.assert_close(full.heads[0].weight, half.heads[0].weight, rtol=0.1, atol=0.01)


def test_fine_tuning_learns_and_moves_both_at_their_rates(tmp_path: Path) -> None:
    fitted = done(tmp_path, row(epochs=12, lr=(0.2,), backbone_lr=0.1), network(), digits(0, 600))
    assert fitted.history["test"][-1][0]["top1"] > 0.6  # chance: 0.1
    start, slow = network().state_dict(), done(tmp_path, row(lr=(0.2,), backbone_lr=1e-6), network())
    weight = "0.network.0.weight"
    assert 0 < (slow.network.state_dict()[weight] - start[weight]).norm() < 1e-3 * start[weight].norm()
    assert slow.network.state_dict()["0.network.1.running_mean"].any()


@pytest.mark.parametrize("backbone_lr", [None, 0.05])
@pytest.mark.parametrize("at", [4, 6, 8])  # six steps an epoch: within the first, at its end, within the second
def test_interrupted_and_resumed_equals_unbroken(backbone_lr: float | None, at: int, tmp_path: Path) -> None:
    fitting = row(lr=(0.1,) if backbone_lr else (0.1, 1.0), backbone_lr=backbone_lr)

    def model() -> nn.Module:
        return network(0, nn.Dropout(0.3))

    def stop(step: int, steps: int) -> None:
        if step == at:
            os.kill(os.getpid(), signal.SIGTERM)

    unbroken = done(tmp_path, fitting, model())
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match=f"after step {at} of 12"):
        done(tmp_path, fitting, model(), tell=stop)
    assert signal.getsignal(signal.SIGTERM) is before
    assert len(list(tmp_path.glob("evaluations/.fit-*.ckpt"))) == 1
    seen: list[int] = []
    resumed = done(tmp_path, fitting, model(), tell=lambda step, steps: seen.append(step))
    assert seen == list(range(at + 1, 13))
    assert_same(unbroken, resumed)
    assert not list(tmp_path.glob("evaluations/*.ckpt"))


def test_a_frozen_network_by_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same fit as by torch but for the last digits, and continued by what began it."""
    by_torch = done(tmp_path, row(), network())
    asked: list[int] = []

    def choose(engine: str) -> None:
        def engine_for(network: nn.Module, size: int, *, images: int) -> str:
            asked.append(images)
            return engine

        monkeypatch.setattr(classification, "engine_for", engine_for)

    def stop(step: int, steps: int) -> None:
        if step == 8:
            os.kill(os.getpid(), signal.SIGTERM)

    choose("onnxruntime")
    model = network()
    model.register_forward_pre_hook(lambda module, inputs: asked.append(-len(inputs[0])))
    unbroken = done(tmp_path, row(), model)
    assert asked[:2] == [-2, 12 * 16], "two images for the width"
    assert set(asked[2:]) <= {-2, -3}, "a trace, where no graph is kept, and the proof; no batch"
    assert not torch.equal(by_torch.heads[0].weight, unbroken.heads[0].weight)
    torch.testing.assert_close(by_torch.heads[0].weight, unbroken.heads[0].weight, rtol=1e-4, atol=1e-5)
    with pytest.raises(Interrupted):
        done(tmp_path, row(), network(), tell=stop)
    choose("torch")
    assert_same(unbroken, done(tmp_path, row(), network()))


def test_another_question_does_not_go_on_from_a_state(tmp_path: Path) -> None:
    def die(step: int, steps: int) -> None:
        if step == 7:
            raise RuntimeError("the power fails")

    with pytest.raises(RuntimeError, match="power"):
        done(tmp_path, row(), network(), tell=die)
    seen: list[int] = []
    done(tmp_path, row(lr=(0.2,)), network(), tell=lambda step, steps: seen.append(step))
    done(tmp_path, row(), network(1), tell=lambda step, steps: seen.append(step))
    assert seen == [*range(1, 13)] * 2
    done(tmp_path, row(), network(), tell=lambda step, steps: seen.append(step))
    assert seen[24:] == list(range(7, 13)), "the first epoch was kept"


@pytest.mark.parametrize("damage", [b"", b"no state", "half", "other"])
def test_a_damaged_state_is_dropped(damage: bytes | str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def die(step: int, steps: int) -> None:
        if step == 7:
            raise RuntimeError("the power fails")

    with pytest.raises(RuntimeError, match="power"):
        done(tmp_path, row(), network(), tell=die)
    (file,) = tmp_path.glob("evaluations/.fit-*.ckpt")
    if damage == "other":
        torch.save({"done": 3}, file)
    else:
        file.write_bytes(damage if isinstance(damage, bytes) else file.read_bytes()[: file.stat().st_size // 2])
    fitted = done(tmp_path, row(), network())
    assert "starts anew" in capsys.readouterr().err
    assert_same(fitted, done(tmp_path, row(), network()))
    assert not file.exists()


def test_a_state_is_kept_within_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(step: int, steps: int) -> None:
        if step == 5:
            raise RuntimeError("the power fails")

    monkeypatch.setattr("gemel.supervised.fit.SECONDS", 0.0)  # six steps an epoch
    unbroken = done(tmp_path, row(), network())
    with pytest.raises(RuntimeError, match="power"):
        done(tmp_path, row(), network(), tell=die)
    seen: list[int] = []
    resumed = done(tmp_path, row(), network(), tell=lambda step, steps: seen.append(step))
    assert seen == list(range(5, 13))
    assert_same(unbroken, resumed)


def test_a_full_disk_is_the_systems_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("unexpected pos")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="the disk is full"):
        done(tmp_path, row(), network())


CASES: dict[str, tuple[Any, Fitting]] = {
    "frozen": (network, row(lr=(0.1, 3.0), batch_size=16)),  # last batch of 10: 3, 3 and 4 rows
    "one left": (network, row(batch_size=89)),  # two processes have no row of the last batch
    "trained": (plain_network, row(backbone_lr=0.05, lr=(0.2,), batch_size=18)),
    "normed": (network, row(backbone_lr=0.05, lr=(0.2,), batch_size=17)),  # 5, 6 and 6 rows, then 1, 2 and 2
    "none": (network, row(backbone_lr=0.05, lr=(0.2,), batch_size=88)),  # last batch of two: one process has none
    "none of it": (flat_network, row(backbone_lr=0.05, lr=(0.2,), batch_size=88)),
}


def all_cases(folder: Path) -> dict[str, tuple[Any, ...]]:
    found: dict[str, tuple[Any, ...]] = {}
    for name, (build, fitting) in CASES.items():
        fitted = done(folder, fitting, build())
        state = {} if fitting.backbone_lr is None else fitted.network.state_dict()
        found[name] = ([head.state_dict() for head in fitted.heads], fitted.history, state)
    return found


def test_three_processes_equal_one(tmp_path: Path) -> None:
    several = together(3, all_cases, tmp_path)
    for name, (build, fitting) in CASES.items():
        alone = done(tmp_path, fitting, build())
        for one_process in several:
            heads, history, state = one_process[name]
            for one, two in zip(heads, alone.heads, strict=True):
                torch.testing.assert_close(one["weight"], two.weight.data, rtol=1e-4, atol=1e-6)
            assert history == alone.history
            for key, value in state.items():
                torch.testing.assert_close(value, alone.network.state_dict()[key], rtol=1e-4, atol=1e-6)
    assert history["test"][-1][0]["judged"] == 41, "each image once"


def test_batches_of_one_image_are_left_out_for_batch_norm(tmp_path: Path) -> None:
    kept = done(tmp_path, row(batch_size=89), network())
    assert kept.facts["last_batch"] == "1 images, fitted on"
    seen: list[int] = []
    left = done(tmp_path, row(batch_size=89, backbone_lr=0.1), network(), tell=lambda step, steps: seen.append(steps))
    assert left.facts["last_batch"] == "1 images, left out"
    assert seen == [2, 2]
    assert done(tmp_path, row(drop_last=True), network()).facts["last_batch"] == "10 images, left out"


def test_every_image_is_seen_once_an_epoch() -> None:
    images = Labelled.of(digits(0, 90))
    plan = Plan.of(images, row(), GLYPH, seed=3)
    steps = list(plan.batches(range(12), {}))
    for epoch in (steps[:6], steps[6:]):
        assert sorted(torch.cat([step.labels for step in epoch]).tolist()) == sorted(images.labels.tolist())
    assert not torch.equal(steps[0].views, steps[6].views)
    assert torch.equal(next(plan.batches(range(7, 12), {})).views, steps[7].views)


def test_unreadable_photos_are_replaced_by_their_class(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for path in sorted(photos.rglob("*.jpg"))[:]:
        target = folder / path.relative_to(photos)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes() if path.stem != "0004" else b"broken")
    source = open_source(folder, labels="folders")
    assert isinstance(source, FileSource)
    facts = PHOTO | {"size": 12}
    fitted = fit(network(), facts, row(epochs=1, batch_size=8), source, {"test": source}, folder=tmp_path)
    assert fitted.facts["unreadable"] == 1
    assert fitted.history["test"][0][0]["judged"] == 39
    rejected: dict[int, str] = {}
    steps = list(Plan.of(Labelled.of(source), row(batch_size=8), facts, seed=0).batches(range(5), rejected))
    assert len(rejected) == 1
    assert sorted(torch.cat([step.labels for step in steps]).tolist()) == [0] * 20 + [1] * 20


def labelled_digits(labels: list[int], names: list[str] | None = None) -> Source:
    images = np.zeros((len(labels), 8, 8), np.uint8)
    return ArraySource("some", images, labels=np.array(labels), label_names=names or [])


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (ArraySource("bare", np.zeros((20, 8, 8), np.uint8)), None, "bare has no labels; give --labels"),
        (labelled_digits([-1] * 20), None, "has no labels"),
        (labelled_digits([0] * 20), None, "one class alone"),
        (labelled_digits([0, 1] * 4), None, "8 labelled images of some cannot fill a batch of 16; give --batch-size 8"),
        (labelled_digits([0, 2] * 10), None, "1 of 3 classes have no image to fit on in some: 1;"),
        (labelled_digits([0, 1] * 10, ["a", "b", "c"]), None, "1 of 3 classes have no image to fit on in some: c;"),
        (labelled_digits([0, 1] * 10), labelled_digits([0, 1, 2]), "some has 2 classes, and some has 3"),
        (labelled_digits([0, 1] * 10, ["a", "b"]), labelled_digits([0, 1], ["b", "c"]), "must have the same ones"),
        (labelled_digits([0, 1] * 10), ArraySource("bare", np.zeros((2, 8, 8), np.uint8)), "bare has no labels"),
    ],
)
def test_data_that_do_not_allow_it(train: Source, test: Source | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        fit(network(), GLYPH, row(), train, {"test": test or train}, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_networks_that_do_not_allow_it(tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3)) / 0

    with pytest.raises(UserError, match="NaN or infinite"):
        done(tmp_path, row(), Broken())
    with pytest.raises(UserError, match="takes no images of 12 x 12 pixels"):
        done(tmp_path, row(), nn.Sequential(nn.Flatten(), nn.Linear(7, 3)))
    with pytest.raises(UserError, match=r"gives \(2, 8, 5, 5\) for two images"):
        done(tmp_path, row(), nn.Conv2d(3, 8, 3, 2))
    with pytest.raises(UserError, match="nothing to fit"):
        done(tmp_path, row(backbone_lr=0.1), nn.Flatten())
    with pytest.raises(UserError, match="2 rates for a network that is fitted"):
        done(tmp_path, row(backbone_lr=0.1, lr=(0.1, 0.2)), network())


@pytest.mark.parametrize("backbone_lr", [None, 1e38])
def test_a_fit_that_diverges_is_stopped(backbone_lr: float | None, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"loss became NaN or infinite at step \d+ \(images digits/.*smaller --lr"):
        done(tmp_path, row(lr=(1e38,), backbone_lr=backbone_lr), plain_network())
    assert not list(tmp_path.glob("evaluations/.fit*")), "it would diverge again"


def test_a_head_that_diverges_stops_no_other(tmp_path: Path) -> None:
    together = done(tmp_path, row(lr=(0.1, 1e38), weight_decay=1e-4), network())
    assert together.heads[1].weight.isnan().all()
    alone = done(tmp_path, row(weight_decay=1e-4), network())
    torch.testing.assert_close(together.heads[0].weight, alone.heads[0].weight, rtol=1e-6, atol=1e-6)
    assert [epoch[0] for epoch in together.history["test"]] == [epoch[0] for epoch in alone.history["test"]]
