"""The detector beside Detectron2, number by number; its samples, masks and statistics."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from detectron2_names import detector, name_of, ours, read
from gemel.backbones.parts.stages import Stages
from gemel.engine.precise_norm import measure
from gemel.supervised.dense.detector import Detector, PyramidDetector, StageDetector, common_sides, padded
from gemel.supervised.dense.judged_objects import pasted
from gemel.supervised.dense.proposals import Sampler
from gemel.supervised.dense.region_heads import Found, Sums, Target
from narrow_resnets import narrow_resnet18, narrow_resnet50

MEAN, STD = (
    torch.tensor(one).double().view(3, 1, 1) for one in ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
)  # fmt: skip
THEIRS = {"proposal_class": "loss_rpn_cls", "proposal_box": "loss_rpn_loc", "class": "loss_cls", "box": "loss_box_reg",
          "mask": "loss_mask"}  # fmt: skip


class Beside:
    """One step and its detections on the golden file's images, in float64."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.tensors, self.facts = read(kind)
        self.network = detector(kind).double()
        start = f"{kind}.state."
        state = {name_of(key.removeprefix(start)): ours(key, one) for key, one in self.tensors.items() if start in key}
        missing = self.network.load_state_dict(state, strict=False)
        assert all(name.endswith("num_batches_tracked") for name in missing.missing_keys)
        assert not missing.unexpected_keys
        for norm in self.network.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.momentum = 1.0
        for sampler in (self.network.heads.sampler, self.network.proposals.sampler):
            sampler.positive = 0.9
        images = [(self.tensors[f"input.{one}.image"].double() - MEAN) / STD for one in range(2)]
        self.sizes = [(one.shape[1], one.shape[2]) for one in images]
        self.batch = padded(images, common_sides(self.sizes, self.network.multiple))
        targets = [
            Target(*(self.tensors[f"input.{one}.{name}"] for name in ("boxes", "classes", "masks")), key=one)
            for one in range(2)
        ]
        sums: Any = self.network.train()(self.batch, self.sizes, targets)
        self.losses = dict(zip(THEIRS, sums.sums / sums.counts, strict=True))
        # The proposals' targets of Detectron2 are float32, and with them its sum: what it is divided by is rounded.
        rounded = (1 / sums.counts[0].double()).float().double() * sums.counts[0]
        losses = self.losses | {"proposal_class": self.losses["proposal_class"] * rounded}
        torch.stack(list(losses.values())).sum().backward()
        self.state = {name: one.clone() for name, one in self.network.state_dict().items()}

    def of(self, part: str) -> dict[str, Tensor]:
        start = f"{self.kind}.{part}."
        return {key.removeprefix(start): one for key, one in self.tensors.items() if key.startswith(start)}


@pytest.fixture(scope="module", params=["fpn", "c4"])
def beside(request: pytest.FixtureRequest) -> Beside:
    return Beside(request.param)


def test_losses(beside: Beside) -> None:
    for name, theirs in THEIRS.items():
        assert beside.losses[name].item() == pytest.approx(beside.facts["losses"][theirs], abs=1e-7)
        assert beside.losses[name].item() == pytest.approx(beside.of("loss")[theirs].item(), abs=1e-7)


def test_gradients(beside: Beside) -> None:
    gradients = {name: one.grad for name, one in beside.network.named_parameters()}
    theirs = beside.of("grad_norm")
    assert len(theirs) > 150
    for name, norm in theirs.items():
        own = gradients[name_of(name)]
        assert own is not None
        assert own.norm().item() == pytest.approx(norm.item(), rel=1e-9, abs=1e-15), name


def test_running_statistics(beside: Beside) -> None:
    for name, value in beside.of("moved").items():
        torch.testing.assert_close(beside.state[name_of(name)], value, rtol=0, atol=1e-12)


def test_detections(beside: Beside) -> None:
    beside.network.eval()
    beside.network.load_state_dict(beside.state)
    heads, config = beside.network.heads, beside.facts["config"]
    heads.score_thresh, heads.detections_per_img = float(config["thresh"]), int(config["detections"])
    with torch.no_grad():
        found: Any = beside.network(beside.batch, beside.sizes)
    for index, one in enumerate(found):
        theirs = beside.of(f"found.{index}")
        torch.testing.assert_close(one.boxes, theirs["boxes"], rtol=0, atol=1e-9)
        torch.testing.assert_close(one.scores, theirs["scores"], rtol=0, atol=1e-9)
        assert one.classes.tolist() == theirs["classes"].tolist()
        pixels = [
            int(pasted(mask, box, beside.sizes[index]).sum()) for mask, box in zip(one.masks, one.boxes, strict=True)
        ]
        assert pixels == theirs["mask_pixels"].tolist()


@pytest.mark.parametrize(
    ("kind", "masks", "classes", "expected"),
    [("fpn", False, 20, 42_759_348), ("fpn", True, 80, 45_711_152), ("c4", False, 20, 33_234_160),
     ("c4", True, 80, 35_966_828)],
)  # fmt: skip
def test_parameters_of_resnet50(kind: str, masks: bool, classes: int, expected: int) -> None:
    from torchvision.models import resnet50

    with torch.device("meta"):
        network = resnet50()
        network.fc = nn.Identity()  # pyright: ignore
        stages = Stages(network, last=3 if kind == "c4" else 4)
        if kind == "c4":
            made: Detector = StageDetector(network, stages, classes, masks=masks)
        else:
            made = PyramidDetector(stages, classes, masks=masks)
    background = 4 * (made.heads.regions.width + 1) + (257 if masks else 0)  # rows that Detectron2 does not have
    assert sum(one.numel() for one in made.parameters()) - background == expected


def tiny(kind: str, *, masks: bool = True, seed: int = 0) -> Detector:
    torch.manual_seed(seed)
    network = narrow_resnet50()
    common: dict[str, Any] = {"masks": masks, "sampled": 16, "anchors": 32}
    if kind == "c4":
        return StageDetector(network, Stages(network, last=3), 3, mask_channels=8, **common)
    return PyramidDetector(Stages(network), 3, channels=8, width=16, **common)


def nothing(side: int, key: int = 0) -> Target:
    return Target(
        torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, side, side, dtype=torch.bool), key
    )


def something(side: int, key: int = 0) -> Target:
    mask = torch.zeros(1, side, side, dtype=torch.bool)
    mask[0, 8:40, 4:30] = True
    return Target(torch.tensor([[4.0, 8.0, 30.0, 40.0]]), torch.tensor([1]), mask, key)


@pytest.mark.parametrize("kind", ["fpn", "c4"])
@pytest.mark.parametrize("objects", [(True, False), (False, False)])
def test_images_without_objects(kind: str, objects: tuple[bool, bool]) -> None:
    network = tiny(kind).train()
    targets = [something(64, key) if there else nothing(64, key) for key, there in enumerate(objects)]
    found: Sums = network(torch.randn(2, 3, 64, 64), [(64, 64)] * 2, targets)
    assert bool(found.sums.isfinite().all())
    if not any(objects):
        assert found.sums[[1, 3, 4]].tolist() == [0, 0, 0]
        assert found.counts[4] == 0
    found.sums.sum().backward()
    gradients = [one.grad for one in network.parameters()]
    assert all(one is not None for one in gradients)  # several processes wait for each
    assert all(bool(one.isfinite().all()) for one in [*gradients, *network.buffers()] if one is not None)


def test_bf16_finds_boxes_in_float32() -> None:
    network = tiny("fpn").eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        network.heads.score_thresh = 0.0
        found: list[Found] = network(torch.randn(1, 3, 64, 64), [(64, 64)])
    assert len(found[0].boxes)
    assert found[0].boxes.dtype == found[0].scores.dtype == torch.float32


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=40), st.integers(1, 20), st.integers(0, 9))
def test_samples(labels: list[float], count: int, key: int) -> None:
    one = torch.tensor(labels)
    sampler = Sampler(count, 0.25)
    sampler.keys = [key]
    (positive,), (negative,) = sampler([one])
    assert bool((one[positive > 0] == 1).all())
    assert bool((one[negative > 0] == 0).all())
    there = [int((one == kind).sum()) for kind in (1, 0)]
    assert int(positive.sum()) == min(there[0], int(count * 0.25))
    assert int(negative.sum()) == min(there[1], count - int(positive.sum()))
    sampler.keys = [key + 1, key]
    assert torch.equal(sampler([one, one])[1][1], negative)  # wherever the image stands in a batch


def test_statistics_are_those_of_all_rows() -> None:
    """Layers see other numbers of rows; the variance is the population's."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).double().train()
    weights = copy.deepcopy(network[1].state_dict())
    batches = [torch.randn(rows, 3, 4, 4, dtype=torch.float64) + rows for rows in (1, 5, 2)]
    measure(network, batches, network)
    rows = torch.cat(batches).transpose(0, 1).flatten(1)
    torch.testing.assert_close(network[0].running_mean, rows.mean(1))
    torch.testing.assert_close(network[0].running_var, rows.var(1, correction=0))
    assert all(torch.equal(value, weights[name]) for name, value in network[1].state_dict().items())
    frozen: Any = nn.BatchNorm2d(3).eval()
    measure(frozen, [torch.randn(2, 3, 4, 4)], frozen)
    assert frozen.running_mean.tolist() == [0, 0, 0]


def test_frozen_norms_stay() -> None:
    network = narrow_resnet18()
    stages = Stages(network, frozen_norms=True).train()
    before = {name: one.clone() for name, one in stages.state_dict().items()}
    stages(torch.randn(2, 3, 64, 64))[-1].sum().backward()
    assert all(torch.equal(one, before[name]) for name, one in stages.state_dict().items())
    assert {name.split(".")[-2][:2] for name, one in stages.named_parameters() if one.grad is None} <= {"bn", "1"}


def test_a_mask_is_pasted_at_the_centres_of_pixels() -> None:
    mask = torch.zeros(4, 4)
    mask[:, :2] = 1.0
    found = pasted(mask, torch.tensor([2.0, 1.0, 10.0, 5.0]), (8, 12)).numpy()
    expected = np.zeros((8, 12), bool)
    expected[1:5, 2:6] = True
    assert (found == expected).all()
