"""What a method may ask of the engine, shown by small methods: broken off, resumed, and over several processes."""

import os
import signal
import sys
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gemel
from conftest import TINY, write_photos
from forked import together
from gemel import methods
from gemel.backbones.convnet import convnet
from gemel.data.plan import Plan
from gemel.data.sources import open_source
from gemel.engine import checkpoints
from gemel.engine.devices import Devices
from gemel.engine.loop import Loop
from gemel.errors import Interrupted
from gemel.launcher import launched
from gemel.training import embed
from gemel.training.stages import Stage
from gemel.training.task import Pretraining
from hooks import views_of

FOLDER = Path(__file__).parent.parent / "small_methods"
IMAGES, BATCH, EPOCHS = 36, 12, 3

SHOWN = ["memory", "clusters", "neighbours"]
"""small methods of `small_methods/`"""

NAMES = [*SHOWN, *methods.available()]

sys.path.insert(0, str(FOLDER))  # their files share a recipe, and ours takes the same here

from shared_recipe import recipe  # noqa: E402  it lies there


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_photos(folder, IMAGES)
    return folder


def task_of(name: str, folder: Path, workers: int = 0) -> Pretraining:
    """A small method's task, without a run's folder."""
    method = methods.find(str(FOLDER / f"{name}.py"), named=True) if name in SHOWN else methods.find(name)
    torch.manual_seed(0)
    made = method(convnet(widths=(8, 16), strides=(2, 2), pool=1), **method.small)
    made.attach(IMAGES)
    shared = recipe({"global_count": views_of(made)})
    here = launched()
    plan = Plan(open_source(str(folder)), shared.views, 16, 0, BATCH, rank=here.rank, processes=here.processes)
    stage = Stage(0, method.stages[0], shared.views, shared.optimizer, EPOCHS, 0)
    return Pretraining(made, stage, plan, workers=workers)


def trained(name: str, folder: Path, file: Path, *, workers: int = 0, stop: int = 0) -> tuple[Pretraining, list[float]]:
    """A task taken from its checkpoint, if there is one, to its end, or to the step at which a signal comes."""
    task, losses = task_of(name, folder, workers), list[float]()
    if file.is_file():
        state = checkpoints.read_tensors(file)
        task.done = state["step"]
        task.load(state)
    else:
        task.begin()

    def observed(terms: Mapping[str, Tensor]) -> bool:
        losses.append(float(terms["loss"]))
        if task.done == stop:
            os.kill(os.getpid(), signal.SIGTERM)
        return False

    Loop(task, Devices(), save=lambda state: torch.save(state, file), seconds=1e9, observers=[observed]).run()
    return task, losses


@pytest.fixture(scope="module")
def unbroken(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Pretraining, list[float]]]:
    folder = tmp_path_factory.mktemp("unbroken")
    return {name: trained(name, images, folder / name) for name in NAMES}


BREAKS = [(name, after, workers) for name in SHOWN for after in (1, 3, 5, 6) for workers in (0, 2)]
BREAKS += [(name, *one) for name in methods.available() for one in ((3, 0), (5, 2))]
"""(method, step, workers): steps 3 and 6 are borders of epochs"""


@pytest.mark.parametrize(("name", "after", "workers"), BREAKS)
def test_broken_off_and_resumed(
    name: str, after: int, workers: int, images: Path, unbroken: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(Interrupted, match=f"after step {after} of 9;"):
        trained(name, images, tmp_path / "state", workers=workers, stop=after)
    resumed, losses = trained(name, images, tmp_path / "state", workers=workers)
    whole, expected = unbroken[name]
    one, two = whole.method.state_dict(), resumed.method.state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert losses == expected[after:]


@pytest.mark.parametrize("name", SHOWN)
def test_as_runs(name: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole command: the estimate's hooks see stand-ins, a resumed run loads what `attach` made."""
    out, steps, follow = tmp_path / "run", count(1), Pretraining.after_step
    options = {**TINY, "method": str(FOLDER / f"{name}.py"), "epochs": EPOCHS, "batch_size": BATCH, "image_size": 16}
    options["views"] = {"name": "photo", "global_count": 1}

    def interrupted(self: Pretraining, progress: float) -> None:
        follow(self, progress)
        if type(self) is Pretraining and next(steps) == 4:  # the estimate steps on a task of its own kind
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Pretraining, "after_step", interrupted)
        with pytest.raises(Interrupted, match="after step 4 of 9; gemel resume"):
            gemel.pretrain(images, out=out, **options)
    state = checkpoints.load(gemel.resume(out, quiet=True))
    assert state is not None
    assert state["step"] == 9


def test_what_the_small_methods_did(unbroken: dict[str, tuple[Pretraining, list[float]]]) -> None:
    found = {name: task.method.state_dict() for name, (task, _) in unbroken.items()}
    memory = found["memory"]["memory"]
    assert memory.shape == (IMAGES, 4)
    assert bool((memory.abs().sum(1) > 0).all())
    assert found["clusters"]["labels"].unique().numel() > 1
    assert int(found["neighbours"]["steps"]) == 9
    partners = found["neighbours"]["partners"]
    assert partners.shape == (IMAGES, 3)
    assert not bool((partners == torch.arange(IMAGES)[:, None]).any())


@pytest.mark.parametrize("views", [False, True])
def test_hooks_see_images_by_onnxruntime(views: bool, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In evaluation mode, where that is faster; the encoder learns on, and its graph is kept nowhere."""
    task, asked = task_of("neighbours", images), list[dict[str, Any]]()
    by_torch = task.embedded(views=views)

    def choose(network: nn.Module, size: int, **options: Any) -> str:
        asked.append(options)
        return "onnxruntime"

    monkeypatch.setattr(embed, "engine_for", choose)
    cached = set(Path(os.environ["XDG_CACHE_HOME"]).rglob("*.graph"))
    seen: list[int] = []
    task.method.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    found = task.embedded(views=views)
    count = IMAGES * (task.plan.views.global_count if views else 1)
    assert asked == [{"images": count, "keep": False}]
    assert seen == [2, 3], "the trace's, and the proof's"
    largest = float(by_torch.features.abs().max())
    torch.testing.assert_close(found.features, by_torch.features, rtol=0, atol=1e-5 * largest)
    assert task.method.backbone.training
    task.embedded(views=views, training=True)
    assert (len(asked), sum(seen[2:])) == (1, count), "batch norms in training mode are the network's own"
    assert set(Path(os.environ["XDG_CACHE_HOME"]).rglob("*.graph")) == cached


def test_groups_have_their_own_rate_and_start(images: Path) -> None:
    task = task_of("neighbours", images)
    backbone, late, steady = (group["params"][0].detach().clone() for group in task.optimizer.param_groups)
    rates: list[list[float]] = []

    def observed(terms: Mapping[str, Tensor]) -> bool:
        rates.append([group["lr"] for group in task.optimizer.param_groups])
        moved = not torch.equal(late, task.optimizer.param_groups[1]["params"][0])
        assert moved == (task.done / 9 > 0.5 + 1 / 18), "the first step whose progress is 0.5 or more is the sixth"
        return False

    task.begin()
    Loop(task, Devices(), save=lambda state: None, seconds=1e9, observers=[observed]).run()
    assert not torch.equal(backbone, task.optimizer.param_groups[0]["params"][0])
    assert not torch.equal(steady, task.optimizer.param_groups[2]["params"][0])
    assert len({row[2] for row in rates}) == 1, "constant"
    assert [row[0] for row in rates] == pytest.approx([0.5 * row[1] for row in rates])
    assert len({row[1] for row in rates}) > 5, "the recipe's schedule"


def is_of_all(term: str) -> bool:
    """Whether a term is of the global batch; TWIST logs deviations and sizes of gradients of a process's own rows."""
    return not term.startswith(("std_", "gradient_"))


def facts(name: str, folder: Path) -> dict[str, Tensor]:
    """Terms, first gradient, and everything after all the steps."""
    task = task_of(name, folder)
    task.method.double()
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
        observers=[lambda named: bool(terms.append(torch.stack([named[key] for key in named if is_of_all(key)])))],
    )  # fmt: skip
    loop.run()
    found["terms"] = torch.stack(terms)
    return found | {f"state {key}": value.double() for key, value in task.method.state_dict().items()}


def all_facts(folder: Path) -> dict[str, dict[str, Tensor]]:
    return {name: facts(name, folder) for name in SHOWN}


@pytest.fixture(scope="module")
def alone(images: Path) -> dict[str, dict[str, Tensor]]:
    return all_facts(images)


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_equal_one(processes: int, images: Path, alone: dict[str, dict[str, Tensor]]) -> None:
    """The small methods; those of the folder `methods` do in test_processes.py."""
    for found in together(processes, all_facts, images):
        for name in SHOWN:
            for key, value in alone[name].items():
                torch.testing.assert_close(found[name][key], value, rtol=1e-10, atol=1e-10, msg=f"{name} {key}")
