"""TensorBoard: files in the run's folder, shown by `tensorboard --logdir runs`."""

from collections.abc import Mapping

from gemel.runs.run import Run
from gemel.training.trackers.base import Status, Tracker


class TensorBoard(Tracker):
    """Event files, which TensorBoard's viewer of all runs reads."""

    package = "tensorboard"

    def __init__(self, run: Run, step: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        folder = run.path / "tensorboard"
        # Rows after the checkpoint that the run is continued from are made anew: the viewer must forget the old ones.
        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)
        self.where = f"in {folder}; tensorboard --logdir {run.path.parent} shows it"

    def log(self, row: Mapping[str, float | int], step: int) -> None:
        """Take the numbers of a row."""
        for name, value in row.items():
            self._writer.add_scalar(name, value, step)

    def close(self, status: Status) -> None:
        """Write everything out."""
        self._writer.close()
