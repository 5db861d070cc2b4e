"""Detectron2's tensors of the golden file under gemel's names."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from gemel.backbones.parts.stages import Stages
from gemel.supervised.dense.detector import Detector, PyramidDetector, StageDetector
from narrow_resnets import narrow_resnet50

FILE = Path(__file__).parent / "golden" / "dense_golden.safetensors"

CLASSES = 3


def read(kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the file's tensors below `kind`, or below input, and how they were made."""
    with safe_open(FILE, "pt") as file:
        facts = json.loads(file.metadata()["facts"])
    return {name: one for name, one in load_file(FILE).items() if name.split(".")[0] in (kind, "input")}, facts[kind]


def detector(kind: str, **options: Any) -> Detector:
    """Return the golden file's detector with random weights."""
    network = narrow_resnet50()
    given: dict[str, Any] = {"masks": True, "sampled": 100_000, "anchors": 100_000, "after": (40, 30)} | options
    if kind == "fpn":
        return PyramidDetector(Stages(network), CLASSES, channels=8, width=16, before=(2000, 1000), **given)
    return StageDetector(network, Stages(network, last=3), CLASSES, mask_channels=8, before=(12000, 6000), **given)


def name_of(theirs: str) -> str:
    """Return gemel's name of one of Detectron2's tensors."""
    name = theirs.removeprefix("backbone.").removeprefix("bottom_up.")
    parts = name.split(".")
    if parts[0] == "stem":
        return ".".join(["stages", "bn1" if parts[2] == "norm" else "conv1", parts[-1]])
    if parts[0].startswith("fpn_"):
        place, level = ("inner" if "lateral" in parts[0] else "layer"), int(parts[0][-1]) - 2
        return f"pyramid.{place}_blocks.{level}.{1 if 'norm' in parts else 0}.{parts[-1]}"
    if name.startswith("roi_heads.res5.norm"):
        return f"heads.regions.norm.{parts[-1]}"
    if "res" in name and ("res5" in name or parts[0].startswith("res")):
        return _of_stage(parts[1:] if parts[0] == "roi_heads" else parts, in_heads=parts[0] == "roi_heads")
    return _of_head(name)


def _of_stage(parts: list[str], *, in_heads: bool) -> str:
    stage, block, conv = int(parts[0][3:]) - 1, parts[1], parts[2]
    start = "heads.regions.stage" if in_heads else f"stages.layer{stage}"
    norm = "norm" in parts
    inner = f"downsample.{int(norm)}" if conv == "shortcut" else conv.replace("conv", "bn") if norm else conv
    return f"{start}.{block}.{inner}.{parts[-1]}"


def _of_head(name: str) -> str:
    end = name.rpartition(".")[2]
    for theirs, ours in {
        "rpn_head.conv": "proposals.head.conv.0.0",
        "objectness_logits": "proposals.head.cls_logits",
        "anchor_deltas": "proposals.head.bbox_pred",
        "box_predictor.cls_score": "heads.box_predictor.cls_score",
        "box_predictor.bbox_pred": "heads.box_predictor.bbox_pred",
        "box_head.fc1": "heads.regions.box_head.5",
        "mask_head.deconv": "heads.regions.mask_predictor.conv5_mask",
        "mask_head.predictor": "heads.regions.mask_predictor.mask_fcn_logits",
    }.items():
        if theirs in name:
            return f"{ours}.{end}"
    head, number = ("box_head", "conv") if "box_head" in name else ("mask_head", "mask_fcn")
    index = int(name.split(number)[1][0]) - 1
    return f"heads.regions.{head}.{index}.{1 if '.norm.' in name else 0}.{end}"


def ours(theirs: str, value: Tensor) -> Tensor:
    """Return a tensor with the background first, and with rows of zeros for what Detectron2 doesn't have."""
    if "cls_score" in theirs:
        return value.roll(1, 0)
    rows = 4 if "bbox_pred" in theirs else 1 if "mask_head.predictor" in theirs else 0
    return torch.cat([value.new_zeros(rows, *value.shape[1:]), value])
