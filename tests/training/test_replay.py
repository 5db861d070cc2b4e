"""A step taken again has the numbers of the run, to the last bit, and shows where NaN came from."""

import hashlib
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gemel
from conftest import TINY
from gemel.cli.main import main
from gemel.errors import Diverged

SMALL: dict[str, Any] = {"image_size": 16, "batch_size": 8, **TINY}


@pytest.fixture(scope="module")
def two_stages(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> gemel.Run:
    """Five steps of each stage, a checkpoint after each."""
    out = tmp_path_factory.mktemp("replay") / "run"
    method = {"name": "twist", "hidden": 16}
    return gemel.pretrain(
        photos, out=out, method=method, epochs=1, then={"epochs": 1}, classes=4, checkpoint_seconds=1e-9, **SMALL
    )


def files_of(run: gemel.Run) -> dict[str, str]:
    return {
        str(path.relative_to(run.path)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.path.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize(("step", "start"), [(1, 0), (3, 0), (8, 0), (10, 9)])
def test_terms_are_those_of_the_run(two_stages: gemel.Run, step: int, start: int) -> None:
    """From the run's start, over the border of the stages, and from the checkpoint before the last."""
    before, rows = files_of(two_stages), two_stages.metrics().to_pylist()
    found = gemel.replay(two_stages, step=step)
    assert files_of(two_stages) == before, "nothing is written"
    row = next(row for row in rows if row["step"] == step)
    assert (found.start, found.stage, found.epoch, found.lr) == (start, row["stage"], row["epoch"], row["lr"])
    assert found.terms == found.recorded == {name: row[name] for name in found.terms}
    assert found.is_exact
    assert found.first_not_finite == ""


def test_the_batch_is_that_of_the_draws(two_stages: gemel.Run, photos: Path) -> None:
    found = gemel.replay(two_stages, step=2)
    assert [Path(path) for path in found.paths] == [
        sorted(photos.rglob("*.jpg"))[index] for index in found.batch.index.tolist()
    ]
    views = gemel.views(found.paths, two_stages, seed=0, epoch=0, index=found.batch.index.tolist())
    for one, other in zip(found.batch.views, views, strict=True):
        assert torch.equal(one, other)


def test_gradients_are_of_every_parameter(two_stages: gemel.Run) -> None:
    found = gemel.replay(two_stages, step=2)
    assert all(one.norm > 0 and one.largest <= one.norm for one in found.gradients if "backbone" in one.name)
    assert sum(one.numbers for one in found.gradients) > 1000
    assert found.outputs[0].name.startswith("backbone.")


def test_one_step_alone_on_the_last_weights(two_stages: gemel.Run) -> None:
    found = gemel.replay(two_stages, step=7, exact=False)
    assert (found.start, found.is_exact, found.stage) == (10, False, "self_labeling")
    assert found.paths == gemel.replay(two_stages, step=7).paths, "the batch is that of the step"
    assert found.terms != found.recorded
    with pytest.raises(gemel.UserError, match="step 2 is of another stage than the newest checkpoint"):
        gemel.replay(two_stages, step=2, exact=False)


def test_where_the_run_diverged(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the command, the command names the layer."""
    method = {"name": "barlow_twins", "projector": [16, 16]}
    optimizer = {"name": "sgd", "lr": 1e30, "momentum": 0}
    with pytest.raises(Diverged) as told:
        gemel.pretrain(photos, out=tmp_path / "run", optimizer=optimizer, method=method, epochs=9, **SMALL)
    (words,) = re.findall(r"; (gemel replay \S+ --step \d+) shows what happened", str(told.value))
    with pytest.raises(SystemExit) as left:
        main(words.split()[1:])
    assert left.value.code == 0
    printed = capsys.readouterr().out
    assert re.search(r"NaN or infinite first in the output of backbone\.\S+\n", printed)
    assert "loss             nan" in printed
    step = int(words.rpartition(" ")[2])
    page = (tmp_path / "run" / f"replay-{step}.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2 * 8, "two views of eight images"
    assert "NaN or infinite first in the output of backbone." in page
    assert not re.search(r"(src|href)=.?https?:", page)
    assert math.isfinite(gemel.replay(tmp_path / "run", step=step - 1).terms["loss"])


def test_heads_on_vectors(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    np.savez(tmp_path / "vectors.npz", vector=vectors, path=[f"{number}.jpg" for number in range(64)])
    run = gemel.pretrain(
        tmp_path / "vectors.npz", out=tmp_path / "run", classes=4, epochs=1, batch_size=16, quiet=True, threads=1
    )
    found = gemel.replay(run, step=3, out=tmp_path / "page.html")
    assert found.terms == found.recorded
    assert [one.ndim for one in found.batch.views] == [2] * len(found.batch.views)
    assert found.paths == [f"{index}.jpg" for index in found.batch.index.tolist()]
    assert "data:image" not in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--step", "11"], "--step 11 is not a step of"),
        (["--step", "0"], "--step must be greater than or equal to 1, not 0"),
        (["--step", "one"], "--step must be a valid integer"),
        ([], "--step"),
        (["--step", "1", "--out", "page.txt"], "--out page.txt must end in .html"),
        (["--stepp", "1"], "did you mean --step?"),
    ],
)
def test_mistakes(two_stages: gemel.Run, words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["replay", str(two_stages.path), *words])
    assert left.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(two_stages.path.glob("*replay*"))
