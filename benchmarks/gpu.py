"""What a GPU does with each method's step: equal to the CPU's, images a second, and how often it is waited for.

    python benchmarks/gpu.py [--steps 20] [--batch 256] [--size 96]

First the finishing of views on the device, beside the loop over pixels on the CPU. Then one JSON line for each method:
`loss_apart` and `weights_apart` after two steps in float32 beside the CPU's (same weights and views); and one for
each precision: images a second of ResNet-50, and synchronisations of a step, by torch.cuda's own warnings: 0 is what
the loop promises where no row is written. Takes some minutes on one GPU; stops where there is none.
"""

import argparse
import copy
import json
import sys
import time
import warnings
from dataclasses import replace
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from gemel import backbones, methods
from gemel.data.batches import Loader
from gemel.data.plan import Batch, Plan, Unfinished
from gemel.data.sources import ArraySource
from gemel.device import device, supports_bf16
from gemel.engine.devices import Devices, moved
from gemel.engine.loop import Loop
from gemel.settings.recipes import PhotoViews, SgdOptimizer
from gemel.training.stages import Stage
from gemel.training.task import Pretraining


def images(count: int, side: int) -> ArraySource:
    """Random pictures in memory."""
    generator = torch.Generator().manual_seed(0)
    return ArraySource(
        "noise", torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=generator).numpy()
    )


def task_of(name: str, network: str, plan: Plan) -> Pretraining:
    torch.manual_seed(0)
    constructor = methods.find(name)
    method = constructor(backbones.find(network)(), **constructor.small)
    method.attach(len(plan.source))
    stage = Stage(0, "pretrain", plan.views, SgdOptimizer(lr=0.03, warmup_epochs=0), 1000, 0)
    return Pretraining(method, stage, plan)


def synchronisations(step: Any) -> int:
    """How often a step waits for the device."""
    with warnings.catch_warnings(record=True) as met:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        step()
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(one.message) for one in met)


def agreement(name: str, source: ArraySource) -> dict[str, float]:
    """Two steps of ResNet-18 at 32 pixels here and by the method's own forward on the CPU."""
    plan = Plan(source, PhotoViews(), 32, 0, 16)
    task = task_of(name, "resnet18", plan)
    method = copy.deepcopy(task.method).cpu()
    optimizer = torch.optim.SGD(method.parameters(), 0.01)
    task.optimizer = torch.optim.SGD(task.method.parameters(), 0.01)
    task.adjust = lambda progress: None
    loop, normalise = Loop(task, Devices(), save=lambda state: None, seconds=1e9), copy.deepcopy(task.normalise).cpu()
    found, expected = [], []
    for batch in list(Loader(plan, range(2))):
        assert isinstance(batch, Batch)
        progress = task.done / task.steps
        found.append(loop.step(iter([batch]))[1]["loss"].cpu())
        terms = method(batch._replace(views=[normalise(view) for view in batch.views]), progress)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        method.after_step(progress)
        expected.append(terms["loss"].detach())
    return {
        "loss_apart": round(apart(torch.stack(found), torch.stack(expected)), 8),
        "weights_apart": round(apart(flat(task.method), flat(method)), 8),
    }


def flat(method: torch.nn.Module) -> Tensor:
    return torch.cat([one.detach().cpu().flatten() for one in method.parameters()])


def apart(one: Tensor, two: Tensor) -> float:
    return float((one - two).norm() / two.norm())


def speed(name: str, source: ArraySource, asked: argparse.Namespace, precision: Any) -> dict[str, float]:
    plan = Plan(source, PhotoViews(), asked.size, 0, asked.batch, on_device=True)
    task = task_of(name, "resnet50", plan)
    loop = Loop(task, Devices(precision), save=lambda state: None, seconds=1e9)
    (batch,) = Loader(plan, range(1), workers=8)
    batches = repeat(batch)
    for _ in range(5):
        loop.step(batches)
    waits = synchronisations(lambda: loop.step(batches))
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(asked.steps):
        loop.step(batches)
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - begin) / asked.steps
    return {"images_per_second": round(asked.batch / seconds, 1), "synchronisations": waits}


def finishing(source: ArraySource, asked: argparse.Namespace) -> dict[str, float]:
    """Views of a batch: resized crops finished on the device, beside whole views made on one core."""
    plan = Plan(source, PhotoViews(), asked.size, 0, asked.batch, on_device=True)
    (batch,) = Loader(plan, range(1), workers=8)
    assert isinstance(batch, Unfinished)
    there: Unfinished = moved(batch)
    there.finished()
    waits = synchronisations(there.finished)
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(asked.steps):
        there.finished()
    torch.cuda.synchronize()
    here = (time.perf_counter() - begin) / asked.steps
    begin = time.perf_counter()
    (whole,) = Loader(replace(plan, on_device=False), range(1))
    core = time.perf_counter() - begin
    assert isinstance(whole, Batch)
    difference = max(
        int((one.cpu().int() - two.int()).abs().max())
        for one, two in zip(there.finished().views, whole.views, strict=True)
    )
    return {"finish_ms": round(1000 * here, 3), "one_core_ms": round(1000 * core, 1), "levels_apart": difference,
            "synchronisations": waits}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--size", type=int, default=96)
    asked = parser.parse_args()
    if device().type != "cuda":
        sys.exit("benchmarks/gpu.py needs a CUDA device; none was found")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    print(json.dumps({"device": torch.cuda.get_device_name(), "torch": torch.__version__, "bf16": supports_bf16()}))
    source = images(2 * asked.batch, 128)
    print(json.dumps({"views": f"2 x {asked.size}, batch {asked.batch}", **finishing(source, asked)}), flush=True)
    for name in methods.available():
        print(json.dumps({"method": name, **agreement(name, source)}), flush=True)
        for precision in ("32", "bf16", "16"):
            print(
                json.dumps({"method": name, "precision": precision, **speed(name, source, asked, precision)}),
                flush=True,
            )


if __name__ == "__main__":
    main()
