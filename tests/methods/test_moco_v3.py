"""MoCo v3 against the authors' code: loss, and whole steps of both forms."""

from functools import partial

import pytest
import torch
from toy import OWN, PRECISIONS, Golden, backbone, batches, check, check_directions, load, near, train

from gemel.backbones.vit_sine import sine_positions, vit_sine
from gemel.errors import UserError
from gemel.methods.moco_v3 import MocoV3, moco_v3_loss
from gemel.schedules import cosine
from gemel.settings.recipes import AdamWOptimizer, LarsOptimizer, Optimizer


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("form", ["resnet", "vit"])
def test_loss(relatives: Golden, form: str, dtype: torch.dtype, tolerance: float) -> None:
    loss = partial(moco_v3_loss, temperature=float(relatives[f"moco_v3.{form}.temperature"]))
    terms = {"first": "loss1", "second": "loss2", "loss": "loss"}
    check_directions(loss, relatives, "moco_v3", "q1 q2 k1 k2", terms, dtype, tolerance, case=form)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("case", ["net", "net_vit"])
def test_whole_steps(relatives: Golden, case: str, dtype: torch.dtype, tolerance: float) -> None:
    """LARS leaves out biases and norms, AdamW decays them; the average is taken before the keys."""
    numbers = {key: relatives[f"moco_v3.{case}.{key}"] for key in ("x", "lr", "decay", "momentum", "temperature")}
    vit = case == "net_vit"
    head = "head." if vit else "fc."
    names = OWN | {"projector.": head, "predictor.": "predictor."}
    method = MocoV3(
        backbone(), hidden=32, width=16, form="transformer" if vit else "resnet",
        momentum=float(numbers["momentum"][0]), temperature=float(numbers["temperature"]),
    ).to(dtype)  # fmt: skip
    load(method, relatives, f"moco_v3.{case}.init", names)
    method.before_stage("pretrain", None)
    decay = float(numbers["decay"])
    description: Optimizer = AdamWOptimizer(weight_decay=decay) if vit else LarsOptimizer(weight_decay=decay)
    losses = train(method, description, list(batches(numbers["x"].to(dtype))), numbers["lr"].tolist())
    near(torch.stack(losses), relatives[f"moco_v3.{case}.loss"], tolerance)
    check(method, relatives, f"moco_v3.{case}.student", names, tolerance)
    teacher = {"networks.0.network.": "", "networks.1.": head}
    check(method.teacher, relatives, f"moco_v3.{case}.teacher", teacher, tolerance)


@pytest.mark.parametrize("name", ["moco_v3.net.momentum", "moco_v3.net_vit.momentum"])
def test_momentum(relatives: Golden, name: str) -> None:
    """Half a cosine over the whole run, by the step's own progress."""
    start, *_ = found = relatives[name].tolist()
    assert found == pytest.approx([cosine(step / 4, start, 1.0) for step in range(4)], rel=1e-12)
    start, epochs, each = relatives["schedule.moco_v3_m.hp"].tolist()
    for step, momentum in relatives["schedule.moco_v3_m"].tolist():
        assert cosine(step / (epochs * each), start, 1.0) == pytest.approx(momentum, rel=1e-12)


def test_values() -> None:
    rows, same = torch.eye(6, dtype=torch.float64), torch.ones(6, 3, dtype=torch.float64)
    assert float(moco_v3_loss(same, same, same, same, temperature=0.2)["first"]) == pytest.approx(0.716704, abs=1e-6)
    found = moco_v3_loss(rows, rows, rows, rows, temperature=0.2)
    assert float(found["second"]) == pytest.approx(0.0132539, abs=1e-7)


def test_transformer_has_fixed_positions_and_a_frozen_projection() -> None:
    torch.manual_seed(0)
    found = vit_sine(size="tiny", heads=6, image_size=32, patch_size=8)
    network = found.network
    fixed = [name for name, one in network.named_parameters() if not one.requires_grad]
    assert fixed == ["pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"]
    assert network.blocks[0].attn.num_heads == 6
    expected = sine_positions(4, 4, 192)
    assert torch.equal(network.pos_embed[:, 1:], expected)
    assert not bool(network.pos_embed[:, 0].any())
    # token 1 lies beside token 0: only the second half of the numbers tells them apart
    assert torch.equal(expected[0, 0, :96], expected[0, 1, :96])
    assert torch.equal(expected[0, 0, 96:], expected[0, 4, 96:])
    assert torch.allclose(expected[0, 4, 0], torch.tensor(1.0).sin())
    query = network.blocks[0].attn.qkv.weight
    assert 0.99 * (6 / 384) ** 0.5 < float(query.detach().abs().max()) <= (6 / 384) ** 0.5
    method = MocoV3(found, hidden=16, width=8, form="transformer", temperature=0.2)
    (group,) = method.parameter_groups()
    assert group.decay
    assert {id(network.cls_token)} <= {id(one) for one in group.parameters}
    (batch,) = batches(torch.randn(1, 2, 4, 3, 32, 32))
    method(batch, 0.0)["loss"].backward()
    assert network.patch_embed.proj.weight.grad is None
    assert network.cls_token.grad is not None
    assert found(torch.randn(2, 3, 64, 64)).shape == (2, 192)
    with pytest.raises(UserError):
        vit_sine(size="tiny", heads=5, image_size=32, patch_size=8)
