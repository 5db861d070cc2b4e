"""IMSAT: its information, a whole step with its perturbation, and the radius."""

from math import log
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from toy import PRECISIONS, Golden, given, near

from gemel.backbones.convnet import convnet
from gemel.methods.imsat import Imsat, imsat_loss
from gemel.methods.parts.heads import mlp
from gemel.methods.parts.smoothness import harmful_direction, kept_statistics, neighbour_distances, unit
from hooks import batch_of, begun


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_information(relatives_b: Golden, dtype: torch.dtype, tolerance: float) -> None:
    [logits] = given(relatives_b, "imsat", "logits", dtype)
    terms = imsat_loss(logits, logits.detach())
    terms["loss"].backward()
    assert float(terms["smoothness"]) == 0
    near(terms["loss"], relatives_b["imsat.information"], tolerance)
    for name in ("conditional", "marginal"):
        near(terms[name], relatives_b[f"imsat.{name}"], tolerance, name)
    near(logits.grad, relatives_b["imsat.grad_logits"], 10 * tolerance)


def network(golden: Golden, dtype: torch.dtype) -> nn.Sequential:
    found = mlp(16, 20, 18, 10).to(dtype)
    for number in (1, 2, 3):
        found[3 * number - 3].weight.data.copy_(golden[f"imsat.step.w{number}"])
        found[3 * number - 3].bias.data.copy_(golden[f"imsat.step.b{number}"])
    for number in (1, 2):
        norm = found[3 * number - 2]
        norm.weight.data.copy_(golden[f"imsat.step.g{number}"])
        norm.bias.data.copy_(golden[f"imsat.step.s{number}"])
        norm.eps = 2e-5
    return found


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_step(relatives_b: Golden, dtype: torch.dtype, tolerance: float) -> None:
    layers = network(relatives_b, dtype)
    inputs, start, radius = (relatives_b[f"imsat.step.{name}"].to(dtype) for name in ("inputs", "start", "radius"))
    logits = layers(inputs)
    statistics = [one.clone() for one in layers.buffers()]
    with kept_statistics(layers):
        direction = harmful_direction(layers, inputs, logits, start)
        perturbed = layers(inputs + 0.25 * radius[:, None] * direction)
    assert all(torch.equal(one, other) for one, other in zip(statistics, layers.buffers(), strict=True))
    assert all(one.grad is None for one in layers.parameters()), "the search leaves no gradient"
    near(logits, relatives_b["imsat.step.logits"], tolerance)
    near(direction, relatives_b["imsat.step.direction"], 100 * tolerance)
    terms = imsat_loss(logits, perturbed)
    terms["loss"].backward()
    for name, key in (("smoothness", "vat"), ("conditional",) * 2, ("marginal",) * 2, ("loss",) * 2):
        near(terms[name], relatives_b[f"imsat.step.{key}"], 100 * tolerance, name)
    slopes = {f"w{number}": layers[3 * number - 3].weight for number in (1, 2, 3)} | {"b3": layers[6].bias}
    slopes |= {f"g{number}": layers[3 * number - 2].weight for number in (1, 2)}
    slopes |= {f"s{number}": layers[3 * number - 2].bias for number in (1, 2)}
    for name, one in slopes.items():
        near(one.grad, relatives_b[f"imsat.step.grad_{name}"], 100 * tolerance, name)
    for number in (1, 2):  # before a batch norm: zero but for rounding
        largest = float(layers[3 * number - 3].bias.grad.abs().max())
        assert largest < tolerance
        assert float(relatives_b[f"imsat.step.grad_b{number}"].abs().max()) < 1e-9


def test_radius(relatives_b: Golden) -> None:
    points = relatives_b["imsat.radius.points"]
    near(neighbour_distances(points, points, 0), relatives_b["imsat.radius.distance"], 1e-9)
    near(neighbour_distances(points[30:], points, 30), relatives_b["imsat.radius.distance"][30:], 1e-9)
    near(neighbour_distances(points[:3], points[:3], 0), torch.cdist(points[:3], points[:3]).max(1).values, 1e-9)


def test_smallest_cases() -> None:
    flat, certain = torch.zeros(20, 10, dtype=torch.float64), 200 * torch.eye(10, dtype=torch.float64).repeat(2, 1)
    assert float(imsat_loss(flat, flat)["loss"]) == pytest.approx(-0.690776, abs=1e-6)
    assert float(imsat_loss(certain, certain)["loss"]) == pytest.approx(-0.4 * log(10), abs=1e-6)
    assert float(imsat_loss(flat, certain)["smoothness"]) > 1


def method(**options: Any) -> Imsat:
    torch.manual_seed(0)
    backbone = convnet(widths=(8, 8), strides=(2, 2))
    return begun(Imsat(backbone, **{"classes": 4, "hidden": 16, **options}), 20)  # type: ignore[return-value]


def test_perturbations_have_the_length_of_a_share_of_the_radius() -> None:
    made = method(share=0.5)
    data, seen = batch_of(made), list[torch.Tensor]()
    made.backbone.register_forward_hook(lambda module, given, out: seen.append(given[0].detach()))
    made(data, 0.0)
    plain, probed, moved = seen
    assert_close((probed - plain).flatten(1).norm(dim=1), torch.full((12,), 10.0))
    assert_close((moved - plain).flatten(1).norm(dim=1), 0.5 * made.radius[:12])
    assert_close(unit(moved - plain).flatten(1).norm(dim=1), torch.ones(12))
    norm = made.head[1]
    assert norm.eps == 2e-5
    assert int(norm.num_batches_tracked) == 1, "of the clean pass alone"


def test_initial_weights() -> None:
    made = method(hidden=400)
    for layer, scale in zip(made.head[::3], (0.1, 0.1, 1e-4), strict=True):
        assert float(layer.weight.detach().std()) == pytest.approx((scale / layer.in_features) ** 0.5, rel=0.1)
        assert not layer.bias.any()
