"""Batch norm over groups of images: what PyTorch's does on each group's rows."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.testing import assert_close

from gemel.errors import UserError
from gemel.methods.parts.bunch_norm import BunchNorm

VIEWS, IMAGES, WIDTH = 3, 12, 5


def rows(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(VIEWS * IMAGES, WIDTH, generator=generator, dtype=torch.float64) + 1).requires_grad_()


@pytest.mark.parametrize("bunch", [1, 3, 4, 12, None])
def test_each_bunch_is_normalised_by_itself(bunch: int | None) -> None:
    given = rows()
    found = BunchNorm(WIDTH, bunch=bunch)(given, VIEWS)
    weights = torch.linspace(-1, 1, given.numel(), dtype=torch.float64).view_as(given)
    [gradient] = torch.autograd.grad((found * weights).sum(), given)
    size = bunch or IMAGES
    for start in range(0, IMAGES, size):
        places = [view * IMAGES + image for view in range(VIEWS) for image in range(start, start + size)]
        part = given.detach()[places].requires_grad_()
        expected = nn.BatchNorm1d(WIDTH, affine=False, dtype=torch.float64)(part)
        assert_close(found[places], expected, rtol=1e-9, atol=1e-9)
        assert_close(gradient[places], torch.autograd.grad((expected * weights[places]).sum(), part)[0])


def test_gradcheck() -> None:
    assert gradcheck(lambda z: BunchNorm(WIDTH, bunch=4)(z, VIEWS), rows())


def test_state_is_batch_norms() -> None:
    """One bunch: the same running statistics, the same answers afterwards, either loads the other's state."""
    ours, reference = BunchNorm(WIDTH), nn.BatchNorm1d(WIDTH, affine=False)
    for seed in range(3):
        given = rows(seed).detach().float()
        ours(given, VIEWS), reference(given)
    assert_close(dict(ours.state_dict()), dict(reference.state_dict()))
    again = BunchNorm(WIDTH).eval()
    again.load_state_dict(reference.state_dict())
    assert_close(again(rows().detach().float()), reference.eval()(rows().detach().float()))


def test_running_statistics_are_the_mean_over_bunches() -> None:
    norm, given = BunchNorm(WIDTH, bunch=4), rows().detach()
    norm(given, VIEWS)
    groups = given.view(VIEWS, 3, 4, WIDTH).transpose(0, 1).reshape(3, -1, WIDTH)
    assert_close(norm.running_mean, 0.1 * groups.mean((0, 1)).float())
    assert_close(norm.running_var, 0.9 + 0.1 * groups.var(1).mean(0).float())


def test_shift_and_scale_of_the_input_are_cancelled() -> None:
    given = rows().detach()
    expected = BunchNorm(WIDTH)(given, VIEWS)
    for scale in (0.5, 2.0, 100.0):
        assert_close(BunchNorm(WIDTH)(scale * given + 7, VIEWS), expected, rtol=0, atol=2e-4)
    assert_close(expected.mean(0), torch.zeros(WIDTH, dtype=torch.float64), rtol=0, atol=1e-12)
    variance = given.var(0, correction=0)
    assert_close(expected.std(0, correction=0), (1 + 1e-5 / variance) ** -0.5)


def test_bunches_that_do_not_fit() -> None:
    for bunch in (5, 24, 8):
        with pytest.raises(UserError, match=rf"--method\.bunch {bunch} with 12 images .* must divide --batch-size, 12"):
            BunchNorm(WIDTH, bunch=bunch)(rows(), VIEWS)
