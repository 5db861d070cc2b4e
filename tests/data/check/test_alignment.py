"""A crop that was planted is found again, and nothing else is taken for one."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from check_images import parts, pixels
from gemel.data.check import candidates as room
from gemel.data.check.alignment import aligned, blurred, cut, halved
from gemel.data.check.candidates import CROPS, candidates, descriptors
from gemel.data.check.measure import SIDE, measure
from gemel.data.check.near import SAME, STANDS_OUT
from gemel.data.sources import ArraySource

THUMBNAILS = torch.from_numpy(measure(ArraySource("parts", pixels(parts(20))), workers=1).thumbnails)
SOFT = blurred(THUMBNAILS.float(), torch.full((20,), 1.5))


def crop(scale: float = 1.0, down: float = 0.0, right: float = 0.0) -> torch.Tensor:
    return torch.tensor([[scale, scale, down, right]]).repeat(20, 1)


def test_the_whole_is_cut_unchanged() -> None:
    whole, inside = cut(SOFT, crop())
    torch.testing.assert_close(whole, SOFT, atol=1e-2, rtol=0)
    assert inside.all()
    _, beyond = cut(SOFT, crop(1.0, 0.25))
    assert beyond.mean() == 1 - 0.125, "a shift by an eighth of the side"


def test_a_crop_is_that_of_pillow() -> None:
    found, _ = cut(SOFT, crop(0.5, 0.25, -0.25))
    box = (SIDE / 8, 3 * SIDE / 8, 5 * SIDE / 8, 7 * SIDE / 8)
    for image, mine in zip(SOFT, found, strict=True):
        whole = Image.fromarray(image.numpy())
        theirs = whole.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box)
        assert np.abs(np.asarray(theirs) - mine.numpy())[2:-2, 2:-2].max() < 1


def test_blur_and_half() -> None:
    alike = blurred(SOFT, torch.linspace(0.5, 3.0, 20))
    assert (alike.std((1, 2)) < SOFT.std((1, 2))).all()
    torch.testing.assert_close(blurred(torch.full((2, 8, 8), 5.0), torch.ones(2)), torch.full((2, 8, 8), 5.0))
    torch.testing.assert_close(halved(THUMBNAILS).mean((1, 2)), THUMBNAILS.float().mean((1, 2)))


@given(st.floats(0.92, 1.0), st.floats(-1, 1), st.floats(-1, 1))
def test_a_planted_crop_is_found(scale: float, down: float, right: float) -> None:
    """A crop of 5 % is promised; of a tenth, in a corner, one pattern in some hundred is found elsewhere."""
    planted = (scale, (1 - scale) * down, (1 - scale) * right)
    guess = min(CROPS, key=lambda one: float(np.abs(np.subtract(one, planted)).sum()))
    part, _ = cut(SOFT, crop(*planted))
    found, difference = aligned(SOFT, part, crop(*guess), 6)
    assert (difference.error / difference.contrast < 0.05).all()
    assert (found - crop(*planted)).abs().median(0).values.max() < 0.01, "but stripes may slide along themselves"
    back, other = aligned(part, SOFT, crop(1 / scale, -planted[1] / scale, -planted[2] / scale), 6)
    apart = other.error / other.contrast
    assert (apart < SAME).double().mean() >= 0.9, "and the other way round"
    assert (apart < STANDS_OUT[0] / 2).all(), "fine patterns lose more"
    assert (back[:, :2] > 0.95).all()


def test_brightness_does_not_lead_astray() -> None:
    part, _ = cut(SOFT, crop(0.95, 0.05, -0.05))
    found, difference = aligned(SOFT, part + 30, crop(), 6)
    assert (found - crop(0.95, 0.05, -0.05)).abs().max() < 0.03
    assert (difference.error > 25).all(), "but it is no small difference"


def test_other_images_stay_different() -> None:
    _, difference = aligned(SOFT, SOFT.roll(1, 0), crop(), 6)
    assert (difference.error / difference.contrast > 0.4).all()


def test_nothing_is_aligned_to_nothing() -> None:
    none, flat = torch.zeros(0, SIDE, SIDE), torch.full((1, SIDE, SIDE), 9.0)
    assert aligned(none, none, torch.zeros(0, 4), 2)[0].shape == (0, 4)
    _, difference = aligned(flat, flat, torch.tensor([[1.0, 1.0, 0.0, 0.0]]), 2)
    assert float(difference.error) == float(difference.contrast) == 0


def test_candidates_hold_the_planted_pairs() -> None:
    part, _ = cut(SOFT, crop(0.95, 0.05, 0.05))
    both = torch.cat([SOFT, part]).round().clamp(0, 255).to(torch.uint8)
    luminance = both.float().mean((1, 2)).numpy()
    found = candidates(both, luminance, np.arange(40))
    pairs = [tuple(sorted(pair)) for pair in zip(found.whole.tolist(), found.part.tolist(), strict=True)]
    assert len(set(pairs)) == len(pairs), "each once"
    assert all(one != two for one, two in pairs)
    assert {(number, number + 20) for number in range(20)} <= set(pairs)
    few = candidates(both, luminance, np.array([25]))
    assert {25} <= {*few.whole.tolist()}
    assert all(25 in pair for pair in zip(few.whole.tolist(), few.part.tolist(), strict=True))


def test_candidates_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(candidates(THUMBNAILS[:1], np.zeros(1, np.float32), np.arange(1)).whole) == 0
    monkeypatch.setattr(room, "BLOCK", 1)
    apart = np.array([0.0, 100.0], np.float32)
    assert len(candidates(THUMBNAILS[[0, 0]], apart, np.arange(2)).whole) == 0, "luminance keeps them apart"
    assert candidates(THUMBNAILS[[0, 0]], apart * 0, np.arange(2)).crops.tolist() == [[1, 1, 0, 0]]
    assert descriptors(torch.zeros(1, SIDE, SIDE)).abs().sum() == 0
