"""A run by its folder, and its backbone: `gemel.load` and `gemel.backbone`."""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from gemel.errors import UserError, brief
from gemel.runs.run import Run

if TYPE_CHECKING:
    from gemel.backbones.base import Backbone


def load(run: Run | str | Path) -> Run:
    """Return the run of a folder.

    Raises:
        UserError: there is no run.
    """
    if not isinstance(run, Run | str | PathLike):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UserError(f"a run is given by its folder, not {brief(run)}")
    return run if isinstance(run, Run) else Run(run)


def backbone(run: Run | str | Path) -> "Backbone":
    """Return the trained backbone in evaluation mode: normalised floats (B, 3, H, W) to features (B, width).

    Raises:
        UserError: there is no run, or it has not ended.
    """
    from gemel.engine.checkpoints import load_backbone

    return load_backbone(load(run))
