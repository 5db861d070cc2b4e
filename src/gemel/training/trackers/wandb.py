"""Weights & Biases: files in the run's folder, and only if the user says so the server."""

import os
from collections.abc import Mapping

from gemel.runs.run import Run
from gemel.training.trackers.base import PROJECT, Status, Tracker, flat, identity_of

_EXIT_CODES: dict[Status, int] = {"finished": 0, "failed": 1, "interrupted": 130}


class WeightsAndBiases(Tracker):
    """A run of wandb; nothing leaves the machine unless the variable WANDB_MODE says online."""

    package = "wandb"

    def __init__(self, run: Run, step: int) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else its crashes are sent, offline too
        import wandb  # pyright: ignore[reportMissingImports]

        self.failures = (OSError, wandb.Error)
        mode = os.environ.get("WANDB_MODE", "offline")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.path.name,
            id=identity_of(run),
            dir=str(run.path),
            mode="online" if mode == "online" else "disabled" if mode == "disabled" else "offline",
            config=flat(run.settings),
            resume="allow",
            settings=wandb.Settings(console="off", silent=True),  # what gemel prints stays as it is
        )
        # wandb's own count of rows can only grow; a resumed run goes back to its checkpoint.
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")
        folder = run.path / "wandb"
        sync = f"wandb sync {folder / 'offline-run-*'} sends it; with WANDB_MODE=online it is sent as it comes"
        self.where = str(self._run.url) if mode == "online" else f"{mode}, in {folder}; {sync}"

    def log(self, row: Mapping[str, float | int], step: int) -> None:
        """Take the numbers of a row."""
        self._run.log({**row, "step": step})

    def close(self, status: Status) -> None:
        """Write everything out."""
        self._run.finish(exit_code=_EXIT_CODES[status])
