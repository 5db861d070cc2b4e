"""Trackers take the rows of metrics.csv; each is tested with its real package, offline."""

import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import pytest

import gemel
from conftest import TINY
from gemel.errors import Interrupted
from gemel.settings.run_settings import Settings
from gemel.training import trackers
from gemel.training.trackers import Trackers
from gemel.training.trackers.base import Status, Tracker, identity_of

ROWS = [(3, {"stage": "pretrain", "step": 3, "loss": 2.5, "lr": 0.125}), (4, {"step": 4, "loss": 1.25, "lr": 0.5})]
CONTINUED = (4, {"step": 4, "loss": 1.125, "lr": 0.5})


def installed(name: str) -> Any:
    package = trackers.find(name).package
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is an extra that is not installed here")


def test_every_tracker_is_a_word_of_the_setting() -> None:
    words = get_args(get_args(Settings.model_fields["log"].annotation)[0])
    assert sorted(words) == sorted([trackers.CSV, *trackers.available()])


@pytest.mark.parametrize("words", ["tensorboard,wandb", ["tensorboard", "wandb"], ("tensorboard", "wandb")])
def test_several_are_named_at_once(words: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whose packages are missing is reported with all other mistakes, and nothing is written."""
    for name in ("tensorboard", "wandb"):
        monkeypatch.setattr(trackers.find(name), "package", "a_package_that_nobody_has")
    with pytest.raises(gemel.UserError) as told:
        gemel.pretrain(tmp_path / "nowhere", log=words, out=tmp_path / "run")
    assert [line for line in told.value.mistakes if "pip install 'gemel[" in line] == [
        "--log tensorboard needs a package that is not installed: pip install 'gemel[tensorboard]'",
        "--log wandb needs a package that is not installed: pip install 'gemel[wandb]'",
    ]
    assert len(told.value.mistakes) == 3
    assert not (tmp_path / "run").exists()


def test_an_unknown_tracker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(gemel.UserError, match="'mlflow' or 'trackio', not tensorbord"):
        gemel.pretrain("digits", log="csv,tensorbord", out=tmp_path / "run")


def events_of(folder: Path) -> dict[str, dict[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return {name: {one.step: one.value for one in found.Scalars(name)} for name in found.Tags()["scalars"]}


@installed("tensorboard")
@pytest.mark.filterwarnings("default")
def test_tensorboard_shows_the_rows(tmp_path: Path, photos: Path) -> None:
    method = {"name": "twist", "hidden": 16}
    options = {"method": method, "epochs": 1, "image_size": 16, "batch_size": 8, **TINY}
    run = gemel.pretrain(photos, out=tmp_path / "run", log="tensorboard", **options)
    shown, rows = events_of(run.path / "tensorboard"), run.metrics().to_pylist()
    assert len(rows) == 5
    assert shown.keys() == run.metrics().to_pydict().keys() - {"stage"}
    for name, values in shown.items():
        expected = {row["step"]: row[name] for row in rows if row[name] is not None}
        assert values == pytest.approx(expected, rel=1e-6), name


def read_tensorboard(run: gemel.Run) -> Mapping[int, float]:
    return events_of(run.path / "tensorboard")["loss"]


def read_wandb(run: gemel.Run) -> Mapping[int, float]:
    """Of an online run the server merges what one id sent; offline each opening is a file."""
    from wandb.proto.wandb_internal_pb2 import Record

    found: dict[int, float] = {}
    for path in sorted((run.path / "wandb").glob("offline-run-*/*.wandb"), key=lambda one: one.stat().st_mtime_ns):
        for data in records_of(path.read_bytes()[7:]):
            record = Record()
            record.ParseFromString(data)
            items = {one.nested_key[0] if one.nested_key else one.key: one.value_json for one in record.history.item}
            if "loss" in items:
                found[int(json.loads(items["step"]))] = json.loads(items["loss"])
            assert not record.run.run_id or record.run.run_id == identity_of(run)
    return found


def records_of(data: bytes, block: int = 32768, head: int = 7) -> Iterator[bytes]:
    """Of a file in LevelDB's log format, behind wandb's own head of as many bytes as a record's."""
    place, parts = head, b""
    while place - head < len(data):
        if block - place % block < head:  # padding: no record begins there
            place += block - place % block
            continue
        _, size, kind = struct.unpack_from("<IHB", data, place - head)
        parts += data[place : place + size]
        place += head + size
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def read_mlflow(run: gemel.Run) -> Mapping[int, float]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
    (experiment,) = [one for one in client.search_experiments() if one.name == "gemel"]
    (tracked,) = client.search_runs([experiment.experiment_id])
    assert tracked.info.status == "FINISHED"
    assert tracked.data.params["method.name"] == "twist"
    history = client.get_metric_history(tracked.info.run_id, "loss")
    return {one.step: one.value for one in sorted(history, key=lambda one: one.timestamp)}


def read_trackio(run: gemel.Run) -> Mapping[int, float]:
    from trackio.sqlite_storage import SQLiteStorage

    rows = SQLiteStorage.get_logs("gemel", f"{run.path.name}-{identity_of(run)}")
    return {row["step"]: row["loss"] for row in rows}


READERS: dict[str, Callable[[gemel.Run], Mapping[int, float]]] = {
    "tensorboard": read_tensorboard,
    "wandb": read_wandb,
    "mlflow": read_mlflow,
    "trackio": read_trackio,
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=installed(name)) for name in READERS])
@pytest.mark.filterwarnings("default")
def test_a_continued_run_is_one_run(
    name: str, tmp_path: Path, digits_run: gemel.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows after the checkpoint are made anew, and replace those that stood there."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("WANDB_MODE", "offline")
    if name == "trackio":
        from trackio import utils

        monkeypatch.setattr(utils, "TRACKIO_DIR", tmp_path / "trackio")
    (tmp_path / "run").mkdir()
    for file in ("run.yaml", "environment.json"):
        shutil.copy(digits_run.path / file, tmp_path / "run")
    run = gemel.load(tmp_path / "run")
    for step, rows in ((0, ROWS), (3, [CONTINUED])):
        with trackers.opened(("csv", name), run, step, lambda line: None) as opened:
            for number, row in rows:
                opened.log(row, number)
    assert READERS[name](run) == {3: 2.5, 4: 1.125}


class Unsteady(Tracker):
    """Takes one row."""

    def __init__(self, run: Any = None, step: int = 0) -> None:
        self.rows: list[Any] = []
        self.closed: list[Status] = []

    def log(self, row: Mapping[str, float | int], step: int) -> None:
        if self.rows:
            raise ConnectionError("the server\nis gone")
        self.rows.append((step, dict(row)))

    def close(self, status: Status) -> None:
        self.closed.append(status)


def test_one_that_fails_is_left_out_and_the_run_goes_on() -> None:
    lost, lines = Unsteady(), list[str]()
    group = Trackers({"lost": lost}, lines.append)
    for step, row in (*ROWS, CONTINUED):
        group.log(row, step)
    group.close("finished")
    assert lost.rows == [(3, {"step": 3, "loss": 2.5, "lr": 0.125})]
    assert lost.closed == []
    assert lines == ["warning: lost takes no more rows (the server\\nis gone); metrics.csv has them all"]


@pytest.mark.parametrize(
    ("error", "status"), [(None, "finished"), (Interrupted("x"), "interrupted"), (MemoryError("x"), "failed")]
)
def test_they_learn_how_the_run_ended(
    error: Exception | None, status: Status, digits_run: gemel.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Unsteady] = []

    class Noted(Unsteady):
        package = "json"

        def __init__(self, run: Any, step: int) -> None:
            super().__init__()
            self.where = "nowhere"
            made.append(self)

    monkeypatch.setattr(trackers, "find", lambda name: Noted)
    if error is None:
        with trackers.opened(("tensorboard",), digits_run, 0, lambda line: None):
            pass
    else:
        with pytest.raises(type(error)), trackers.opened(("tensorboard",), digits_run, 0, lambda line: None):
            raise error
    assert [one.closed for one in made] == [[status]]
