"""TWIST: twin class distributions, consistent, sharp and diverse."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, cast

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from gemel.backbones.base import features_of
from gemel.data.plan import Batch
from gemel.distributed import from_first, mean_over_processes
from gemel.errors import UserError
from gemel.methods.base import Embed, Group, Method
from gemel.methods.parts.best_head import note_losses, of_best
from gemel.methods.parts.class_head import ClassHead, ClassHeads, HeadStyle, observed
from gemel.methods.parts.clustered_start import UNTIL, clusters, toward_clusters
from gemel.methods.parts.committee import FOLLOWED, Committee
from gemel.methods.parts.consensus import Consensus
from gemel.methods.parts.joined_classes import JoinedClasses
from gemel.methods.parts.teacher import Teacher
from gemel.methods.parts.twist_losses import multi_crop_loss, self_labeling_loss, teacher_loss, twist_loss
from gemel.methods.parts.twist_recipes import RECIPES
from gemel.schedules import cosine
from gemel.settings.recipes import AtLeastTwo, Count, HeadCount, Probability, Recipe

__all__ = ["ClassHead", "Twist", "multi_crop_loss", "self_labeling_loss", "teacher_loss", "twist_loss"]


class Twist(Method):
    r"""Learn twin class distributions that are consistent, sharp and diverse (https://arxiv.org/abs/2110.07402).

    L = ½[KL(p¹‖p²) + KL(p²‖p¹)] + α ½[EH(p¹) + EH(p²)] - β ½[HE(p¹) + HE(p²)],   p = softmax(BN(head(features)))

    Views of one size go through the backbone in one pass, and all views through the head together. Of more than two
    views, L is the mean over pairs of a global and a later view. In a second stage, self-labeling, the more certain
    global view labels the other views of the images that it is most certain of.

    Labels may also be those that all heads of several networks agree upon, which learn side by side from other initial
    weights: their optima differ, and most are wrong about other images. What is alike is moved together first. In the
    second stage a new network learns these labels, and each epoch what it has come to think counts as much as all that
    was thought before. Every class is given as many images, unless classes linked of what lies together are clearly
    further apart: then as many as they have.

    With several heads, each with its own batch norm and loss, the one with the lowest recent loss gives the classes:
    poor optima are dropped without labels. With `consensus` it is in the end the head that divides the images best, or
    the average of several: neighbours share a class, and classes are many.

    Args:
        classes: C, classes to discover
        hidden: width of the head's hidden layers
        layers: hidden layers of a head; with fewer than two, all heads are computed in one product
        alpha: α, weight of the sharpness
        beta: β, weight of the diversity; several: heads take them in turn, lower ones find classes of unequal sizes
        temperature: τ of the entropies; with a teacher, of all terms
        epsilon: ε inside the logarithms; 0: log-softmax
        norm: batch norm before the softmax
        bunch: images that share its statistics; none: the global batch
        heads: number of class heads
        finer: each class is joined in the end of so many finer ones on average, by how alike their images are; finds
            classes of unequal sizes
        consensus: heads are chosen, or averaged, in the end by how well their classes divide the graph of neighbours
        clustered: share of the heads that begin from clusters which k-means finds, each from others
        head_style: convolutional: ReLU; transformer: GELU, initial weights of standard deviation 0.02
        teacher: a momentum teacher of the global views gives the targets, and is what is kept
        momentum: of the teacher at the beginning; half a cosine leads to 1
        quantile: share of images that label themselves, at the beginning and at the end of the second stage
        group: images among which they are chosen; none: a process's batch, as released
        labels: of the second stage; own: each head's, of its more certain view; agreed: of all heads, in equal shares
            unless classes of unequal sizes lie clearly further apart
        networks: that learn side by side and agree upon labels

    Raises:
        UserError: agreed labels with a teacher or finer classes, or several networks without such labels.
    """

    recipes: ClassVar[Mapping[str, Recipe]] = RECIPES
    stages = ("pretrain", "self_labeling")
    title = "TWIST"
    terms: ClassVar[Mapping[str, str]] = {
        "consistency": "how much the class distributions of an image's views differ; 0 where they agree",
        "sharpness": "mean entropy of an image's classes; low where every image is assigned clearly",
        "diversity": "entropy of the mean over images; at most log C, where all classes are used equally",
        "kept": "share of the images that label their other views; in self-labeling only",
        "std_columns_before": "spread of a class's logits over images; before the last batch norm",
        "std_rows_before": "spread of an image's logits over classes",
        "std_columns_after": "spread of a class's logits over images; after the last batch norm",
        "std_rows_after": "spread of an image's logits over classes",
        "gradient_before": "mean size of the loss's gradient with respect to a logit before the last batch norm",
        "gradient_after": "the same after it",
    }
    advice: ClassVar[Mapping[str, str]] = {
        "one_class": "raise --method.beta (the weight of diversity), keep --method.norm, use larger batches",
        "few_classes": "train longer, raise --method.beta (the weight of diversity) or ask for fewer --classes",
        "uniform_classes": "raise --method.alpha (the weight of sharpness), keep --method.norm, or train longer",
    }
    small: ClassVar[Mapping[str, Any]] = {"classes": 5, "hidden": 16}

    def __init__(
        self,
        backbone: Any,
        *,
        classes: AtLeastTwo = 4096,
        hidden: Count = 4096,
        layers: Annotated[int, Field(ge=0, le=2)] = 2,
        alpha: NonNegativeFloat = 1.0,
        beta: NonNegativeFloat | Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)] = 1.0,
        temperature: PositiveFloat = 1.0,
        epsilon: NonNegativeFloat = 1e-5,
        norm: bool = True,
        bunch: Count | None = None,
        heads: HeadCount = 1,
        finer: Annotated[int, Field(ge=1, le=64)] = 1,
        consensus: bool = False,
        clustered: Probability = 0.0,
        head_style: HeadStyle = "convolutional",
        teacher: bool = False,
        momentum: Probability = 0.996,
        quantile: tuple[Probability, Probability] = (0.5, 0.6),
        group: Count | None = None,
        labels: Literal["own", "agreed"] = "own",
        networks: Annotated[int, Field(ge=1, le=16)] = 1,
    ) -> None:
        super().__init__(backbone)
        _check_labels(labels, networks, teacher=teacher, finer=finer)
        self.weights: dict[str, Any] = {"alpha": alpha, "beta": beta, "temperature": temperature, "epsilon": epsilon}
        self.momentum, self.quantile, self.group = momentum, quantile, group
        self.classes, self.clustered = classes * finer, round(heads * clustered)
        self.register_buffer("starts", None)
        self.starts: Tensor | None
        self.register_buffer("betas", _by_turns(beta, heads, networks), persistent=False)
        self.betas: Tensor | None
        style: dict[str, Any] = {"norm": norm, "bunch": bunch}
        if layers == 2:
            widths = backbone.width, hidden, hidden, self.classes
            made = [[ClassHead(*widths, **style, style=head_style) for _ in range(heads)] for _ in range(networks)]
        else:
            width = hidden if layers else 0
            made = [[ClassHeads(backbone.width, width, self.classes, heads, **style)] for _ in range(networks)]
        several = [nn.ModuleList(one) for one in made]
        self.heads = several[0]
        self.committee = Committee(backbone, several, classes) if labels == "agreed" else None
        self.teacher = Teacher(backbone, self.heads) if teacher else None
        self._student_begins = False
        self.register_buffer("head_losses", torch.zeros(heads))
        self.head_losses: Tensor
        self.joined = JoinedClasses(heads, classes, finer) if finer > 1 else None
        self.consensus = Consensus(heads, classes) if consensus and heads > 1 else None

    def attach(self, images: int) -> None:
        """Make room for the clusters that heads begin from, and for labels that are agreed upon."""
        if self.committee is not None:
            self.committee.attach(images)
        if self.clustered:
            self.register_buffer("starts", torch.zeros(images, self.clustered, dtype=torch.int32))

    def before_stage(self, name: str, embed: Embed | None = None) -> None:
        """Let some heads begin from clusters, and the teacher as a copy of the student.

        Raises:
            UserError: there is no second stage with a teacher.
        """
        self.stage = name
        if self.committee is not None and name == "pretrain":
            self.committee.begin(self.backbone, self.heads)
        elif self.committee is not None and embed is not None:
            self.committee.vote(embed, self.backbone, self.heads)
            self.head_losses.zero_()  # the student's heads are new, and alike
        if self.starts is not None and embed is not None and name == "pretrain":
            features, readable = embed()
            found = clusters(features[readable], self.classes, self.clustered)
            self.starts[readable] = from_first(found.to(self.starts.device))
        if self.teacher is not None:
            if name == "self_labeling":
                raise UserError("self-labeling has no teacher; --then.epochs 0 or --method.teacher no")
            self.teacher.copy(self.backbone, self.heads)

    def before_epoch(self, embed: Embed, progress: float) -> None:
        """Share out the labels of the second stage anew, by what its network has come to think."""
        committee = self.committee if self.stage == "self_labeling" else None
        self._student_begins = committee is not None and progress == 0
        if committee is not None:
            if progress >= FOLLOWED:
                committee.follow(embed, self.heads)
            committee.share_out()

    def renewed(self) -> list[nn.Parameter]:
        """Return the parameters of the network that learns agreed labels, as it begins."""
        return [*self.backbone.parameters(), *self.heads.parameters()] if self._student_begins else []

    def parameter_groups(self) -> list[Group]:
        """Return what decays, then what does not; the networks beside the first one rest in the second stage."""
        if self.committee is not None:
            self.committee.others.requires_grad_(self.stage == "pretrain")
        return super().parameter_groups()

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the loss, its terms (means over heads), and what is observed of the best head."""
        count, heads = len(batch.views), len(self.head_losses)
        before, after = zip(*self._passes(batch.views), strict=True)
        rows = self._by_head(after)  # (V·B, H, C), H of all networks
        logits = rows.chunk(count)
        if self.committee is not None and self.stage == "self_labeling":
            with torch.no_grad():
                terms = multi_crop_loss(logits, **self._weights(heads))
            terms["loss"] = mean_over_processes(self.committee.losses(rows, batch.index))
        else:
            terms = self._loss(logits, self._targets(batch.views[:2]), progress)  # (H,) each
        if self.training and self.stage == "pretrain":
            own = 0.0 if self.betas is None else (self.betas - self.betas[0]) * terms["diversity"]
            note_losses(self.head_losses, (terms["loss"] + own)[:heads])  # heads are compared by one β
            if self.starts is not None and progress < UNTIL:
                terms["loss"] = toward_clusters(terms["loss"], logits[0], self.starts[batch.index])
        mean = {name: term.mean() for name, term in terms.items()}
        return mean | observed(mean["loss"], before, after, self.head_losses.argmin(), self.classes)

    def _passes(self, views: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return logits before and after the last batch norm of every head, in the first stage of all networks."""
        networks: list[tuple[Any, Any]] = [(self.backbone, self.heads)]
        if self.committee is not None and self.stage == "pretrain":
            networks = self.committee.networks(*networks[0])
        features = [features_of(network, views) for network, _ in networks]
        return [head(one, len(views)) for one, (_, heads) in zip(features, networks, strict=True) for head in heads]

    def after_step(self, progress: float) -> None:
        """Let the teacher follow."""
        if self.teacher is not None:
            self.teacher.follow(self.backbone, self.heads, momentum=cosine(progress, self.momentum, 1.0))

    def after_stage(self, embed: Embed) -> None:
        """Join finer classes, and choose the heads that give the classes."""
        if self.joined is None and self.consensus is None:
            return
        features, readable = embed()
        if self.joined is not None:
            self.joined.join(features[readable], lambda rows: self._logits(rows).float().softmax(2))
        if self.consensus is not None:
            self.consensus.choose(features[readable], lambda rows: self._by_class(self._logits(rows)))

    def _by_head(self, columns: Sequence[Tensor]) -> Tensor:
        """Return (V·B, H, C) of (V·B, C) by each head, or of (V·B, H·C) by all of them."""
        rows = columns[0] if len(columns) == 1 else torch.cat(list(columns), 1)
        return rows.view(len(rows), -1, self.classes)

    @torch.no_grad()
    def _targets(self, views: Sequence[Tensor]) -> Sequence[Tensor] | None:
        """Return the logits of the global views by the teacher, if there is one."""
        if self.teacher is None:
            return None
        return self._logits(features_of(self.encoder(), views), 2).chunk(2)

    def _logits(self, features: Tensor, views: int = 1) -> Tensor:
        """Return the logits of all kept heads after the batch norm, (V·B, H, C)."""
        return self._by_head([head(features, views)[1] for head in self._kept_heads()])

    def _loss(self, views: Sequence[Tensor], target: Sequence[Tensor] | None, progress: float) -> dict[str, Tensor]:
        weights = self._weights(views[0].shape[1])
        if target is not None:
            return teacher_loss(target, views, **weights)
        if self.stage == "pretrain":
            return multi_crop_loss(views, **weights)
        with torch.no_grad():
            terms = multi_crop_loss(views, **weights)
        share = cosine(progress, *self.quantile)
        by_head = zip(*(view.unbind(1) for view in views), strict=True)
        labels = [self_labeling_loss(head, quantile=share, group=self.group) for head in by_head]
        return terms | {name: torch.stack([one[name] for one in labels]) for name in labels[0]}

    def _weights(self, heads: int) -> dict[str, Any]:
        """Return the weights of the terms; β of each of so many heads where they have their own."""
        return self.weights if self.betas is None else {**self.weights, "beta": self.betas[:heads]}

    def encoder(self) -> Any:
        """Return the teacher's backbone where there is one, else the student's."""
        return self.backbone if self.teacher is None else self.teacher.networks[0]

    def _kept_heads(self) -> nn.ModuleList:
        return self.heads if self.teacher is None else cast(nn.ModuleList, self.teacher.networks[1])

    def embed(self, features: Tensor) -> Tensor:
        """Return the best head's logits after the batch norm, (B, C), or the logarithm of joined or agreed classes.

        They are the teacher's where there is one.
        """
        logits = self._logits(features)  # (B, H, F)
        best = of_best(logits.unbind(1), self.head_losses)
        if self.joined is None and self.consensus is None:
            return best
        found = self._by_class(logits)
        if self.joined is not None:
            best = _logarithm(of_best(found.unbind(1), self.head_losses)).to(best.dtype)
        if self.consensus is not None:  # whether it has chosen is told without a wait for the device
            best = torch.where(self.consensus.share.any(), self.consensus(found).log().to(best.dtype), best)
        return best

    def _by_class(self, logits: Tensor) -> Tensor:
        """Return the probabilities of the classes by every head, (B, H, C), of its logits (B, H, F)."""
        found = logits.float().softmax(2)
        return found if self.joined is None else self.joined(found)

    def classify(self, features: Tensor) -> Tensor:
        """Return class probabilities (B, C) by the best head, or by the consensus."""
        return self.embed(features).float().softmax(1)


def _logarithm(probabilities: Tensor) -> Tensor:
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()


def _by_turns(beta: float | tuple[float, ...], heads: int, networks: int) -> Tensor | None:
    """Return β of each head of all networks, (H,); None where it is the same."""
    if isinstance(beta, float | int):
        return None
    return torch.tensor([beta[head % len(beta)] for head in range(heads)]).repeat(networks)


def _check_labels(labels: str, networks: int, *, teacher: bool, finer: int) -> None:
    wrong: list[str] = []
    if labels == "agreed" and (teacher or finer > 1):
        given = "a teacher" if teacher else "finer classes"
        wrong.append(
            f"labels agreed upon go with no teacher and no finer classes, not with {given}; --method.labels own does"
        )
    if labels == "own" and networks > 1:
        wrong.append(
            f"{networks} networks learn side by side to agree upon labels: "
            "give --method.labels agreed, or --method.networks 1"
        )
    if wrong:
        raise UserError(*wrong)
