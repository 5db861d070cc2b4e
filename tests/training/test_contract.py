"""What a method may ask of the engine, shown by small methods: broken off, resumed, and over several processes."""

import os
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

import gemel
from conftest import TINY, write_photos
from gemel import methods
from gemel.backbones.convnet import convnet
from gemel.data.batches import Plan
from gemel.data.sources import open_source
from gemel.engine import checkpoints
from gemel.engine.devices import Devices
from gemel.engine.loop import Loop
from gemel.errors import Interrupted
from gemel.launcher import launched
from gemel.runs.run import Run
from gemel.training.stages import Stage
from gemel.training.task import Pretraining

FOLDER = Path(__file__).parent.parent / "small_methods"
NAMES = ["memory", "clusters", "neighbours"]
IMAGES, BATCH, EPOCHS = 36, 12, 3


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_photos(folder, IMAGES)
    return folder


@pytest.fixture(autouse=True)
def _recipes_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


def tensors(run: Run) -> dict[str, Tensor]:
    state = checkpoints.load(run)
    assert state is not None
    return state["method"]


def options(name: str, workers: int) -> dict[str, Any]:
    found = {**TINY, "method": str(FOLDER / f"{name}.py"), "epochs": EPOCHS, "batch_size": BATCH, "image_size": 16}
    return {**found, "views": {"name": "photo", "global_count": 1}, "workers": workers}


@pytest.fixture(scope="module")
def unbroken(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    folder, known = tmp_path_factory.mktemp("unbroken"), dict[str, Run]()

    def run(name: str) -> Run:
        if name not in known:
            known[name] = gemel.pretrain(images, out=folder / name, **options(name, 0))
        return known[name]

    return run


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("after", [1, 3, 5, 6], ids=["first step", "epoch's border", "within", "second border"])
@pytest.mark.parametrize("name", NAMES)
def test_broken_off_and_resumed(
    name: str, after: int, workers: int, images: Path, unbroken: Callable[[str], Run], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    whole, steps, follow = unbroken(name), count(1), Pretraining.after_step

    def interrupted(self: Pretraining, progress: float) -> None:
        follow(self, progress)
        # the estimate's steps have no checkpoint to write: only the run's count
        if type(self) is Pretraining and next(steps) == after:
            os.kill(os.getpid(), 15)

    with monkeypatch.context() as patch:
        patch.setattr(Pretraining, "after_step", interrupted)
        with pytest.raises(Interrupted, match=f"after step {after} of 9;"):
            gemel.pretrain(images, out=tmp_path / "run", **options(name, workers))
    resumed = gemel.resume(tmp_path / "run", quiet=True)
    one, two = tensors(whole), tensors(resumed)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    kept = [run.metrics().drop_columns("images_per_second") for run in (whole, resumed)]
    assert kept[0].equals(kept[1])


def test_what_the_small_methods_did(unbroken: Callable[[str], Run]) -> None:
    memory = tensors(unbroken("memory"))["memory"]
    assert memory.shape == (IMAGES, 4)
    assert bool((memory.abs().sum(1) > 0).all())
    assert tensors(unbroken("clusters"))["labels"].unique().numel() > 1
    neighbours = tensors(unbroken("neighbours"))
    assert int(neighbours["steps"]) == 9
    partners = neighbours["partners"]
    assert partners.shape == (IMAGES, 3)
    assert not bool((partners == torch.arange(IMAGES)[:, None]).any())


def task_of(name: str, folder: Path) -> Pretraining:
    """The first steps of a small method, in float64 and without a run's folder."""
    method = methods.find(str(FOLDER / f"{name}.py"))
    recipe = method.recipes["mine"]
    torch.manual_seed(0)
    made = method(convnet(widths=(8, 16), strides=(2, 2), pool=1))
    made.attach(IMAGES)
    here = launched()
    plan = Plan(open_source(str(folder)), recipe.views, 16, 0, BATCH, rank=here.rank, processes=here.processes)
    return Pretraining(made.double(), Stage(0, "pretrain", recipe.views, recipe.optimizer, EPOCHS, 0), plan)


def facts(name: str, folder: Path) -> dict[str, Tensor]:
    """Terms, first gradient, and everything after all the steps."""
    task = task_of(name, folder)
    task.normalise = task.normalise.double()
    found: dict[str, Tensor] = {}
    adjust = task.adjust

    def watched(progress: float) -> None:
        gradients = [p.grad for p in task.method.parameters() if p.grad is not None]
        found.setdefault("gradient", torch.cat([one.flatten() for one in gradients]).clone())
        adjust(progress)

    task.adjust = watched
    task.begin()
    terms: list[Tensor] = []
    loop = Loop(
        task, Devices("64"), save=lambda state: None, seconds=1e9,
        observers=[lambda named: bool(terms.append(torch.stack(list(named.values()))))],
    )  # fmt: skip
    loop.run()
    found["terms"] = torch.stack(terms)
    return found | {f"state {key}": value.double() for key, value in task.method.state_dict().items()}


def work(rank: int, processes: int, meeting: str, folder: Path) -> None:
    torch.set_num_threads(1)
    sys.path.insert(0, str(FOLDER))
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(processes), "LOCAL_RANK": str(rank)}
    os.environ["LOCAL_WORLD_SIZE"] = str(processes)
    dist.init_process_group("gloo", init_method=f"file://{meeting}/meet", rank=rank, world_size=processes)
    torch.save({name: facts(name, folder) for name in NAMES}, f"{meeting}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_equal_one(processes: int, images: Path, tmp_path: Path) -> None:
    alone = {name: facts(name, images) for name in NAMES}
    mp.spawn(work, (processes, str(tmp_path), images), nprocs=processes)  # pyright: ignore[reportPrivateImportUsage]
    for rank in range(processes):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name in NAMES:
            for key, value in alone[name].items():
                torch.testing.assert_close(found[name][key], value, rtol=1e-10, atol=1e-10, msg=lambda m, k=(name, key): f"{k}: {m}")
