"""MLflow: the server or database of MLFLOW_TRACKING_URI, else a database beside the run's folder."""

import os
import time
from collections.abc import Mapping
from typing import Any

from gemel.runs.run import Run
from gemel.training.trackers.base import PROJECT, Status, Tracker, flat, identity_of

_STATUS: dict[Status, str] = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
_TAG = "gemel.run"
_LONGEST = 500
"""characters of a parameter that every version of MLflow's databases takes"""


class MLflow(Tracker):
    """A run of MLflow, in the experiment of MLFLOW_EXPERIMENT_NAME."""

    package = "mlflow"

    def __init__(self, run: Run, step: int) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read as it is imported
        from mlflow.entities import Metric  # pyright: ignore[reportMissingImports]
        from mlflow.exceptions import MlflowException  # pyright: ignore[reportMissingImports]
        from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]

        self.failures = (OSError, MlflowException)
        database = run.path.parent / "mlflow.db"
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{database.resolve().as_posix()}"
        self._client: Any = MlflowClient(tracking_uri=uri)
        self._metric: Any = Metric
        self._id = self._found_or_made(run)
        self.where = f"in {uri}; mlflow ui --backend-store-uri {uri} shows it"

    def log(self, row: Mapping[str, float | int], step: int) -> None:
        """Take the numbers of a row."""
        now = int(time.time() * 1000)
        metrics = [self._metric(name, float(value), now, step) for name, value in row.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self, status: Status) -> None:
        """Say how the run ended."""
        self._client.set_terminated(self._id, status=_STATUS[status])

    def _found_or_made(self, run: Run) -> str:
        """Return the id of the run that is continued, else of a new one, with the settings as its parameters."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if known is None else known.experiment_id
        identity = identity_of(run)
        found = self._client.search_runs([experiment], f"tags.`{_TAG}` = '{identity}'")
        if found:
            self._client.update_run(found[0].info.run_id, status="RUNNING")
            return found[0].info.run_id
        made = self._client.create_run(experiment, run_name=run.path.name, tags={_TAG: identity})
        for key, value in flat(run.settings).items():
            self._client.log_param(made.info.run_id, key, str(value)[:_LONGEST])
        return made.info.run_id
