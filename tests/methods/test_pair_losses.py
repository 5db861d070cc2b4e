"""Mean cosine, swapped cross-entropy, codes: values and gradients are those of their definitions, for any rows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import log_softmax, normalize, softmax

from gemel.methods.parts.contrast import mean_cosine
from gemel.methods.parts.sinkhorn import assignment, sinkhorn
from gemel.methods.parts.swapped import shares_and_entropy, swapped_cross_entropy

SEEDS = st.integers(0, 2**32 - 1)


def drawn(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


@given(SEEDS, st.integers(1, 6), st.integers(1, 7), st.sampled_from([1e-9, 1e-3, 1.0, 1e4]))
def test_mean_cosine_is_the_mean_of_cosines(seed: int, count: int, width: int, scale: float) -> None:
    rows, targets = drawn(seed, count, width, scale=scale).requires_grad_(), drawn(seed + 1, count, width)
    found = mean_cosine(rows, targets, floor=1e-6)
    expected = (normalize(rows, eps=1e-6) * normalize(targets, eps=1e-6)).sum(1).mean()
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(value, rows)[0] for value in (found, expected)]
    torch.testing.assert_close(gradients[0] * scale, gradients[1] * scale, rtol=1e-7, atol=1e-9)


def test_rows_of_zero_have_cosine_zero_and_a_finite_gradient() -> None:
    rows, targets = torch.zeros(2, 3, requires_grad=True), torch.ones(2, 3)
    found = mean_cosine(rows, targets, floor=1e-6)
    found.backward()
    assert found.item() == 0
    assert rows.grad is not None
    assert bool(rows.grad.isfinite().all())


def test_half_precision_rows_get_gradients_of_their_own_type() -> None:
    rows = torch.randn(4, 8, dtype=torch.bfloat16, requires_grad=True)
    mean_cosine(rows, torch.randn(4, 8), floor=1e-8).backward()
    assert rows.grad is not None
    assert rows.grad.dtype == torch.bfloat16


@given(SEEDS, st.integers(2, 4), st.integers(1, 5), st.integers(2, 6), st.sampled_from([0.1, 1.0, 300.0]))
def test_swapped_cross_entropy_is_the_sum_over_pairs(
    seed: int, views: int, count: int, width: int, scale: float
) -> None:
    logits = [drawn(seed + view, count, width, scale=scale).requires_grad_() for view in range(views)]
    targets = [softmax(drawn(seed + 10 + view, count, width), 1) for view in range(2)]
    found = swapped_cross_entropy(targets, logits, 0.1)
    pairs = [(one, two) for one in range(2) for two in range(views) if one != two]
    terms = [-(targets[one] * log_softmax(logits[two] / 0.1, 1)).sum(1).mean() for one, two in pairs]
    expected = torch.stack(terms).sum() / len(pairs)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(torch.autograd.grad(found, logits), torch.autograd.grad(expected, logits), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_rows_in_pieces_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = [drawn(view, 5, 7).requires_grad_() for view in range(2)]
    targets = [softmax(drawn(7 + view, 5, 7), 1) for view in range(2)]
    whole = swapped_cross_entropy(targets, logits, 0.1)
    monkeypatch.setattr("gemel.methods.parts.precision.CACHE_BYTES", 1)
    parts = swapped_cross_entropy(targets, logits, 0.1)
    torch.testing.assert_close(parts, whole)
    for ours, theirs in zip(torch.autograd.grad(parts, logits), torch.autograd.grad(whole, logits), strict=True):
        torch.testing.assert_close(ours, theirs)


@given(SEEDS, st.integers(1, 5), st.integers(2, 6), st.sampled_from([0.1, 1.0, 300.0]))
def test_shares_and_entropy_are_those_of_the_softmax(seed: int, count: int, width: int, scale: float) -> None:
    logits, center = drawn(seed, count, width, scale=scale), drawn(seed + 1, width)
    shares, entropy = shares_and_entropy(logits, center, 0.04)
    expected = torch.distributions.Categorical(logits=(logits - center) / 0.04)
    torch.testing.assert_close(shares, softmax((logits - center) / 0.04, 1))
    torch.testing.assert_close(entropy, expected.entropy().mean(), rtol=1e-6, atol=1e-9)


@given(SEEDS, st.integers(1, 5), st.integers(1, 6), st.integers(1, 9), st.sampled_from([0.1, 1.0, 10.0, 1000.0]))
def test_codes_are_those_of_sums_in_logarithms(
    seed: int, count: int, width: int, iterations: int, scale: float
) -> None:
    scores = drawn(seed, count, width, scale=scale)
    logits = scores / 0.05
    logits = (logits - logits.logsumexp(0)).log_softmax(1)
    codes = logits.exp()
    for _ in range(iterations - 1):  # a sum of what is below the smallest number stays 0, as in the codes
        codes = codes / codes.sum(0).clamp_min(torch.finfo(codes.dtype).tiny)
        codes = codes / codes.sum(1, keepdim=True)
    torch.testing.assert_close(sinkhorn(scores, iterations=1), logits.exp(), rtol=1e-7, atol=1e-12)
    found, entropies = assignment(scores, iterations=iterations)
    torch.testing.assert_close(entropies, -torch.xlogy(found, found).sum(1), rtol=1e-6, atol=1e-9 * max(1, scale))
    if bool((codes.sum(0) > 1e-100).all()):
        torch.testing.assert_close(found, codes, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(found.sum(1), torch.ones(count, dtype=torch.float64))
