"""CMC against the authors' code: both losses, the banks; Lab colours; the two half networks."""

from math import log

import pytest
import torch
from torch import Tensor, nn
from toy import PRECISIONS, Given, Golden, near

from gemel.backbones.lab_resnet import LabHalves, lab_resnet, to_lab
from gemel.data.batches import Batch
from gemel.errors import UserError
from gemel.methods.cmc import Cmc, cmc_loss, cmc_scores, first_constants
from gemel.methods.parts.contrast import unit

IMAGES = 60


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("form", ["nce", "softmax"])
def test_three_steps(relatives: Golden, form: str, dtype: torch.dtype, tolerance: float) -> None:
    """Scores with the banks as they were, then the banks' own rows follow; Z is that of the first batch."""
    method = Cmc(
        Given(32), width=16, negatives=12, form=form, temperature=float(relatives["cmc.temperature"]),
        bank_momentum=float(relatives["cmc.bank_momentum"]),
    )  # fmt: skip
    method.heads = nn.ModuleList([nn.Identity(), nn.Identity()])
    method.attach(IMAGES)
    method.to(dtype)
    for bank, name in zip(method.banks, ("l", "ab"), strict=True):
        bank.copy_(relatives[f"cmc.bank0_{name}"])
    for step in range(3):
        features = torch.cat([relatives[f"cmc.raw_{name}"][step] for name in ("l", "ab")], 1).to(dtype).requires_grad_()
        index, draws = relatives["cmc.index"][step], relatives["cmc.draws"][step]
        assert torch.equal(draws[:, 0], index)
        method._draws = lambda index, draws=draws: draws
        terms = method(Batch([features], index, torch.full((24,), -1)), 0.0)
        terms["loss"].backward()
        for name, key in (("loss", "loss"), ("lightness", "loss_l"), ("colour", "loss_ab")):
            near(terms[name], relatives[f"cmc.{form}.{key}"][step], tolerance, key)
        assert features.grad is not None
        for part, name in zip(features.grad.chunk(2, 1), ("l", "ab"), strict=True):
            near(part, relatives[f"cmc.{form}.grad_raw_{name}"][step], tolerance, name)
        method.after_step(0.0)
        for bank, name in zip(method.banks, ("l", "ab"), strict=True):
            near(bank, relatives[f"cmc.bank_{name}"][step], tolerance, name)
    if form == "nce":
        for constant, name in zip(method.constants, ("z_l", "z_ab"), strict=True):
            near(constant, relatives[f"cmc.nce.{name}"], tolerance, name)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("form", ["nce", "softmax"])
def test_gradient_at_the_normalised_rows(relatives: Golden, form: str, dtype: torch.dtype, tolerance: float) -> None:
    rows = [unit(relatives[f"cmc.raw_{name}"][0].to(dtype)).requires_grad_() for name in ("l", "ab")]
    banks = torch.stack([relatives[f"cmc.bank0_{name}"] for name in ("l", "ab")]).to(dtype)
    scores = cmc_scores(*rows, banks, relatives["cmc.draws"][0], temperature=float(relatives["cmc.temperature"]))
    constants = first_constants(scores, IMAGES) if form == "nce" else None
    cmc_loss(*scores, images=IMAGES, constants=constants)["loss"].backward()
    for one, name in zip(rows, ("l", "ab"), strict=True):
        near(one.grad, relatives[f"cmc.{form}.grad_{name}"][0], tolerance, name)


def test_values() -> None:
    scores, images = torch.zeros(4, 6, dtype=torch.float64), 100
    even = torch.full((2,), images / 5, dtype=torch.float64)  # so that exp(0) / Z is K / n
    terms = cmc_loss(scores, scores, images=images, constants=even)
    assert float(terms["lightness"]) == pytest.approx(6 * log(2), abs=1e-5)
    assert 6 * log(2) == pytest.approx(4.158883, abs=1e-6)
    assert float(cmc_loss(scores, scores, images=images)["colour"]) == pytest.approx(log(6))


def test_only_rows_of_the_batch_change_and_become_unit() -> None:
    torch.manual_seed(0)
    method = Cmc(Given(12), width=5, negatives=3)
    method.attach(20)
    before = method.banks.clone()
    index = torch.tensor([3, 17, 8])
    method(Batch([torch.randn(3, 12)], index, torch.full((3,), -1)), 0.0)
    method.after_step(0.0)
    changed = (method.banks != before).any(2)
    assert [row.nonzero().flatten().tolist() for row in changed] == [[3, 8, 17]] * 2
    torch.testing.assert_close(method.banks[:, index].norm(dim=2), torch.ones(2, 3))
    assert float(before.abs().max()) <= (3 / 5) ** 0.5


def test_draws_follow_from_the_step_s_seed() -> None:
    method = Cmc(Given(12), width=5, negatives=30)
    method.attach(20)
    index = torch.arange(4)
    draws: list[Tensor] = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        method.before_step(None, 0.0)
        torch.rand(7)  # dropout, say
        draws.append(method._draws(index))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(draws[0][:, 0], index)
    assert set(draws[0][:, 1:].flatten().tolist()) == set(range(20)), "its own row may be among the others"


def test_two_views_are_lightness_of_one_and_colours_of_the_other() -> None:
    method = Cmc(Given(12), width=5, negatives=3)
    one, two, three = torch.randn(3, 4, 12)
    lightness, colour = method._embedded([one, two])
    torch.testing.assert_close(lightness, method._embedded([one])[0])
    torch.testing.assert_close(colour, method._embedded([two])[1])
    with pytest.raises(UserError, match=r"one or two views of an image, not 3; .* --views\.local_count 0"):
        method._embedded([one, two, three])


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [  # of CIE Lab under D65
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        ((1.0, 1.0, 1.0), (100.0, 0.0, 0.0)),
        ((1.0, 0.0, 0.0), (53.24, 80.09, 67.20)),
        ((0.0, 1.0, 0.0), (87.73, -86.18, 83.18)),
        ((0.0, 0.0, 1.0), (32.30, 79.19, -107.86)),
    ],
)
def test_lab(rgb: tuple[float, ...], lab: tuple[float, ...]) -> None:
    found = to_lab(torch.tensor(rgb, dtype=torch.float64).view(1, 3, 1, 1)).flatten()
    assert found.tolist() == pytest.approx(lab, abs=0.02)


def test_half_networks() -> None:
    """Stages of half the width behind a first layer of 64; lightness is all that the first network sees."""
    torch.manual_seed(0)
    backbone = lab_resnet(depth=18, width=0.5).eval()
    network = backbone.network
    assert isinstance(network, LabHalves)
    assert (network.l_to_ab.conv1.weight.shape, network.ab_to_l.conv1.weight.shape) == ((64, 1, 7, 7), (64, 2, 7, 7))
    assert network.l_to_ab.layer4[1].conv2.weight.shape[0] == 256
    gray = torch.rand(1, 1, 32, 32).expand(-1, 3, -1, -1)
    mean, std = (torch.tensor(one).view(1, 3, 1, 1) for one in (network.mean, network.std))
    features = [backbone((image - mean) / std) for image in (gray, 0.5 * gray)]
    assert features[0].shape == (1, backbone.width) == (1, 512)
    torch.testing.assert_close(features[0][:, 256:], features[1][:, 256:], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(features[0][:, :256], features[1][:, :256], rtol=1e-2)
    assert lab_resnet(depth=50, width=2.0, stem="small").width == 8192
