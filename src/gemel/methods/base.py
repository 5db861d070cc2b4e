"""Method: what is learned; heads on a backbone, and the loss of one batch of views."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from torch import Tensor, nn

from gemel.data.plan import Batch
from gemel.errors import UserError
from gemel.metrics.health import ADVICE
from gemel.settings.recipes import Recipe


class Embedded(NamedTuple):
    """Vectors of all images, on the CPU, the same on every process."""

    features: Tensor
    """(N, d), in the order of `Batch.index`; (N, V, d) of augmented views; zeros where an image can't be read"""
    readable: Tensor
    """(N,) bool"""


class Embed(Protocol):
    """What a hook calls to see all images; every process must call it, and each computes a share of the rows."""

    def __call__(
        self, head: nn.Module | None = None, *, views: bool = False, training: bool = False, network: Any = None
    ) -> Embedded:
        """Return the features of all images by `encoder()`.

        Args:
            head: applied to the features; None: the features themselves.
            views: of the epoch's own augmented global views, one forward pass a view; else of the inference crop.
            training: encoder and head in training mode, so that batch norms use the batch's statistics and update
                theirs; else in evaluation mode.
            network: used in place of `encoder()`; `nn.Flatten()` gives the normalised pixels.
        """
        ...


class Group(NamedTuple):
    """Parameters that the optimiser treats alike."""

    parameters: list[nn.Parameter]
    decay: bool
    """weight decay, and LARS's trust ratio; no for biases, norms, tokens and position embeddings"""
    rate: float = 1.0
    """times the recipe's learning rate"""
    schedule: Literal["recipe", "constant"] = "recipe"
    """constant: neither warm-up nor decay of the rate (SimSiam's predictor)"""
    starts: float = 0.0
    """progress before which the gradient is dropped (DINO's last layer, SwAV's prototypes)"""
    momentum: float | None = None
    """of SGD and LARS; none: the recipe's (DeepCluster's top layer has none)"""


def apart(groups: Iterable[Group], parameters: Iterable[nn.Parameter], **changes: Any) -> list[Group]:
    """Return the groups with some of the parameters in groups of their own, which differ by `changes`."""
    chosen, found = {id(one) for one in parameters}, list[Group]()
    for group in groups:
        others = [one for one in group.parameters if id(one) not in chosen]
        own = [one for one in group.parameters if id(one) in chosen]
        found += [group._replace(parameters=others)] if others else []
        found += [group._replace(parameters=own, **changes)] if own else []
    return found


class Method(nn.Module, ABC):
    """What is learned: heads on a backbone, and the loss of one batch of views.

    A subclass's keyword-only arguments, with ranges as annotations and help below `Args:`, are its settings. It is
    an ordinary module: it trains in a bare loop as well as in gemel's.

    Random numbers drawn in `before_stage`, `before_epoch`, `before_step`, `order` and `after_step` follow from the
    run's seed and the step alone: they are the same on all processes and after a resume.

    Args:
        backbone: images (B, 3, H, W) to features (B, width); has `.width`.
    """

    recipes: ClassVar[Mapping[str, Recipe]] = {}
    """the papers' views, optimiser and epochs by name; the first is the default"""
    stages: ClassVar[tuple[str, ...]] = ("pretrain",)
    """names of the stages that a run may have, at most two: `--then` is of the second"""
    title: ClassVar[str] = ""
    """the method's name in reports; empty: as its class"""
    terms: ClassVar[Mapping[str, str]] = {}
    """how to read each term of the loss, for the report"""
    advice: ClassVar[Mapping[str, str]] = {}
    """what to try by kind of finding of the health verdict (`metrics.health.ADVICE`), in this method's own options"""
    protocols: ClassVar[Mapping[str, str]] = {}
    """evaluation -> recipe of it, where the names differ from the method's own"""
    has_own_network: ClassVar[bool] = False
    """whether the recipes' networks belong to the method: then none is chosen by the images"""
    small: ClassVar[Mapping[str, Any]] = {}
    """options that make the method tiny, for the tests of all methods"""

    def __init_subclass__(cls, **options: Any) -> None:
        """Check the contract at definition: keyword-only options, a docstring, a recipe."""
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
        unknown = sorted(set(cls.advice) - set(ADVICE))
        if unknown:
            raise TypeError(f"{cls.__name__}: advice for {', '.join(unknown)}; there are {', '.join(ADVICE)}")

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.stage = self.stages[0]
        """the stage that is being trained; the engine sets it, on a resume too"""
        self.register_buffer("partners", None)
        self.partners: Tensor | None
        """(N, k) rows of the dataset from which each image's partner is drawn; set in `before_stage`"""

    @classmethod
    def described(cls) -> dict[str, Any]:
        """Return what a report says of the method: it reads the run's folder alone, and imports no method."""
        title = cls.title or cls.__name__
        return {"title": title, "terms": cls.terms, "advice": cls.advice, "protocols": cls.protocols}

    @abstractmethod
    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return named terms of the loss, among them "loss"; the others are logged.

        Args:
            batch: views are normalised floats (B, 3, H, W); the terms are means over the global batch.
            progress: steps done / steps of the stage, in [0, 1).
        """

    @property
    def refuses_shares(self) -> str:
        """Why a batch can't be seen in shares (`--shares`), as the end of a sentence; empty where it can."""
        return ""

    def attach(self, images: int) -> None:
        """Register buffers as long as the dataset; called once, before any tensors are loaded."""

    def before_stage(self, name: str, embed: Embed) -> None:
        """Prepare a stage of `stages` when it truly begins: mine neighbours, fill a memory; not called on a resume.

        What it sets must be a buffer, so that a resumed run finds it: only buffers and parameters are saved.

        Raises:
            UserError: the options do not allow that stage.
        """

    def before_epoch(self, embed: Embed, progress: float) -> None:
        """Prepare an epoch: cluster anew, assign labels; keep the result in buffers."""

    def before_step(self, embed: Embed, progress: float) -> None:
        """Prepare a step: rarely used, as it must cost nothing on the steps at which nothing is to do."""

    def after_step(self, progress: float) -> None:
        """Update what follows the optimiser's step: teachers, queues."""

    def after_stage(self, embed: Embed) -> None:
        """Settle what depends on all images once a stage's last step is done, in evaluation mode; keep it in buffers.

        Called once, before the stage's last checkpoint is written.
        """

    def order(self, epoch: int) -> Tensor | None:
        """Return an epoch's own order of rows, asked after `before_epoch`; None: a random permutation."""
        return None

    def renewed(self) -> list[nn.Parameter]:
        """Return parameters that the last `before_epoch` or `before_step` made anew, to drop their optimiser state."""
        return []

    def pair(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the two views of a batch, for a method that takes no more.

        Raises:
            UserError: there are others.
        """
        if len(batch.views) != 2:
            raise UserError(
                f"{type(self).__name__} takes two views of an image, not {len(batch.views)}; "
                "give --views.global_count 2 and --views.local_count 0"
            )
        return batch.views[0], batch.views[1]

    def single(self, batch: Batch) -> Tensor:
        """Return the one view of a batch, for a method that takes no more.

        Raises:
            UserError: there are others.
        """
        if len(batch.views) != 1:
            raise UserError(
                f"{type(self).__name__} takes one view of an image, not {len(batch.views)}; "
                "give --views.global_count 1 and --views.local_count 0"
            )
        return batch.views[0]

    def embed(self, features: Tensor) -> Tensor:
        """Return what the loss looks at, (B, D), of features (B, width)."""
        return features

    def classify(self, features: Tensor) -> Tensor | None:
        """Return class probabilities (B, C) of features (B, width); None for a method without classes."""
        return None

    def encoder(self) -> Any:
        """Return the backbone to keep: the teacher's where there is one."""
        return self.backbone

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Return whether a parameter decays, and takes LARS's trust ratio.

        Here matrices and kernels do, but biases, norms, tokens and position embeddings do not; released codes differ.
        """
        return parameter.ndim > 1 and name.rsplit(".", 1)[-1] not in ("bias", "pos_embed", "cls_token")

    def parameter_groups(self) -> list[Group]:
        """Return what decays, then what does not; see `apart` for parameters with a rate or a start of their own."""
        parts: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                parts[self.decays(name, parameter)].append(parameter)
        return [Group(parameters, decay) for decay, parameters in parts.items() if parameters]
