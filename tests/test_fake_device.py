"""On a GPU that does not exist: nothing mixes devices, and nothing waits for the device.

Under FakeTensorMode tensors of the device "cuda" have shapes and no values. `.item()`, `int(tensor)`, a boolean index
and anything else that needs a value raise; `Waits` adds copies between devices, for which torch waits too. Backward
passes do not run there: the backward of each Function of ours is called directly.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gemel import methods
from gemel.backbones.convnet import convnet
from gemel.data.normalise import Normalise
from gemel.data.plan import Batch
from gemel.engine import optimizers
from gemel.engine.optimizers import Flavour, Lars
from gemel.engine.sync_batch_norm import SyncedBatchNorm
from gemel.methods.base import Group, Method
from gemel.methods.parts.class_distributions import _Statistics
from gemel.methods.parts.contrast import _LogSumExp, _MeanCosine
from gemel.methods.parts.cross_correlation import _Correlation
from gemel.methods.parts.gram import _Gram
from gemel.methods.parts.sampled import _Sampled
from gemel.methods.parts.swapped import _CrossEntropy
from gemel.methods.parts.teacher import Teacher
from gemel.metrics.neighbours import knn_votes, nearest
from gemel.settings.recipes import OPTIMIZERS, Optimizer
from hooks import begun, views_of


class Waits(TorchDispatchMode):
    """Raises where a tensor is copied from one device to another."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **kwargs or {})
        if function in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            devices = {one.device.type for one in tree_leaves((args, result)) if isinstance(one, Tensor)}
            assert len(devices) == 1, f"{function} between {sorted(devices)} waits for the device"
        return result


@contextmanager
def gpu() -> Generator[None]:
    """New tensors are on a CUDA device without values."""
    with FakeTensorMode(), torch.device("cuda"):
        yield


def moved(network: Any) -> Any:
    """Put fake tensors in the place of a network's own."""
    for module in network.modules():
        for name, one in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(torch.empty(one.shape), one.requires_grad))
        for name, one in list(module.named_buffers(recurse=False)):
            setattr(module, name, torch.empty(one.shape, dtype=one.dtype))
    return network


def assert_there(found: Any) -> None:
    tensors = [one for one in tree_leaves(found) if isinstance(one, Tensor)]
    assert tensors
    assert {one.device.type for one in tensors} == {"cuda"}


@pytest.mark.parametrize(
    "wait",
    [
        lambda rows: rows.sum().item(),
        lambda rows: int(rows.argmax()),
        lambda rows: rows[rows > 0],
        lambda rows: bool(rows.isfinite().all()),
        lambda rows: rows.cpu(),
        lambda rows: rows.new_tensor([1.0, 2.0]),
        lambda rows: rows.copy_(torch.zeros(4, 3, device="cpu")),
        lambda rows: rows + torch.zeros(4, 3, device="cpu"),
    ],
)
def test_what_waits_is_seen(wait: Callable[[Tensor], Any]) -> None:
    seen = (DataDependentOutputException, DynamicOutputShapeException, AssertionError, RuntimeError)
    with gpu(), Waits(), pytest.raises(seen):
        wait(torch.randn(4, 3))


def batch(method: Method, local: int = 0) -> Batch:
    count = views_of(method)
    views, partners = ([torch.randn(8, 3, side, side) for side in [16] * count + [8] * local] for _ in range(2))
    return Batch(views, torch.arange(8), torch.full((8,), -1), partners)


def build(name: str, **options: Any) -> Method:
    """In its second epoch: Noise as Targets waits in the steps of every third one, for an assignment on the CPU."""
    kind = methods.find(name)
    return begun(kind(convnet(widths=(8, 8), strides=(2, 2)), **{**kind.small, **options}), epochs=2)


@pytest.fixture(autouse=True)
def without_backward_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a forward differentiates by the images is taken as zeros."""
    monkeypatch.setattr(torch.autograd, "grad", lambda of, by, **_: [torch.zeros_like(one) for one in by])


CASES: list[tuple[str, dict[str, Any], int]] = [
    *((name, {}, 0) for name in methods.available()),
    ("twist", {"heads": 3, "bunch": 4}, 2),
    ("twist", {"temperature": 0.5, "epsilon": 0.0, "norm": False}, 0),
    ("twist", {"teacher": True, "heads": 2}, 2),
    ("barlow_twins", {"predictor": 4, "stop_gradient": True, "projector_norm": "group"}, 0),
    *(("barlow_twins", {"normalisation": one}, 0) for one in ("features", "centre")),
    ("barlow_twins", {"temperature": 0.5}, 0),
    ("barlow_twins", {"redundancy_of": "auto", "match_official_gradient": True}, 0),
    ("barlow_twins", {"projector": (4, 4)}, 0),  # narrower than the batch: by the D x D matrix
    ("moco_v2", {"symmetric": True, "groups": 2}, 0),
    ("moco_v3", {"form": "transformer"}, 0),
    ("w_mse", {"measure": "squares", "shrinkage": 0.1, "iterations": 2}, 0),
    ("swav", {}, 2),
    ("swav", {"queue": 0}, 0),
    ("dino", {"norm": True, "scaled": True}, 2),
    ("cmc", {"form": "softmax"}, 0),
    ("densecl", {"groups": 2}, 0),
]


@pytest.mark.parametrize(("name", "options", "local"), CASES)
def test_a_step_of_a_method(name: str, options: dict[str, Any], local: int) -> None:
    method = build(name, **options)
    with gpu():
        method = moved(method)
        for stage in method.stages[: 1 if options.get("teacher") else None]:
            method.stage = stage
            data = batch(method, local)
            with Waits():
                terms = method(data, 0.5)
                method.after_step(0.5)
            assert_there(terms)
            assert terms["loss"].requires_grad


class Context:
    """What autograd hands a Function."""

    def __init__(self, *needs_input_grad: bool) -> None:
        self.needs_input_grad = needs_input_grad

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        self.saved_tensors = tensors


FUNCTIONS: Mapping[str, tuple[Any, Callable[[], Sequence[Any]]]] = {
    **{
        f"statistics, temperature {temperature}": (
            _Statistics,
            partial(lambda temperature: (None, temperature, 1e-5, True, *torch.randn(4, 8, 5)), temperature),
        )
        for temperature in (1.0, 0.5)
    },
    "statistics with a teacher": (_Statistics, lambda: (torch.randn(2, 8, 5), 1.0, 0.0, True, *torch.randn(4, 8, 5))),
    "correlation": (_Correlation, lambda: (*torch.randn(2, 8, 5), True)),
    "correlation as given": (_Correlation, lambda: (*torch.randn(2, 8, 5), False)),
    "gram": (_Gram, lambda: (*torch.randn(2, 8, 5), True)),
    "gram as given": (_Gram, lambda: (*torch.randn(2, 8, 5), False)),
    "log of a sum": (_LogSumExp, lambda: (torch.randn(8, 5), torch.randn(12, 5), 0.1, 2)),
    "mean cosine": (_MeanCosine, lambda: (*torch.randn(2, 8, 5), 1e-6)),
    "swapped cross-entropy": (_CrossEntropy, lambda: (*torch.randn(2, 8, 5), 2, 0.1)),
    "drawn products": (_Sampled, lambda: (torch.randn(8, 5), torch.randn(12, 5), torch.zeros(8, 3, dtype=torch.int64))),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_backward_of_a_function(name: str) -> None:
    function, inputs = FUNCTIONS[name]
    with gpu(), torch.no_grad():
        given, context = inputs(), Context(True, True)
        with Waits():
            found = function.forward(context, *given)
            found = (found,) if isinstance(found, Tensor) else found
            gradients = function.backward(context, *map(torch.ones_like, found))
    assert_there(gradients)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("flavour", ["L1", "L2", "L3", "L4", "L5"])
def test_a_step_of_lars(flavour: Flavour, decay: float) -> None:
    with gpu():
        parameters = [nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(4))]
        groups = [{"params": parameters[:1]}, {"params": parameters[1:], "adapt": False}]
        lars = Lars(groups, 0.1, weight_decay=decay, flavour=flavour)
        for one in parameters:
            one.grad = torch.ones_like(one)
        with Waits():
            lars.step()
        assert_there([lars.state[one]["momentum"] for one in parameters])


@pytest.mark.parametrize("kind", OPTIMIZERS.values())
def test_what_a_step_does_around_an_optimizer(kind: type[Optimizer]) -> None:
    with gpu():
        early, late = (Group([nn.Parameter(torch.randn(4, 3))], True, starts=starts) for starts in (0.0, 0.5))
        description = kind(clip=1.0, clip_each=2.0, final_decay=0.1)
        optimizer = optimizers.build(description, [early, late])
        for group in (early, late):
            group.parameters[0].grad = torch.ones(4, 3)
        with Waits():
            optimizers.drop_gradients_before_start(optimizer, 0.1)
            optimizers.clip_gradients(optimizer, description)
            optimizers.set_rates(optimizer, description, 0.1, batch_size=64, steps=10, epochs=5)
            optimizers.forget(optimizer, late.parameters)
        assert late.parameters[0].grad is None


def test_teacher() -> None:
    student = nn.Linear(3, 4)
    teacher = Teacher(student)
    with gpu():
        student, teacher = moved(student), moved(teacher)
        with Waits():
            teacher.follow(student, momentum=0.9)
            teacher.copy(student)
        assert_there(list(teacher.parameters()))


@pytest.mark.parametrize("training", [False, True])
def test_synchronised_batch_norm(training: bool) -> None:
    norm = SyncedBatchNorm(nn.BatchNorm2d(3)).train(training)
    with gpu():
        norm, rows = moved(norm), torch.randn(4, 3, 2, 2)
        with Waits():
            assert_there(norm(rows))


def test_normalisation() -> None:
    normalise = Normalise((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    with gpu():
        normalise, views = moved(normalise), torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
        with Waits():
            found = normalise(views)
    assert_there(found)
    assert found.dtype == torch.float32


@pytest.mark.parametrize("leave_one_out", [False, True])
def test_nearest_neighbours(leave_one_out: bool) -> None:
    with gpu():
        rows, labels = torch.randn(200, 5), torch.zeros(200, dtype=torch.int64)
        with Waits():
            similarity, index = nearest(rows, rows, 3, leave_one_out=leave_one_out, chunk=64)
            votes = knn_votes(similarity, index, labels, k=2)
    assert_there((similarity, index, votes))
