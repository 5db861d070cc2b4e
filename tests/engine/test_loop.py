"""The loop: what is noted and not waited for, a stop where numbers are not finite, and the caller's process."""

import os
import random
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.optim import SGD

import gemel
from conftest import TINY
from gemel.engine.devices import Devices
from gemel.engine.finite import Finite
from gemel.engine.loop import Loop
from gemel.errors import Diverged, Interrupted, UserError


class Line:
    """Fit a weight to 3; at one step the gradient, or the loss, is NaN."""

    def __init__(self, *, bad_gradient: int = -1, bad_loss: int = -1, steps: int = 6) -> None:
        torch.manual_seed(0)
        self.network = nn.Linear(1, 1)
        self.optimizer = SGD(self.network.parameters(), 0.1)
        self.seed, self.steps, self.done = 0, steps, 0
        self.bad_gradient, self.bad_loss = bad_gradient, bad_loss
        self.drawn: list[int] = []

    @property
    def step(self) -> int:
        return self.done

    @property
    def guarded(self) -> nn.Module:
        return self.network

    def batches(self) -> Iterator[Tensor]:
        for number in range(self.done, self.steps):
            self.drawn.append(number)
            yield torch.full((4, 1), 1.0 + number)

    def before_step(self, progress: float) -> None: ...

    def loss(self, network: nn.Module, batch: Any, progress: float) -> dict[str, Tensor]:
        loss = (network(batch) - 3 * batch).square().mean()
        return {"loss": loss * float("nan") if self.done == self.bad_loss else loss, "other": loss.detach()}

    def adjust(self, progress: float) -> None:
        if self.done == self.bad_gradient:
            self.network.weight.grad = torch.full((1, 1), float("nan"))

    def after_step(self, progress: float) -> None: ...

    def describe(self, batch: Any) -> str:
        return f"batch of {int(batch[0])}"

    def state(self) -> dict[str, Any]:
        return {"step": self.done, "network": self.network.state_dict()}


def run(task: Line, **options: Any) -> list[dict[str, Any]]:
    saved: list[dict[str, Any]] = []
    loop = Loop(
        task, Devices(), save=lambda state: saved.append({**state, "weight": task.network.weight.item()}),
        **{"seconds": 0.0, "name": "runs/x", **options},
    )  # fmt: skip
    try:
        loop.run()
    except Exception as error:
        error.saved = saved  # type: ignore[attr-defined]
        raise
    return saved


@pytest.mark.parametrize(("taken", "steps"), [(0.9, [2, 4, 6]), (2.0, [2, 5, 6])])
def test_a_long_checkpoint_is_written_less_often(
    taken: float, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock on which a step takes 15 s: 2 s every half minute would be more than a twentieth of the time."""
    clock, task, saved = [0.0], Line(), list[int]()
    monkeypatch.setattr("gemel.engine.loop.time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(task, "after_step", lambda progress: clock.append(clock.pop() + 15.0))

    def save(state: dict[str, Any]) -> None:
        saved.append(state["step"])
        clock.append(clock.pop() + taken)

    Loop(task, Devices(), save=save, seconds=29.0).run()
    assert saved == steps


def test_a_checkpoint_at_every_due_step_and_at_the_end() -> None:
    assert [one["step"] for one in run(Line())] == [1, 2, 3, 4, 5, 6]
    assert [one["step"] for one in run(Line(), seconds=1e9)] == [6]
    ends = run(Line(), seconds=1e9, observers=[lambda terms: bool(terms["loss"] >= 0)])
    assert [one["step"] for one in ends] == [1, 2, 3, 4, 5, 6], "an observer asks for one"


def test_a_gradient_that_is_not_finite_spoils_no_checkpoint() -> None:
    """The loss of that step is finite: the weights tell."""
    with pytest.raises(Diverged, match=r"the weights became NaN or infinite by step 4 \(weight\)") as caught:
        run(Line(bad_gradient=3))
    saved: Any = caught.value.saved  # type: ignore[attr-defined]
    assert [one["step"] for one in saved] == [1, 2, 3]
    assert all(np.isfinite(one["weight"]) for one in saved)


def test_a_loss_that_is_not_finite_names_the_step() -> None:
    with pytest.raises(Diverged, match=r"^loss became NaN or infinite at step 3 \(batch of 3\)") as caught:
        run(Line(bad_loss=2))
    saved: Any = caught.value.saved  # type: ignore[attr-defined]
    assert [one["step"] for one in saved] == [1, 2]


def test_the_users_files_at_fault_keep_what_was_learned() -> None:
    def refuse(terms: Any) -> bool:
        raise UserError("too many unreadable files")

    with pytest.raises(UserError, match="too many") as caught:
        run(Line(), seconds=1e9, observers=[refuse])
    saved: Any = caught.value.saved  # type: ignore[attr-defined]
    assert [one["step"] for one in saved] == [1]


def test_terms_are_noted_without_waiting_for_the_device() -> None:
    """A fake device has no values: whatever asks for one raises."""
    finite = Finite()
    with FakeTensorMode():
        for step in range(1, 4):
            finite.note({"loss": torch.zeros((), device="cuda"), "kept": torch.zeros((), device="cuda")}, step)
        with pytest.raises(DataDependentOutputException):
            finite.check("runs/x", lambda: "")
    found = Finite()
    for step, loss in enumerate((0.0, float("inf"), float("nan")), 1):
        found.note({"other": torch.tensor(1.0), "loss": torch.tensor(loss)}, step)
    with pytest.raises(Diverged, match="loss became NaN or infinite at step 2"):
        found.check("runs/x", lambda: "")


def test_the_callers_process_stays_as_it_was(tmp_path: Path, photos: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    filters = list(warnings.filters)
    states = [torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1]]
    try:
        method = {"name": "twist", "hidden": 16}
        ran = gemel.pretrain(
            photos, out=tmp_path / "run", epochs=1, image_size=16, batch_size=8, labels="folders", method=method, **TINY
        )
        gemel.evaluate(ran, "knn", k=3)
        gemel.embed(ran, photos)
        assert torch.get_num_threads() == 2
        assert torch.equal(torch.random.get_rng_state(), states[0])
        assert random.getstate() == states[1]
        assert np.array_equal(np.random.get_state()[1], states[2])
        assert list(warnings.filters) == filters
    finally:
        torch.set_num_threads(threads)


def test_a_signal_ends_the_step_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(terms: Any) -> bool:
        if float(terms["loss"]) >= 0 and task.done == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return False

    task = Line()
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="after step 2 of 6; the same command continues it") as caught:
        run(task, seconds=1e9, observers=[stop])
    saved: Any = caught.value.saved  # type: ignore[attr-defined]
    assert [one["step"] for one in saved] == [2]
    assert signal.getsignal(signal.SIGINT) is before
