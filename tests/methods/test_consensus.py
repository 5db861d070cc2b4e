"""Which heads give the classes: the best one, or an average of those that mean the same."""

import torch

from gemel.methods.parts.consensus import Consensus, averaged, chosen_heads

KINDS = torch.arange(3).repeat_interleave(20)


def neighbours(seed: int = 0) -> torch.Tensor:
    """Four rows of the same kind for each."""
    random = torch.Generator().manual_seed(seed)
    return torch.randint(20, (60, 4), generator=random) + 20 * KINDS[:, None]


def head(classes: torch.Tensor, sure: float = 0.9) -> torch.Tensor:
    return torch.full((60, 3), (1 - sure) / 2).scatter(1, classes[:, None], sure)


def test_classes_are_aligned_before_they_are_averaged() -> None:
    noisy = KINDS.clone()
    noisy[:3] = 1  # three of the first kind are wrong in the first head
    probabilities = torch.stack([head(noisy), head((KINDS + 1) % 3), head((KINDS + 2) % 3)], 1)
    mean, order = averaged(probabilities, [0, 1, 2])
    assert torch.equal(mean.argmax(1), KINDS)
    assert order.tolist() == [[0, 1, 2], [1, 2, 0], [2, 0, 1]]


def test_a_head_that_joins_kinds_is_left_out() -> None:
    joined = torch.where(KINDS == 2, 1, KINDS)
    probabilities = torch.stack([head(joined), head(KINDS), head((KINDS + 1) % 3)], 1)
    share, order = chosen_heads(probabilities, neighbours())
    assert share.tolist() == [0, 0.5, 0.5]
    consensus = Consensus(3, 3)
    assert not consensus.share.any()
    consensus.share.copy_(share)
    consensus.order.copy_(order)
    assert consensus.share.any()
    found = consensus(probabilities)
    assert torch.equal(found.argmax(1), KINDS)
    torch.testing.assert_close(found.sum(1), torch.ones(60))


def test_equally_good_heads_that_mean_something_else_are_not_averaged() -> None:
    """Halves that cross: their average would be neither."""
    quarters = torch.arange(4).repeat_interleave(15)
    near = (torch.arange(60) + torch.tensor([[1], [2]])).T % 60  # a ring: halves may begin anywhere
    one, two = quarters // 2, ((quarters + 1) % 4) // 2
    probabilities = torch.stack([torch.nn.functional.one_hot(part, 2).float() for part in (one, two)], 1)
    share, _ = chosen_heads(probabilities, near)
    assert sorted(share.tolist()) == [0, 1]


def test_it_is_chosen_on_all_images_and_kept() -> None:
    features = 10 * torch.eye(3)[KINDS] + torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    consensus = Consensus(2, 3)
    consensus.choose(features, lambda rows: torch.stack([(rows / 20).softmax(1), torch.full_like(rows, 1 / 3)], 1))
    assert consensus.share.tolist() == [1, 0]
    again = Consensus(2, 3)
    again.load_state_dict(consensus.state_dict())
    assert again.share.any()
