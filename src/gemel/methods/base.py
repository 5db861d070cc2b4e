"""Method: what is learned; heads on a backbone, and the loss of one batch of views."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from gemel.data.batches import Batch
from gemel.errors import UserError
from gemel.settings.recipes import Recipe

Embed = Callable[[], Tensor]
"""features of all images, (N, width), in the order of `Batch.index`; by `encoder()` in evaluation mode"""


class Group(NamedTuple):
    """Parameters that the optimiser treats alike."""

    parameters: list[nn.Parameter]
    decay: bool
    """weight decay, and LARS's trust ratio; no for biases, norms, tokens and places"""


class Method(nn.Module, ABC):
    """What is learned: heads on a backbone, and the loss of one batch of views.

    A subclass's keyword-only arguments, with ranges as annotations and help below `Args:`, are its settings. It is
    an ordinary module: it trains in a bare loop as well as in gemel's.

    Args:
        backbone: images (B, 3, H, W) to features (B, width); has `.width`.
    """

    recipes: ClassVar[Mapping[str, Recipe]] = {}
    """the papers' views, optimiser and epochs by name; the first is the default"""

    stages: ClassVar[tuple[str, ...]] = ("pretrain",)
    """names of the stages that a run may have, at most two: `--then` is of the second"""

    def __init_subclass__(cls, **options: Any) -> None:
        """Check the contract at definition: keyword-only options, a document, a recipe."""
        super().__init_subclass__(**options)
        if inspect.isabstract(cls):
            return
        positional = [
            name
            for name, parameter in list(inspect.signature(cls).parameters.items())[1:]
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY
        ]
        if positional:
            raise TypeError(f"{cls.__name__}: options must be keyword-only, not {', '.join(positional)}")
        if not cls.__doc__ or not cls.recipes:
            raise TypeError(f"{cls.__name__}: a method needs a docstring and at least one recipe")

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone

    @abstractmethod
    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Named terms of the loss, among them "loss"; others are logged. Views are normalised floats (B, 3, H, W)."""

    def before_stage(self, name: str) -> None:
        """Before a stage of `stages` begins or goes on; a run that goes on loads the method's tensors after it."""

    def before_epoch(self, embed: Embed, progress: float) -> None:
        """Before an epoch: clusterings are made anew, and kept in buffers."""

    def after_step(self, progress: float) -> None:
        """After the optimiser's step: teachers follow, queues fill."""

    def pair(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The two views of a batch, for a method that takes no more.

        Raises:
            UserError: there are others.
        """
        if len(batch.views) != 2:
            raise UserError(
                f"{type(self).__name__} takes two views of an image, not {len(batch.views)}; "
                "--views.local_count 0 leaves the small ones out"
            )
        return batch.views[0], batch.views[1]

    def embed(self, features: Tensor) -> Tensor:
        """What the loss looks at, (B, D), of features (B, width)."""
        return features

    def classify(self, features: Tensor) -> Tensor | None:
        """Class probabilities (B, C) of features (B, width); None for a method without classes."""
        return None

    def encoder(self) -> Any:
        """The backbone to keep: the teacher's where there is one."""
        return self.backbone

    def parameter_groups(self) -> list[Group]:
        """Matrices and kernels, then biases, norms, tokens and places."""
        decay: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                last = name.rsplit(".", 1)[-1]
                plain = parameter.ndim == 1 or last in ("bias", "pos_embed", "cls_token")
                (rest if plain else decay).append(parameter)
        return [Group(decay, True), Group(rest, False)]
