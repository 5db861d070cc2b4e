"""Several processes train as one: batch norm, loss, gradient, weights, and the command under torchrun."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.distributed as dist
from pyarrow import parquet
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

import gemel
from conftest import made_once
from forked import pair, together
from gemel import methods
from gemel.backbones.convnet import convnet
from gemel.backbones.vectors import fitted, vectors
from gemel.data.neighbour_table import neighbours
from gemel.data.plan import Plan
from gemel.data.sources import VectorSource, open_source
from gemel.engine import checkpoints
from gemel.engine.devices import Devices, Precision
from gemel.engine.loop import Loop
from gemel.engine.sync_batch_norm import synchronise
from gemel.errors import UserError
from gemel.launcher import Launched, launched
from gemel.runs.run import Run
from gemel.settings.recipes import AdamWOptimizer, PhotoViews, VectorViews
from gemel.training.stages import Stage
from gemel.training.task import Pretraining
from hooks import BATCH, task_of, weights_of

STEPS = 5


def norms() -> nn.Module:
    """Every kind of batch norm that backbones and heads bring."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [
        nn.Conv2d(3, 4, 3),
        BatchNormAct2d(4),
        nn.BatchNorm2d(4, momentum=None),
        nn.Flatten(),
        nn.Linear(16, 5),
        nn.BatchNorm1d(5, affine=False, track_running_stats=False),
    ]
    return nn.Sequential(*layers).double()


def norm_facts() -> dict[str, Tensor]:
    network = norms()
    synchronise(network)
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(BATCH, 3, 4, 4, generator=generator, dtype=torch.float64) + 3.0
    target = torch.randn(BATCH, 5, generator=generator, dtype=torch.float64)
    here = launched()
    part = slice(here.rank * BATCH // here.processes, (here.rank + 1) * BATCH // here.processes)
    rows = images[part].requires_grad_()
    out = network(rows)
    (out * target[part]).sum().backward()
    assert rows.grad is not None
    gradient = torch.cat([one.grad.flatten() for one in network.parameters() if one.grad is not None])
    if here.processes > 1:
        dist.all_reduce(gradient)
    buffers = torch.cat([value.double().flatten() for value in network.buffers()])
    return {"out": out.detach(), "inward": rows.grad, "gradient": gradient, "buffers": buffers}


LEAST = {"loss float32": 0.1}
"""nats that float32 can tell apart to 2e-5: random heads of IIC share a hundred-thousandth of a nat"""

ROUNDED = {"iic": 5e-4, "imsat": 2e-4, "sela": 2e-3, "densecl": 2e-3}
"""float32's error in gradients of small differences between entropies; of other methods 2e-5

DenseCL matches each position with the most alike one of the other view: where two are nearly as alike, rounding
decides, and processors round differently. In float64 it is held to the same 1e-10 as all.
"""


def train_facts(name: str, folder: Path) -> dict[str, Tensor]:
    """Loss and gradient of a method at first, and after five steps of its recipe's optimiser.

    The float32 gradient is taken then: at random weights all images look alike to the network, and float32 alone errs
    by more than 1e-5 there, on one process as on several.
    """
    task = task_of(name, folder)
    task.begin()
    batches = task.batches()
    found = [step_facts(task, "64", batches) for _ in range(STEPS)]
    weights = weights_of(task)
    task.method.float()
    task.optimizer.state.clear()  # moments of the other width
    return {
        **{f"{key} float64": value for key, value in found[0].items()},
        "weights float64": weights,
        **{f"{key} float32": value for key, value in step_facts(task, "32", batches).items()},
    }


def next_steps(names: Sequence[str], folder: Path, kept: Path, steps: range) -> dict[str, Tensor]:
    """Take some steps from where another call, of another number of processes maybe, has left each method."""
    found: dict[str, Tensor] = {}
    for name in names:
        task, file = task_of(name, folder, steps.start), kept / f"{name}.pt"
        if steps.start:
            task.load(torch.load(file, weights_only=True))
        else:
            task.begin()
        batches = task.batches()
        for _ in steps:
            step_facts(task, "64", batches)
        if launched().processes > 1:
            dist.barrier()  # all have read what the first one now writes
        if launched().rank == 0:
            torch.save(task.state(), file)
        found[name] = weights_of(task)
    return found


def step_facts(task: Pretraining, precision: Precision, batches: Iterator[Any]) -> dict[str, Tensor]:
    """A step of the loop: its terms, and the gradient that the optimiser is given."""
    found: list[Tensor] = []
    task.normalise.to(torch.float64 if precision == "64" else torch.float32)
    adjust = task.adjust

    def watched(progress: float) -> None:
        learned = [one.grad for one in task.method.parameters() if one.grad is not None]
        found.append(torch.cat([one.flatten() for one in learned]))
        adjust(progress)

    task.adjust = watched
    _, terms = Loop(task, Devices(precision), save=lambda state: None, seconds=1e9).step(batches)
    task.adjust = adjust
    # deviations (std_) and sizes of gradients are of a process's own rows, as the released code logs them
    return {
        "loss": torch.stack([value for key, value in terms.items() if not key.startswith(("std_", "gradient_"))]),
        "gradient": found[0],
    }


def head_facts() -> dict[str, Tensor]:
    """TWIST's heads on vectors, of which some begin from clusters: a few steps, then the classes of the consensus."""
    torch.manual_seed(0)
    here, generator = launched(), torch.Generator().manual_seed(2)
    rows = torch.randn(4, 12, generator=generator).repeat(24, 1) + 0.2 * torch.randn(96, 12, generator=generator)
    source, backbone = VectorSource("vectors", rows.numpy()), vectors(width=12, components=8)
    source.neighbours = neighbours(fitted(backbone, rows), 5)
    options = {"layers": 1, "heads": 4, "epsilon": 0.0, "beta": (1.0, 0.3), "clustered": 0.5, "consensus": True}
    method = methods.find("twist")(backbone, classes=4, hidden=8, **options)
    method.attach(len(rows))
    optimizer = AdamWOptimizer(lr=1e-2, weight_decay=1e-4, warmup_epochs=0, final=0.0)
    plan = Plan(source, VectorViews(), 0, 0, BATCH, rank=here.rank, processes=here.processes)
    task = Pretraining(method.double(), Stage(0, "pretrain", plan.views, optimizer, 30, 0), plan)
    task.begin()
    batches = task.batches()
    found = [step_facts(task, "64", batches) for _ in range(task.steps - 1)]
    weights = torch.cat([one.flatten() for one in method.state_dict().values() if one.is_floating_point()])
    method.float().after_stage(task.embedded)
    with torch.no_grad():
        classes = method.eval().classify(backbone(rows))
    return {"weights": weights, "classes": classes, **found[0]}


def agreed_facts(folder: Path) -> dict[str, Tensor]:
    """TWIST's networks that agree upon labels, and the student that learns them: steps of both stages."""
    torch.manual_seed(0)
    here, source = launched(), open_source(str(folder))
    backbone = convnet(widths=(16, 32), strides=(2, 2), pool=1)
    options = {"layers": 1, "heads": 2, "beta": (1.0, 0.5), "labels": "agreed", "networks": 2}
    method = methods.find("twist")(backbone, classes=4, hidden=8, **options).double()
    method.attach(len(source))
    method.double()
    optimizer = AdamWOptimizer(lr=1e-3, warmup_epochs=0)
    plan = Plan(source, PhotoViews(), 32, 0, BATCH, rank=here.rank, processes=here.processes)
    before: Pretraining | None = None
    for number, name in enumerate(method.stages):
        task = Pretraining(method, Stage(number, name, plan.views, optimizer, 2, 2 * number), plan)
        task.normalise.to(torch.float64)
        if before is not None:
            task.continue_after(before)
        task.begin()
        batches, before = task.batches(), task
        facts = [step_facts(task, "64", batches) for _ in range(task.steps)]
    return {"weights": weights_of(before), **facts[0]}


def everything(folder: Path) -> dict[str, dict[str, Tensor]]:
    found = {"norms": norm_facts(), "heads": head_facts(), "agreed": agreed_facts(folder)}
    return found | {name: train_facts(name, folder) for name in methods.available()}


@pytest.fixture(scope="module")
def alone(more_photos: Path) -> dict[str, dict[str, Tensor]]:
    return everything(more_photos)


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_train_as_one(processes: int, more_photos: Path, alone: dict[str, dict[str, Tensor]]) -> None:
    every = together(processes, everything, more_photos)
    for key in ("out", "inward"):
        joined = torch.cat([found["norms"][key] for found in every])
        torch.testing.assert_close(joined, alone["norms"][key], rtol=1e-10, atol=1e-12)
    for found in every:
        for key in ("gradient", "buffers"):
            torch.testing.assert_close(found["norms"][key], alone["norms"][key], rtol=1e-10, atol=1e-12)
        for key in ("loss", "gradient", "weights"):
            assert apart(found["heads"][key], alone["heads"][key]) < 1e-9, key
            # votes pass through float32: images are seen on the CPU as other hooks see them
            assert apart(found["agreed"][key], alone["agreed"][key]) < 1e-6, key
        for classes in (found["heads"]["classes"], alone["heads"]["classes"]):
            assert classes[:4].argmax(1).unique().numel() == 4
            assert classes.argmax(1).view(-1, 4).eq(classes[:4].argmax(1)).all()
        assert apart(found["heads"]["classes"], alone["heads"]["classes"]) < 1e-3, "heads are chosen in float32"
        wrong = {
            (name, key): difference
            for name in methods.available()
            for key, value in alone[name].items()
            # Whole vectors: a bias before a batch norm has a true gradient of 0, and rounding alone in it.
            # The loss stands with its terms: TWIST's is what is left, 0.04, of some nats.
            # One process's own float32 gradient is 1e-5 from its float64 one here.
            if (difference := apart(found[name][key], value, LEAST.get(key, 0.0)))
            > (ROUNDED.get(name, 2e-5) if "float32" in key else 1e-10)
        }
        assert not wrong


def test_another_number_of_processes_goes_on(more_photos: Path, tmp_path: Path) -> None:
    """One, three, two processes take a few steps in turn: the weights are those of one that takes them all."""
    names = ["barlow_twins", "moco_v2", "byol", "swav", "deepcluster_v2", "twist"]
    (tmp_path / "whole").mkdir()
    whole = next_steps(names, more_photos, tmp_path / "whole", range(7))
    next_steps(names, more_photos, tmp_path, range(2))
    together(3, next_steps, names, more_photos, tmp_path, range(2, 5))
    for found in together(2, next_steps, names, more_photos, tmp_path, range(5, 7)):
        assert {name: apart(found[name], whole[name]) for name in names if apart(found[name], whole[name]) > 1e-9} == {}


def apart(one: Tensor, two: Tensor, least: float = 0.0) -> float:
    """Relative to the second one, or to `least` where that is more."""
    return float((one - two).double().norm() / two.double().norm().clamp_min(least))


def test_synced_norm_alone_is_batch_norm() -> None:
    images = torch.randn(6, 3, 4, 4, dtype=torch.float64)
    plain, synced = norms(), norms()
    before = dict(synced.named_parameters())
    synchronise(synced)
    assert all(value is before[name] for name, value in synced.named_parameters()), "optimisers keep their tensors"
    torch.testing.assert_close(synced(images), plain(images))
    torch.testing.assert_close(synced.state_dict(), plain.state_dict())
    torch.testing.assert_close(synced.eval()(images), plain.eval()(images))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Launched(0, 1, 0, 1)),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, Launched(3, 4, 1, 2)),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, Launched(0, 1, 0, 1)),  # a batch script, not a step
        (
            {"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1",
             "SLURM_STEP_TASKS_PER_NODE": "4(x2)"},
            Launched(5, 8, 1, 4),
        ),
    ],
)  # fmt: skip
def test_launchers(environment: dict[str, str], expected: Launched) -> None:
    assert launched(environment) == expected


def test_a_batch_script_that_asked_for_several_tasks_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM's variables are those of the script then, and no other process will come."""
    for name, value in {"NTASKS": "2", "JOB_NAME": "train", "JOB_ID": "1", "PROCID": "0", "LOCALID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    devices = Devices()
    network = devices.wrapped(nn.Linear(2, 1))
    devices.backward(network(torch.ones(1, 2)).sum())
    assert all(one.grad is not None for one in network.parameters())


@pytest.mark.parametrize(
    "environment",
    [{"WORLD_SIZE": "two"}, {"WORLD_SIZE": "2", "RANK": "2"}, {"WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "2"}],
)
def test_a_launchers_mistakes(environment: dict[str, str]) -> None:
    with pytest.raises(UserError, match="launcher's variable"):
        launched(environment)


WORDS = ["--image-size", "16", "--backbone", "convnet", "--backbone.widths", "8", "--backbone.strides", "2",
         "--method.hidden", "16", "--classes", "4", "--workers", "0", "--threads", "1", "--method.heads", "2",
         "--seed", "3"]  # fmt: skip


LONG = 8
"""epochs of a run that is interrupted on its way"""


class Job(NamedTuple):
    """What two processes did with several command lines, in one launch."""

    folder: Path

    def told(self, case: str) -> tuple[int, str, str]:
        """Exit code, output and errors of the first process; the second one is silent and leaves alike."""
        first, second = (json.loads((self.folder / f"{case}.{rank}.json").read_text()) for rank in (0, 1))
        assert (second["out"], second["errors"], second["code"]) == ("", "", first["code"]), (first, second)
        return first["code"], first["out"], first["errors"]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, photos: Path, digits_run: Run) -> Job:
    def launch(folder: Path) -> None:
        run = folder / "digits"
        shutil.copytree(digits_run.path, run, ignore=shutil.ignore_patterns("cache", "evaluations"))
        (folder / "cases.json").write_text(json.dumps(cases_of(folder, photos, run)))
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        job = [str(Path(__file__).with_name("torchrun_job.py")), str(folder)]
        done = subprocess.run([*launcher, *job], capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr

    return Job(made_once(tmp_path_factory.getbasetemp(), "job", launch))


def cases_of(folder: Path, photos: Path, run: Path) -> dict[str, list[str]]:
    """Command lines by name."""

    def pretrain(name: str, *words: str) -> list[str]:
        rows = [] if "--batch-size" in words else ["--batch-size", "9"]
        return ["pretrain", str(photos), "--out", str(folder / name), *WORDS, *rows, *words]

    stages = ["--epochs", "1", "--then.epochs", "1", "--batch-size", "8", "--views.local_count", "2"]
    stages += ["--views.local_size", "8", "--method.group", "8"]
    teacher = ["--epochs", "1", "--method.teacher", "yes", "--then.epochs", "1"]
    return {
        "two": pretrain("two", "--epochs", str(LONG)),
        "smaller": pretrain("smaller", *stages, "--method.bunch", "2"),
        "larger": pretrain("larger", *stages, "--method.bunch", "8"),
        "mistake": ["pretrain", str(photos), "--epohcs", "3", "--out", str(folder / "mistake")],
        "measuring": pretrain("measuring", *teacher),
        "writing": ["pretrain", str(photos), "--out", "/dev/null/run", "--epochs", "1", "--batch-size", "8", *WORDS],
        "dry": pretrain("dry", "--minutes", "0.01", "--dry-run"),
        "minutes": pretrain("minutes", "--minutes", "0.01"),
        "embed": ["embed", str(run), "digits", "--out", str(folder / "embed.parquet")],
        "classify": ["classify", str(run), "digits", "--out", str(folder / "classify.parquet")],
        "evaluate": ["evaluate", str(run), "knn"],
    }


def test_torchrun_equals_one_process(job: Job, tmp_path: Path) -> None:
    two, one = job.folder / "two", tmp_path / "one"
    code, out, _ = job.told("two")
    assert code == 0
    assert out.count("run: ") == 1
    assert "batch_size: 8 (9 can't be shared evenly by 2 processes)" in out
    assert Run(two).settings["batch_size"] == 8
    assert Run(two).environment["processes"] == 2
    gemel.pretrain(config=two / "run.yaml", out=one, quiet=True)
    found, expected = (Run(path).metrics() for path in (two, one))
    for name in ("loss", "sharpness", "lr", "rankme"):
        torch.testing.assert_close(
            torch.tensor(found[name].drop_null().to_pylist()),
            torch.tensor(expected[name].drop_null().to_pylist()),
            rtol=1e-3,
            atol=1e-4,
        )
    weights = [nn.utils.parameters_to_vector(gemel.backbone(path).parameters()).detach() for path in (two, one)]
    assert apart(*weights) < 1e-2


@pytest.mark.parametrize("bunch", ["smaller", "larger"])
def test_two_stages_of_two_processes(bunch: str, job: Job, tmp_path: Path) -> None:
    """Small views, self-labeling in groups, bunches of a part of a process and of both: as one process, both stages."""
    two, one = job.folder / bunch, tmp_path / "one"
    assert job.told(bunch)[0] == 0
    gemel.pretrain(config=two / "run.yaml", out=one, quiet=True)
    found, expected = (Run(path).metrics().to_pylist() for path in (two, one))
    assert [row["stage"] for row in found] == ["pretrain"] * 5 + ["self_labeling"] * 5
    for name in ("loss", "kept", "threshold", "lr"):
        values = [[row[name] for row in rows if row[name] is not None] for rows in (found, expected)]
        assert values[0] == pytest.approx(values[1], rel=1e-3, abs=1e-4), name


def test_interrupted_and_resumed(job: Job, tmp_path: Path, photos: Path) -> None:
    """The processes hear of a signal at different steps, stop together, and continue to the same end."""
    whole, broken = job.folder / "two", tmp_path / "broken"
    words = ["pretrain", str(photos), "--epochs", str(LONG), "--batch-size", "8", *WORDS, "--out", str(broken)]
    both = pair(*words)
    both[0].wait_until((broken / "metrics.csv").is_file)
    for process in reversed(both):
        process.send(signal.SIGTERM)
    (first, _, errors), (second, _, silent) = (process.end() for process in both)
    assert (first, second, silent) == (130, 130, "")
    assert "continues it" in errors
    state = checkpoints.load(Run(broken))
    assert state is not None
    assert 0 < state["step"] < LONG * 5
    assert [process.end()[0] for process in pair("resume", str(broken))] == [0, 0]
    assert (broken / "backbone.safetensors").read_bytes() == (whole / "backbone.safetensors").read_bytes()
    columns = [Run(path).metrics().drop_columns(["images_per_second", "data_wait"]) for path in (whole, broken)]
    assert columns[0].equals(columns[1])


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("mistake", "--epochs"),
        ("measuring", "self-labeling has no teacher"),
        ("writing", "the run's folder /dev/null/run can't be written"),
    ],
)
def test_torchrun_reports_a_mistake_once(case: str, told: str, job: Job) -> None:
    """A typo, what a method refuses when its steps are measured, and a folder that can't be made."""
    code, _, errors = job.told(case)
    assert code == 2
    assert errors.count(told) == 1, errors
    assert not (job.folder / case).exists()


def test_torchrun_shows_once_what_it_would_do(job: Job) -> None:
    code, out, errors = job.told("dry")
    assert code == 0, errors
    assert all(out.count(line) == 1 for line in ("estimate: ", "run folder: ", "\nseed: 3")), out
    assert not (job.folder / "dry").exists()
    assert job.told("minutes")[0] == 0
    run = Run(job.folder / "minutes")
    assert run.is_trained, "both processes took the same epochs"
    assert run.metrics()["epoch"].to_pylist()[-1] == run.settings["epochs"] - 1


@pytest.mark.parametrize("command", ["embed", "classify", "evaluate"])
def test_under_torchrun_one_process_answers(command: str, job: Job, digits_run: Run) -> None:
    code, out, errors = job.told(command)
    assert code == 0, errors
    if command == "evaluate":
        assert out.count("top1") == 1
        return
    assert out.count("1797 images") == 1
    name = "vector" if command == "embed" else "probability"
    alone = gemel.embed(digits_run) if command == "embed" else gemel.classify(digits_run)
    values = [
        np.array([np.atleast_1d(one) for one in rows.column(name).to_pylist()])
        for rows in (parquet.read_table(job.folder / f"{command}.parquet"), alone)
    ]
    np.testing.assert_allclose(*values, rtol=1e-4, atol=1e-5)
