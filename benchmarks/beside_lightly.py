"""Barlow Twins steps of gemel beside lightly's in Lightning: one side, in a process of its own, as a JSON line.

    python benchmarks/beside_lightly.py gemel --steps 20 [--folder JPEGS]

Both: ResNet-18, a projector of three layers, LARS, float32; gemel's loop, and Lightning's trainer for lightly. Views
are random tensors, of uint8 for gemel, which normalises them in the step, and floats for lightly; or drawn from files
by each library's own loader, BYOL's pair. images_per_second: over the steps after the first few; peak_gb:
resident memory at its highest (Linux). `step.py --only whole|files` runs the sides in turn.
"""

import argparse
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
LAMBDA = 0.0051


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
    from gemel.settings.recipes import LarsOptimizer, PhotoViews
    from gemel.training.stages import Stage
    from gemel.training.task import Pretraining

    method = methods.find("barlow_twins")(
        backbones.find("resnet18")(), projector=tuple(asked.projector), lambda_param=LAMBDA
    )
    optimizer = LarsOptimizer(lr=LR, bias_lr=BIAS_LR, weight_decay=WEIGHT_DECAY)
    plan = Plan(open_source(asked.folder or "digits"), PhotoViews(), asked.size, 0, asked.batch)
    task = Pretraining(method, Stage(0, "pretrain", PhotoViews(), optimizer, 100, 0), plan, workers=asked.workers)
    batches = task.batches()
    if asked.folder is None:
        shape = (asked.batch, 3, asked.size, asked.size)
        views = [torch.randint(0, 256, shape, dtype=torch.uint8) for _ in range(2)]
        batches = repeat(Batch(views, torch.arange(asked.batch), torch.zeros(asked.batch)))
    loop = Loop(task, Devices(), save=lambda state: None, seconds=1e9)
    ends: list[float] = []
    for _ in range(asked.steps):
        loop.step(batches)
        ends.append(time.perf_counter())
    return ends


class Lightly(LightningModule):
    """As lightly's own example and benchmark put it together."""

    def __init__(self, projector: list[int], batch: int) -> None:
        super().__init__()
        from lightly.loss import BarlowTwinsLoss
        from lightly.models.modules import BarlowTwinsProjectionHead
        from torchvision.models import resnet18

        network = resnet18(zero_init_residual=True)
        network.fc = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
        self.backbone = network
        self.head = BarlowTwinsProjectionHead(512, projector[0], projector[-1])
        self.criterion = BarlowTwinsLoss(lambda_param=LAMBDA)
        self.batch = batch

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        one, two = (self.head(self.backbone(view)) for view in batch[0][:2])
        return self.criterion(one, two)

    def configure_optimizers(self) -> Any:
        from lightly.models.utils import get_weight_decay_parameters
        from lightly.utils.lars import LARS

        decayed, plain = get_weight_decay_parameters([self.backbone, self.head])
        scale = self.batch / 256
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
    trainer.fit(Lightly(asked.projector, asked.batch), train_dataloaders=lightly_loader(asked))
    return ends


def lightly_loader(asked: argparse.Namespace) -> Iterable[Any]:
    if asked.folder is None:
        views = [torch.randn(asked.batch, 3, asked.size, asked.size) for _ in range(2)]
        return Repeated((views,), asked.steps)
    from lightly.data import LightlyDataset
    from lightly.transforms.byol_transform import BYOLTransform, BYOLView1Transform, BYOLView2Transform
    from torch.utils.data import DataLoader

    transform = BYOLTransform(
        view_1_transform=BYOLView1Transform(input_size=asked.size),
        view_2_transform=BYOLView2Transform(input_size=asked.size),
    )
    return DataLoader(
        LightlyDataset(asked.folder, transform=transform),
        batch_size=asked.batch,
        shuffle=True,
        drop_last=True,
        num_workers=asked.workers,
        persistent_workers=asked.workers > 0,
    )


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("side", choices=["gemel", "lightly"])
    made.add_argument("--steps", type=int, default=20)
    made.add_argument("--batch", type=int, default=128)
    made.add_argument("--size", type=int, default=64)
    made.add_argument("--projector", type=int, nargs="+", default=[8192, 8192, 8192])
    made.add_argument("--folder")
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
