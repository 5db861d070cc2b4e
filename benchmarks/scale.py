"""What many processes exchange and hold, by the papers' recipes: the tables of docs/scale.md.

    python benchmarks/scale.py [--processes 1 8 64 512] [--methods barlow_twins ...] [--only steps|order|...]

steps: each method by its first recipe, the batch divided among the processes. A step runs on tensors without values
(FakeTensorMode), so that nothing is computed and no process is started: collectives are counted where gemel calls them,
activations where autograd keeps them. Bytes are those that one process receives in a step: of a sum over W processes
2 (W - 1) / W of its size by a ring, of a gathering W - 1 parts. gradients: DDP's sum of all gradients; norms: torch's
SyncBatchNorm, mean, variance and count of each layer's channels forward and two sums backward; loss: all the rest.
held: weights, gradients, the optimiser's state and the method's memories; activations: what backward passes need.
order: the order of an epoch of many images, drawn as every process draws it. checkpoint: one of a gigabyte, written
and read back as gemel does. epoch: arithmetic, what one of ImageNet takes on 8 GPUs: operations of an image in a step,
counted without values, at the rate that NVIDIA publishes for a supervised ResNet-50, and the cores that views keep busy
then, at the milliseconds of docs/views.md; of methods whose first recipe is a ResNet-50.
Listing: benchmarks/listing.py (a folder), benchmarks/sources.py (shards).
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from gemel import backbones, methods
from gemel.data.plan import Batch
from gemel.data.views import order
from gemel.distributed import gather
from gemel.engine import checkpoints
from gemel.errors import UserError
from gemel.methods.base import Embed, Embedded, Method
from gemel.runs.run import Run
from gemel.settings.recipes import Recipe

IMAGES = 1_281_167
"""of ImageNet"""

SMALL = 16384
"""images for which a method is set up, before its memories are counted for ImageNet's"""

ELSEWHERE = ("noise_as_targets",)
"""whose network, AlexNet as released, comes from elsewhere"""

SUPERVISED = {"1": 2470, "8": 16_621}
"""images a second of a supervised ResNet-50 on A100s in mixed precision: NVIDIA's DeepLearningExamples, README"""

DECODE, LARGE, LITTLE = 0.68, 0.46, 0.17
"""milliseconds of a core for an image, for each of its views of 224 pixels, and of 96 (docs/views.md)"""

STATES = {"lars": 1, "sgd": 1, "adamw": 2, "adam": 2}
"""numbers an optimiser keeps for each weight"""


class Counted:
    """Stands for torch.distributed with so many processes that do nothing; counts what one of them receives."""

    def __init__(self, processes: int) -> None:
        self.processes, self.calls, self.bytes = processes, 0, 0.0

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def get_world_size(self) -> int:
        return self.processes

    def get_rank(self) -> int:
        return 0

    def all_reduce(self, value: Tensor) -> None:
        self.calls += 1
        self.bytes += ring(value.numel() * value.element_size(), self.processes)

    def all_gather(self, parts: list[Tensor], rows: Tensor) -> None:
        self.calls += 1
        self.bytes += (len(parts) - 1) * rows.numel() * rows.element_size()

    def broadcast(self, value: Tensor, _: int) -> None:
        self.calls += 1
        self.bytes += value.numel() * value.element_size()


def ring(size: float, processes: int) -> float:
    return 2 * (processes - 1) / processes * size


@contextmanager
def processes(count: int) -> Generator[Counted]:
    """Let gemel believe in `count` processes, and count what it asks of them."""
    counted = Counted(count)
    with ExitStack() as stack:
        stack.enter_context(patch("gemel.distributed.dist", counted))
        for name, module in list(sys.modules.items()):  # all have equally many rows: nothing is asked before
            if name.startswith("gemel.methods") and hasattr(module, "joined_rows"):
                stack.enter_context(patch.object(module, "joined_rows", lambda rows: gather(rows.detach())))
        yield counted


def recipe_of(name: str) -> tuple[str, Recipe]:
    return next(iter(methods.find(name).recipes.items()))


def method_of(name: str, recipe: Recipe, images: int) -> Method:
    """Build a method by a recipe, on a network without values."""
    options = {key: value for key, value in recipe.backbone.items() if key != "name"}
    backbone = backbones.find(recipe.backbone["name"], recipe.image_size)(**options)
    made = methods.find(name)(backbone, **recipe.method)
    made.attach(images)
    embed = embedding(made, images, recipe.views.global_count)
    made.before_stage(made.stage, embed)
    for progress in (0.0, 0.5):  # Noise as Targets assigns in every third epoch, on the CPU
        made.before_epoch(embed, progress)
        made.before_step(embed, progress)
    return made


def embedding(method: Method, images: int, count: int) -> Embed:
    """Return what hooks are given: random features of all images, or what a head makes of them."""

    def embed(head: nn.Module | None = None, *, views: bool = False, **_: Any) -> Embedded:
        with torch.no_grad():
            rows = torch.randn(images, method.backbone.width)
            rows = rows if head is None else head(rows)
        return Embedded(torch.stack([rows] * count, 1) if views else rows, torch.ones(images, dtype=torch.bool))

    return embed


def without_values(module: nn.Module) -> None:
    """Put tensors without values in the place of a network's own."""
    for inner in module.modules():
        for name, one in list(inner.named_parameters(recurse=False)):
            setattr(inner, name, nn.Parameter(torch.empty(one.shape), one.requires_grad))
        for name, one in list(inner.named_buffers(recurse=False)):
            setattr(inner, name, torch.empty(one.shape, dtype=one.dtype))


def batch_of(recipe: Recipe, rows: int) -> Batch:
    sides = recipe.views.sizes(recipe.image_size)
    drawn, partners = ([torch.empty(rows, 3, side, side) for side in sides] for _ in range(2))
    return Batch(drawn, torch.zeros(rows, dtype=torch.int64), torch.full((rows,), -1), partners)


def step(name: str, count: int, operations: Any = None) -> dict[str, Any]:
    """Count a step of one of `count` processes, its operations by a counter."""
    recipe_name, recipe = recipe_of(name)
    rows = max(1, recipe.batch_size // count)
    method = method_of(name, recipe, SMALL)
    trained = sum(one.numel() for one in method.parameters() if one.requires_grad)
    others = sum(one.numel() for one in method.parameters() if not one.requires_grad)
    buffers = sum(one.numel() * one.element_size() for one in method.buffers() if len(one.shape) and len(one) != SMALL)
    memories = sum(one.numel() * one.element_size() for one in method.buffers() if len(one.shape) and len(one) == SMALL)
    saved: dict[int, int] = {}
    norms: list[tuple[int, bool]] = []

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        saved[storage._cdata] = storage.nbytes()
        return value

    def see(module: nn.Module, _: Any, __: Any) -> None:
        if module.training:
            norms.append((module.num_features, torch.is_grad_enabled()))  # pyright: ignore

    with FakeTensorMode(allow_non_fake_inputs=True), processes(count) as counted:
        without_values(method)
        own = {one.untyped_storage()._cdata for one in method.parameters()}
        for module in method.modules():
            if isinstance(module, _BatchNorm):
                module.register_forward_hook(see)
        data = batch_of(recipe, rows)
        with operations or nullcontext():
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
                loss = method(data, 0.5)["loss"]
            loss.backward()
        method.after_step(0.5)
    kept = 4 * trained * (2 + STATES[recipe.optimizer.name]) + 4 * others + buffers + memories * IMAGES / SMALL
    return {
        "method": f"{name}/{recipe_name}",
        "batch": recipe.batch_size,
        "processes": count,
        "rows": rows,
        "gradients_mb": ring(4 * trained, count) / 1e6,
        "norms_mb": sum((count - 1) * 4 * (2 * c + 1) + back * ring(4 * 2 * c, count) for c, back in norms) / 1e6,
        "norm_calls": sum(1 + back for _, back in norms),
        "loss_mb": counted.bytes / 1e6,
        "loss_calls": counted.calls,
        "held_gb": kept / 1e9,
        "sharded_gb": (kept - 4 * trained * (2 + STATES[recipe.optimizer.name]) * (count - 1) / count) / 1e9,
        "activations_gb": sum(size for key, size in saved.items() if key not in own) / 1e9,
        "checkpoint_gb": (kept - 4 * trained) / 1e9,
    }


def drawn_order(images: int) -> dict[str, Any]:
    """Draw the order of an epoch."""
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    size = order(0, 0, images).nbytes
    seconds = time.perf_counter() - begun
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6
    return {"images": images, "seconds": seconds, "order_gb": size / 1e9, "peak_grew_gb": grown}


def checkpoint(gigabytes: float = 1.0) -> dict[str, Any]:
    """Write and read a checkpoint of ten tensors."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "run.yaml").touch()
        run = Run(Path(folder))
        state = {"tensors": {str(one): torch.randn(int(gigabytes * 2.5e7)) for one in range(10)}}
        begun = time.perf_counter()
        checkpoints.save(run, state)
        written, size = time.perf_counter(), sum(one.stat().st_size for one in Path(folder).rglob("*") if one.is_file())
        assert len(checkpoints.read_tensors(run.checkpoint_path)["tensors"]) == 10
        return {"gb": size / 1e9, "written_s": written - begun, "read_s": time.perf_counter() - written}


def supervised() -> float:
    """Count the operations of an image in a step of a supervised ResNet-50."""
    with FakeTensorMode():
        network = nn.Sequential(backbones.find("resnet50", 224)(), nn.Linear(2048, 1000))
    with FakeTensorMode(), FlopCounterMode(display=False) as operations:
        without_values(network)
        network(torch.empty(8, 3, 224, 224)).sum().backward()
    return operations.get_total_flops() / 8


def epoch(name: str, base: float) -> dict[str, Any]:
    """What an epoch of ImageNet takes on one GPU and on eight, if a step's operations take as long as `base` do."""
    operations = FlopCounterMode(display=False)
    found = step(name, 8, operations)
    each = operations.get_total_flops() / found["rows"]
    rates = {gpus: rate * base / each for gpus, rate in SUPERVISED.items()}
    sides = recipe_of(name)[1].views.sizes(224)
    views = DECODE + sum(LARGE if side > 100 else LITTLE for side in sides)
    return {
        "method": found["method"],
        "views": len(sides),
        "gflop_an_image": each / 1e9,
        **{f"images_s_{gpus}": rate for gpus, rate in rates.items()},
        **{f"minutes_{gpus}": IMAGES / rate / 60 for gpus, rate in rates.items()},
        "views_ms": views,
        **{f"cores_{gpus}": rate * views / 1000 for gpus, rate in rates.items()},
    }


def show(found: dict[str, Any]) -> None:
    print(json.dumps({key: round(one, 4) if isinstance(one, float) else one for key, one in found.items()}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 8, 64, 512])
    parser.add_argument("--methods", nargs="*", default=[one for one in methods.available() if one not in ELSEWHERE])
    parser.add_argument("--only", choices=["steps", "order", "checkpoint", "epoch"])
    asked = parser.parse_args()
    if asked.only in (None, "steps"):
        for name in asked.methods:
            for count in asked.processes:
                if count <= recipe_of(name)[1].batch_size // 2:  # norms need two images somewhere
                    try:
                        show(step(name, count))
                    except UserError as error:
                        show({"method": name, "processes": count, "refused": str(error)})
    if asked.only in (None, "order"):
        for images in (1_000_000, 10_000_000, 100_000_000):
            show(drawn_order(images))
    if asked.only in (None, "checkpoint"):
        show(checkpoint())
    if asked.only in (None, "epoch"):
        base = supervised()
        for name in asked.methods:
            if recipe_of(name)[0] == "resnet50" and name != "cmc":  # whose network sees half of the channels
                show(epoch(name, base))


if __name__ == "__main__":
    main()
