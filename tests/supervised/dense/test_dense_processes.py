"""Two processes learn what one does, with unequal regions and an image without objects; fits go on bit for bit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

import dense_layouts as layouts
from gemel.backbones.parts.stages import Stages
from gemel.data import dense
from gemel.engine.devices import Devices
from gemel.engine.sync_batch_norm import SyncedBatchNorm, synchronise
from gemel.supervised.dense.batches import BoxStream, LabelStream
from gemel.supervised.dense.detector import Detector, PyramidDetector, StageDetector
from gemel.supervised.dense.recipes import RECIPES, SEGMENTING
from gemel.supervised.dense.segmenter import Segmenter
from gemel.supervised.dense.task import DenseTask, DetectionTask, SegmentationTask
from narrow_resnets import narrow_resnet50

MEAN, STD = [0.5] * 3, [0.25] * 3


def detection(root: Path, kind: str) -> DenseTask[Any]:
    """Four images of two sizes, one without objects."""
    objects = dense.open_objects(dense.described("detection", "boxes", root), root).train
    recipe = RECIPES["small"]["coco"].model_copy(update={"sizes": (48, 64), "batch_size": 4, "steps": 3})
    torch.manual_seed(0)
    network = narrow_resnet50()
    options: dict[str, Any] = {"masks": True, "sampled": 12, "anchors": 20, "after": (30, 30)}
    if kind == "c4":
        made: Detector = StageDetector(network, Stages(network, last=3), 3, mask_channels=8, **options)
    else:
        made = PyramidDetector(Stages(network), 3, channels=8, width=16, convs=1, anchor_scale=4, **options)
    stream = BoxStream(objects, recipe, 0)
    stream.indices = np.arange(len(objects))
    return DetectionTask(made, MEAN, STD, stream, Devices("32"))


def segmentation(root: Path) -> DenseTask[Any]:
    maps = dense.open_labels(dense.described("segmentation", "masks", root), root).train
    recipe = SEGMENTING["small"]["voc"].model_copy(update={"crop": 48, "channels": 4, "auxiliary": 4, "steps": 3})
    torch.manual_seed(0)
    network = Segmenter(Stages(narrow_resnet50()), 4, recipe)
    for part in network.modules():
        if isinstance(part, nn.Dropout2d):
            part.p = 0.0  # processes drop channels of their own
    return SegmentationTask(network, MEAN, STD, LabelStream(maps, recipe, 0), Devices("32"))


def step(root: Path, kind: str) -> dict[str, Tensor]:
    """Terms, gradients and statistics of one step in float64."""
    task = segmentation(root) if kind == "fcn" else detection(root, kind)
    task.network.double()
    task.normalise.double()
    terms = task.loss(task.network, next(task.batches()), 0.0)
    terms["loss"].backward()
    found = {f"term.{name}": one.detach() for name, one in terms.items()}
    found |= {f"grad.{name}": one.grad for name, one in task.network.named_parameters() if one.grad is not None}
    found |= {name: one for name, one in task.network.state_dict().items() if "running" in name}
    assert sum("grad." in name for name in found) == sum(1 for _ in task.network.parameters())
    return found


KINDS = ("fpn", "c4", "fcn")


def write(root: Path) -> None:
    layouts.boxes(root, (4, 1), 64)
    tree = json.loads((root / "train.json").read_text())
    tree["annotations"] = [one for one in tree["annotations"] if one["image_id"] != 11]
    (root / "train.json").write_text(json.dumps(tree))
    layouts.masks(root, (4, 1), 48)


def work(number: int, processes: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=number, world_size=processes)
    for kind in KINDS:
        found = step(Path(folder), kind)
        for name, one in found.items():
            if name.startswith("grad."):
                dist.all_reduce(one)
                one /= processes
        torch.save(found, f"{folder}/{kind}-{number}.pt")
    none = nn.Sequential(nn.BatchNorm2d(2)).train()
    synchronise(none)
    assert isinstance(none[0], SyncedBatchNorm)
    none(torch.zeros(0, 2, 3, 3, requires_grad=True)).sum().backward()  # no process has a row
    assert none[0].running_var is not None and none[0].running_var.tolist() == [1, 1]
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    write(tmp_path)
    mp.spawn(work, (2, str(tmp_path)), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]
    for kind in KINDS:
        alone = step(tmp_path, kind)
        for number in range(2):
            found = torch.load(tmp_path / f"{kind}-{number}.pt", weights_only=True)
            assert found.keys() == alone.keys()
            for name, one in found.items():
                torch.testing.assert_close(one, alone[name], rtol=1e-9, atol=1e-12, msg=f"{kind} {name}")


def test_an_unreadable_image_is_replaced(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "train/002.png").write_bytes(b"no image")
    task = detection(tmp_path, "fpn")
    assert len(next(task.batches()).images) == 4
    assert list(task.stream.rejected) == [2]
    for path in (tmp_path / "train").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="none of the 4 images"):
        next(detection(tmp_path, "fpn").batches())


def test_a_step_is_a_function_of_its_number(tmp_path: Path) -> None:
    write(tmp_path)
    for task in (detection(tmp_path, "fpn"), segmentation(tmp_path)):
        first, second = list(task.stream.batches(range(2)))
        (again,) = task.stream.batches(range(1, 2))
        assert all(torch.equal(one, two) for one, two in zip(again.images, second.images, strict=True))
        assert not all(
            one.shape == two.shape and torch.equal(one, two)
            for one, two in zip(first.images, second.images, strict=True)
        )
