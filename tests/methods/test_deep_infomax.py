"""Deep InfoMax against its released code: every measure, the embedding of places, the prior."""

from math import exp, log
from typing import Any

import pytest
import torch
from torch.testing import assert_close
from toy import PRECISIONS, Golden, given, load, near

from gemel.backbones.convnet import convnet
from gemel.errors import UserError
from gemel.methods.deep_infomax import DeepInfomax, deep_infomax_loss
from gemel.methods.parts.infomax_networks import PlaceEmbedding, PriorMatch
from hooks import batch_of

MEASURES = ["jsd", "gan", "kl", "rkl", "h2", "w1", "x2", "nce", "dv"]


@pytest.mark.parametrize(
    ("case", "measure", "globals_"),
    [*((one, one, "global") for one in MEASURES), ("jsd_multi", "jsd", "globals"), ("nce_multi", "nce", "globals")],
)
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_measures(
    relatives_b: Golden, dtype: torch.dtype, tolerance: float, case: str, measure: Any, globals_: str
) -> None:
    local, global_ = given(relatives_b, "dim", f"local {globals_}", dtype)
    terms = deep_infomax_loss(local, global_, measure=measure)
    terms["loss"].backward()
    for name in ("positive", "negative", "loss"):
        if f"dim.{case}.{name}" in relatives_b:
            near(terms[name], relatives_b[f"dim.{case}.{name}"], 10 * tolerance, name)
    near(local.grad, relatives_b[f"dim.{case}.grad_local"], 10 * tolerance)
    near(global_.grad, relatives_b[f"dim.{case}.grad_global"], 10 * tolerance)


def test_smallest_cases() -> None:
    nothing = torch.zeros(4, 3, 9, dtype=torch.float64), torch.zeros(4, 3, 1, dtype=torch.float64)
    assert float(deep_infomax_loss(*nothing)["loss"]) == pytest.approx(0.0, abs=1e-12)
    expected = log(1 + 3 * 9 + 9 * exp(-10))
    assert float(deep_infomax_loss(*nothing, measure="nce")["loss"]) == pytest.approx(expected)
    assert expected == pytest.approx(3.332219, abs=1e-6)
    own = torch.eye(4, dtype=torch.float64)[:, :, None]  # scores of 40 and -40
    assert float(deep_infomax_loss(own, 80 * own - 40)["loss"]) == pytest.approx(-2 * log(2))
    large = torch.full((2, 1, 1), 40.0)
    for measure in ("kl", "h2", "rkl"):
        loss = deep_infomax_loss(large.requires_grad_(), large, measure=measure)["loss"]
        assert not bool(loss.isnan())


def test_words() -> None:
    rows = torch.zeros(4, 3, 2)
    with pytest.raises(ValueError, match=r"local .* and global .* are needed"):
        deep_infomax_loss(rows, rows[:3])
    with pytest.raises(ValueError, match="the measure 'mine' is unknown"):
        deep_infomax_loss(rows, rows, measure="mine")  # type: ignore[arg-type]


def test_embedding_of_places(relatives_b: Golden) -> None:
    embedding = PlaceEmbedding(12, 16).double()
    names = {"layers.": "block_nonlinear.", "shortcut.": "linear_shortcut.", "norm.": "block_ln.1."}
    load(embedding, relatives_b, "dim.embed.state", names)
    [maps] = given(relatives_b, "dim.embed", "maps", torch.float64)
    out = embedding(maps)
    (out * relatives_b["dim.embed.cotangent"]).sum().backward()
    near(out, relatives_b["dim.embed.out"], 1e-9)
    near(maps.grad, relatives_b["dim.embed.grad_maps"], 1e-8)
    slopes = PlaceEmbedding(12, 16).double()
    load(slopes, relatives_b, "dim.embed.grad", names)
    for (name, own), one in zip(embedding.named_parameters(), slopes.parameters(), strict=True):
        near(own.grad, one.detach(), 1e-8, name)


def prior_of(golden: Golden) -> PriorMatch:
    prior = PriorMatch(16, (15,)).double()
    for layer, number in ((0, 1), (2, 2)):
        prior.network[layer].weight.data.copy_(golden[f"dim.prior.w{number}"])
        prior.network[layer].bias.data.copy_(golden[f"dim.prior.b{number}"])
    return prior


def test_prior(relatives_b: Golden) -> None:
    prior, noise = prior_of(relatives_b), relatives_b["dim.prior.noise"]
    [z] = given(relatives_b, "dim.prior", "z", torch.float64)
    terms = prior(z, noise)
    for name in ("discriminator", "encoder", "penalty"):
        near(terms[name], relatives_b[f"dim.prior.{name}"], 1e-9, name)
    terms["discriminator"].backward()
    assert z.grad is None
    for layer, number in ((0, 1), (2, 2)):
        near(prior.network[layer].weight.grad, relatives_b[f"dim.prior.grad_w{number}"], 1e-8)
        near(prior.network[layer].bias.grad, relatives_b[f"dim.prior.grad_b{number}"], 1e-8)
    prior.zero_grad()
    prior(z, noise)["encoder"].backward()
    near(z.grad, relatives_b["dim.prior.grad_z"], 1e-8)
    assert all(one.grad is None for one in prior.parameters())


def test_penalty(relatives_b: Golden) -> None:
    """As released, of one image alone; as meant, of all, with a gradient to the discriminator."""
    prior, z, noise = prior_of(relatives_b), relatives_b["dim.prior.z"], relatives_b["dim.prior.noise"]
    near(prior(z, noise, "released")["penalty"], relatives_b["dim.prior.penalty_released"], 1e-9)
    assert float(prior(z, noise, "none")["penalty"]) == 0
    prior(z, noise)["penalty"].backward()
    assert prior.network[0].weight.grad is not None
    assert prior.network[0].weight.grad.any()


def method(**options: Any) -> DeepInfomax:
    torch.manual_seed(0)
    small = {"code": 8, "units": 16, "prior_hidden": (16, 8), **options}
    return DeepInfomax(convnet(widths=(8, 12), strides=(2, 2)), **small)


def test_the_map_is_one_of_the_backbone_s() -> None:
    data, passes = batch_of(method()), list[int]()
    for stage, side, channels in ((0, 8, 8), (1, 4, 12), (-1, 4, 12)):
        made, seen = method(map_stage=stage), list[torch.Size]()
        made.of_map.register_forward_hook(lambda module, given, out, seen=seen: seen.append(given[0].shape))
        made.backbone.network.register_forward_hook(lambda module, given, out: passes.append(len(out)))
        made(data, 0.0)
        assert seen == [torch.Size((12, channels, side, side))]
    assert passes == [12] * 3, "one pass gives both map and features"
    with pytest.raises(UserError, match=r"--method\.map_stage 2: the backbone has 2 maps"):
        method(map_stage=2)


def test_shortcut_begins_as_the_identity() -> None:
    weight = PlaceEmbedding(4, 9).shortcut.weight[:, :, 0, 0].detach()
    assert_close(weight.diagonal(), torch.ones(4))
    assert float((weight - torch.eye(9, 4)).abs().max()) <= 0.01


def test_without_a_prior() -> None:
    made = method(prior_weight=0.0)
    assert made.prior is None
    terms = made(batch_of(made), 0.0)
    assert_close(terms["loss"], terms["negative"] - terms["positive"])
