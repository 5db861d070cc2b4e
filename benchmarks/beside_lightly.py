"""Steps of a method by gemel beside lightly's in Lightning: one side, in a process of its own, as a JSON line.

    python benchmarks/beside_lightly.py gemel --steps 20 [--method byol] [--folder JPEGS] [--locals 6]

Both: ResNet-18, heads of the method's default widths (gemel's, which are the papers'), float32, Barlow Twins by LARS
and all others by SGD; gemel's loop, and Lightning's trainer for lightly (`lightly_methods.py`). Views are random
tensors, of uint8 for gemel, which normalises them in the step, and floats for lightly; or drawn from files by each
library's own loader: BYOL's pair, or with small crops beside it, 3/7 of the size, those of DINO and SwAV.
images_per_second: over the steps after the first few; peak_gb: resident memory at its highest (Linux). `step.py` runs
the sides in turn.
"""

import argparse
import inspect
import json
import logging
import time
import warnings
from collections.abc import Iterable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

WARM = 3
"""steps before the clock starts"""

LR, BIAS_LR, WEIGHT_DECAY = 0.2, 0.0048, 1e-6
"""of Barlow Twins, by LARS"""
SGD_LR, SGD_DECAY = 0.05, 1e-4
"""of all others"""


def options_of(asked: argparse.Namespace) -> dict[str, Any]:
    """The method's options, the same on both sides: its defaults, and the projector asked for."""
    from gemel import methods

    found = {
        name: one.default
        for name, one in inspect.signature(methods.find(asked.method)).parameters.items()
        if one.kind is inspect.Parameter.KEYWORD_ONLY
    }
    return found | ({"projector": tuple(asked.projector)} if asked.projector else {})


def local_size(asked: argparse.Namespace) -> int:
    """Side of the small crops."""
    return max(8, round(asked.size * 3 / 7 / 4) * 4)


class Repeated:
    """One batch, so many times; a list would be several loaders to Lightning."""

    def __init__(self, batch: Any, steps: int) -> None:
        self.batch, self.steps = batch, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        return repeat(self.batch, self.steps)


def gemel_side(asked: argparse.Namespace) -> list[float]:
    """When each step ended."""
    from gemel import backbones, methods
    from gemel.data.plan import Batch, Plan
    from gemel.data.sources import open_source
    from gemel.engine.devices import Devices
    from gemel.engine.loop import Loop
    from gemel.settings.recipes import LarsOptimizer, PhotoViews, SgdOptimizer
    from gemel.settings.view_presets import VIEW_FAMILIES
    from gemel.training.stages import Stage
    from gemel.training.task import Pretraining

    method = methods.find(asked.method)(backbones.find("resnet18")(), **options_of(asked))
    optimizer = SgdOptimizer(lr=SGD_LR, weight_decay=SGD_DECAY)
    if asked.method == "barlow_twins":
        optimizer = LarsOptimizer(lr=LR, bias_lr=BIAS_LR, weight_decay=WEIGHT_DECAY)
    views = PhotoViews()
    if asked.locals:
        changes = {"local_count": asked.locals, "local_size": local_size(asked)}
        views = PhotoViews.model_validate({**VIEW_FAMILIES[asked.method].model_dump(), **changes})
    plan = Plan(open_source(asked.folder or "digits"), views, asked.size, 0, asked.batch)
    task = Pretraining(method, Stage(0, "pretrain", views, optimizer, 100, 0), plan, workers=asked.workers)
    batches = task.batches()
    if asked.folder is None:
        sides = [asked.size] * 2 + [local_size(asked)] * asked.locals
        shapes = [(asked.batch, 3, side, side) for side in sides]
        pixels = [torch.randint(0, 256, shape, dtype=torch.uint8) for shape in shapes]
        batches = repeat(Batch(pixels, torch.arange(asked.batch), torch.zeros(asked.batch)))
    loop = Loop(task, Devices(), save=lambda state: None, seconds=1e9)
    ends: list[float] = []
    for _ in range(asked.steps):
        loop.step(batches)
        ends.append(time.perf_counter())
    return ends


class ResNet18(nn.Module):
    """torchvision's, with its last map for DenseCL."""

    width = 512

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import resnet18

        self.body = nn.Sequential(*list(resnet18(zero_init_residual=True).children())[:-2])

    def forward(self, images: Tensor) -> Tensor:
        return self.with_maps(images)[0]

    def with_maps(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return features and maps as gemel's backbones do."""
        last = self.body(images)
        return last.mean((2, 3)), [last]

    def map_channels(self) -> list[int]:
        """Return the maps' channels."""
        return [self.width]


class Lightly(LightningModule):
    """As lightly's own examples and benchmarks put it together."""

    def __init__(self, method: Any, options: dict[str, Any], batch: int) -> None:
        super().__init__()
        from lightly_methods import HEADS

        self.backbone = ResNet18()
        self.heads = HEADS[method](self.backbone, **options)
        self.method, self.batch = method, batch

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.heads.loss(self.backbone, batch[0], 0.0)

    def configure_optimizers(self) -> Any:
        from lightly.models.utils import get_weight_decay_parameters
        from lightly.utils.lars import LARS

        scale = self.batch / 256
        if self.method != "barlow_twins":
            learned = [one for one in self.parameters() if one.requires_grad]
            return torch.optim.SGD(learned, SGD_LR * scale, momentum=0.9, weight_decay=SGD_DECAY)
        decayed, plain = get_weight_decay_parameters([self.backbone, self.heads])
        groups = [{"params": decayed}, {"params": plain, "weight_decay": 0.0, "lr": BIAS_LR * scale}]
        return LARS(groups, lr=LR * scale, momentum=0.9, weight_decay=WEIGHT_DECAY)


def lightly_side(asked: argparse.Namespace) -> list[float]:
    """When each step ended."""
    ends: list[float] = []

    class Clock(Callback):
        def on_train_batch_end(self, *given: Any, **options: Any) -> None:
            ends.append(time.perf_counter())

    warnings.filterwarnings("ignore", module="pytorch_lightning")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    trainer = Trainer(
        max_steps=asked.steps,
        max_epochs=-1,
        accelerator="cpu",
        callbacks=[Clock()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    module = Lightly(asked.method, options_of(asked), asked.batch)
    trainer.fit(module, train_dataloaders=lightly_loader(asked))
    return ends


def lightly_loader(asked: argparse.Namespace) -> Iterable[Any]:
    if asked.folder is None:
        views = [torch.randn(asked.batch, 3, asked.size, asked.size) for _ in range(2)]
        return Repeated((views,), asked.steps)
    from lightly.data import LightlyDataset
    from torch.utils.data import DataLoader

    return DataLoader(
        LightlyDataset(asked.folder, transform=lightly_views(asked)),
        batch_size=asked.batch,
        shuffle=True,
        drop_last=True,
        num_workers=asked.workers,
        persistent_workers=asked.workers > 0,
    )


def lightly_views(asked: argparse.Namespace) -> Any:
    from lightly.transforms import DINOTransform, SwaVTransform
    from lightly.transforms.byol_transform import BYOLTransform, BYOLView1Transform, BYOLView2Transform

    if asked.locals and asked.method == "swav":
        return SwaVTransform(crop_sizes=(asked.size, local_size(asked)), crop_counts=(2, asked.locals))
    if asked.locals:
        sizes = {"global_crop_size": asked.size, "local_crop_size": local_size(asked)}
        return DINOTransform(n_local_views=asked.locals, **sizes)
    return BYOLTransform(
        view_1_transform=BYOLView1Transform(input_size=asked.size),
        view_2_transform=BYOLView2Transform(input_size=asked.size),
    )


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("side", choices=["gemel", "lightly"])
    made.add_argument("--steps", type=int, default=20)
    made.add_argument("--batch", type=int, default=128)
    made.add_argument("--size", type=int, default=64)
    made.add_argument("--method", default="barlow_twins")
    made.add_argument("--projector", type=int, nargs="+", help="widths of its layers; left out: the method's")
    made.add_argument("--folder")
    made.add_argument("--locals", type=int, default=0, help="small crops of an image")
    made.add_argument("--workers", type=int, default=1)
    made.add_argument("--threads", type=int, default=2)
    return made


def main() -> None:
    asked = parser().parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    ends = (gemel_side if asked.side == "gemel" else lightly_side)(asked)
    assert len(ends) == asked.steps > WARM
    seconds = (ends[-1] - ends[WARM - 1]) / (asked.steps - WARM)
    # not getrusage, whose highest includes the process that started this one
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    peak = int(line.split()[1]) / 2**20
    print(json.dumps({"side": asked.side, "images_per_second": asked.batch / seconds, "peak_gb": peak}))


if __name__ == "__main__":
    main()
