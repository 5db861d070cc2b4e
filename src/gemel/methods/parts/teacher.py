"""A momentum teacher: a moving average of another network."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

# torch._foreach_* is what torch's own optimisers step with; it has no public name.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false


class Teacher(nn.Module):
    """A copy of a student's networks whose parameters are an average of the student's, θ ← m θ + (1 - m) θ_student.

    Buffers (the batch norms' statistics) come from the teacher's own passes. It takes no gradient, and applies neither
    drop path nor dropout.

    Args:
        students: the networks to follow, in the order of `networks`.
    """

    def __init__(self, *students: nn.Module) -> None:
        super().__init__()
        # Any: of the students' own types
        self.networks: Any = nn.ModuleList(copy.deepcopy(student) for student in students).requires_grad_(False)
        for module in self.networks.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            elif hasattr(module, "drop_prob"):  # timm's DropPath
                setattr(module, "drop_prob", 0.0)  # noqa: B010  torch types attributes as modules

    @torch.no_grad()
    def copy(self, *students: nn.Module) -> None:
        """Copy the students' parameters and buffers."""
        for own, student in zip(self.networks, students, strict=True):
            own.load_state_dict(student.state_dict())

    @torch.no_grad()
    def follow(self, *students: nn.Module, momentum: float) -> None:
        """Take one step of the average, m = `momentum`."""
        own: list[Tensor] = list(self.networks.parameters())
        theirs = [one.detach() for student in students for one in student.parameters()]
        torch._foreach_lerp_(own, theirs, 1.0 - momentum)
