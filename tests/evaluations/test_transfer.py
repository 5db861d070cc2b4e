"""transfer and voc07: the right metric on planted features and predictions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import layouts
from gemel import evaluations
from gemel.data.downstream import TABLE_4
from gemel.data.eval_crop import Cropped
from gemel.data.sources import open_source
from gemel.errors import UserError
from gemel.evaluations.base import Evaluation, Subject
from gemel.evaluations.protocols.transfer import score
from gemel.evaluations.protocols.transfer_finetune import GRIDS, keep_statistics, repeated

LAYOUTS = {name: getattr(layouts, name) for name in TABLE_4}


class Colour(nn.Module):
    """Mean colour of an image: features by which the layouts' classes can be told apart."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


class Blind(nn.Module):
    """The same features for every image."""

    def forward(self, images: Tensor) -> Tensor:
        return images.new_ones(len(images), 3)


def subject(folder: Path, network: nn.Module | None = None, views: str = "photo") -> Subject:
    facts = {
        "name": "colour", "options": {}, "width": 3, "size": 8, "views": views, "mean": [0.5] * 3, "std": [0.25] * 3,
    }  # fmt: skip
    return Subject(network or Colour(), facts, "colours", folder)


def judge(protocol: Evaluation, network: Subject) -> tuple[dict[str, float], dict[str, Any]]:
    return protocol.run(network, open_source("digits"), None, tell=None)


def test_all_eleven_and_their_mean(tmp_path: Path) -> None:
    for build in LAYOUTS.values():
        build(tmp_path / "sets")
    protocol = evaluations.make("transfer", {"data": "all", "root": str(tmp_path / "sets"), "strengths": "5"})
    metrics, settings = judge(protocol, subject(tmp_path))
    voc = metrics.pop("voc2007_map11")
    average = metrics.pop("average")
    wanted = {"aircraft": "mean_per_class", "pets": "mean_per_class", "caltech101": "mean_per_class",
              "flowers102": "mean_per_class"}  # fmt: skip
    assert set(metrics) == {f"{name}_{wanted.get(name, 'top1')}" for name in TABLE_4 if name != "voc2007"}
    assert set(metrics.values()) == {1.0}  # colours tell everything
    assert 0 < voc < 1  # the layout's images of VOC are coloured without regard to their objects
    assert average == pytest.approx((10 + voc) / 11)
    assert settings["sets"]["pets"]["images"] == [90, 60, 12]
    assert settings["crop"].startswith("shorter side")
    assert settings["sets"]["dtd"]["val"] == "official"
    assert settings["tolerance"] == 1e-7
    assert all(one["solved"] for one in settings["sets"].values())
    assert {name for name, one in settings["sets"].items() if "one λ for all" in one["problem"]} == {"voc2007"}


def test_what_tells_nothing_scores_as_the_largest_class(tmp_path: Path) -> None:
    layouts.dtd(tmp_path)
    protocol = evaluations.make("transfer", {"data": "dtd", "root": tmp_path, "strengths": 2})
    metrics, settings = judge(protocol, subject(tmp_path, Blind()))
    assert metrics == {"dtd_top1": pytest.approx(1 / 3)}
    assert settings["sets"]["dtd"]["strength"] == 1e5  # of equal scores the strongest penalty
    assert settings["sets"]["dtd"]["strength_at_border"]


def test_metrics_of_planted_predictions() -> None:
    targets = torch.tensor([0] * 8 + [1] * 2)
    logits = torch.tensor([[1.0, 0.0]]).expand(10, 2)
    assert score("top1", logits, targets) == pytest.approx(0.8)
    assert score("mean_per_class", logits, targets) == 0.5
    many = torch.tensor([[1, 1], [0, 0], [1, 1], [0, -1], [1, 0]])
    planted = torch.tensor([[0.9, 3.0], [0.8, 1.0], [0.7, 2.0], [0.6, 9.0], [0.5, 0.0]])
    assert score("map11", planted, many) == pytest.approx((0.763636 + 1) / 2, abs=1e-6)


def test_crops(tmp_path: Path) -> None:
    for part in ("left", "right"):
        layouts.picture(tmp_path / part / "1.png", 0)
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    Image.fromarray(wide).save(tmp_path / "left/1.png")
    source = open_source(tmp_path)
    middle, whole = (Cropped(source, 10, crop).read(0) for crop in ("middle", "whole"))
    assert middle.shape == whole.shape == (10, 10, 3)
    assert (middle == 255).all()
    assert whole.mean() == pytest.approx(85, abs=3)
    grey = Cropped(open_source("digits"), 6, "middle")
    assert grey.read(0).shape == (6, 6), "grey stays grey: its views have three equal channels"


def test_crops_are_kept_apart(tmp_path: Path) -> None:
    layouts.voc2007(tmp_path)
    network = subject(tmp_path)
    evaluation = evaluations.make("transfer", {"data": "voc2007", "root": tmp_path, "strengths": 2})
    judge(evaluation, network)
    before = len(list((tmp_path / "cache/features").iterdir()))
    judge(evaluation, network)
    assert len(list((tmp_path / "cache/features").iterdir())) == before == 3
    judge(evaluations.make("voc07", {"root": tmp_path, "costs": "1.0"}), network)
    assert len(list((tmp_path / "cache/features").iterdir())) == 5


def painted_voc(root: Path) -> None:
    """The layout with images whose colour tells their classes: red a cat, green a dog, blue a person."""
    layouts.voc2007(root)
    colours = {"cat": (220, 0, 0), "dog": (0, 220, 0), "person": (0, 0, 220)}
    images = [one for part in layouts.VOC_IMAGES.values() for one in part]
    for number, objects in enumerate(images, 1):
        colour = np.max([colours[one.rstrip("!")] for one in objects], axis=0).astype(np.uint8)
        pixels = np.broadcast_to(colour, (12, 12, 3))
        Image.fromarray(np.ascontiguousarray(pixels)).save(
            root / "VOCdevkit/VOC2007/JPEGImages" / f"{number:06}.jpg", quality=95
        )


def test_voc07(tmp_path: Path) -> None:
    painted_voc(tmp_path)
    network = subject(tmp_path)
    metrics, settings = judge(evaluations.make("voc07", {"root": tmp_path}), network)
    assert metrics == {"map_area": 1.0}
    assert len(settings["classes_left_out"]) == 17
    assert settings["images"] == [10, 5]
    shots = evaluations.make("voc07", {"root": tmp_path, "shots": "1,2", "samples": 3, "costs": "10.0"})
    metrics, _ = judge(shots, network)
    assert set(metrics) == {"map_area_1", "map_area_1_std", "map_area_2", "map_area_2_std"}
    assert metrics["map_area_2"] == 1.0
    assert metrics["map_area_2_std"] == 0.0
    with pytest.raises(UserError, match="fewer than the 64"):
        judge(evaluations.make("voc07", {"root": tmp_path, "shots": "64"}), network)


def test_glyphs_are_seen_as_a_whole(tmp_path: Path) -> None:
    layouts.cifar10(tmp_path)
    protocol = evaluations.make("transfer", {"data": "cifar10", "root": tmp_path, "strengths": 2})
    metrics, settings = judge(protocol, subject(tmp_path, views="glyph"))
    assert settings["crop"] == "the whole image"
    assert metrics == {"cifar10_top1": 1.0}


def test_mistakes(tmp_path: Path) -> None:
    for options, words in [
        ({}, "name datasets with --data"),
        ({"data": "dtd"}, "--root FOLDER"),
        ({"data": "birdsnap", "root": tmp_path}, "'birdsnap' is unknown"),
        ({"data": "dtd", "root": tmp_path, "weakest": 3.0, "strongest": 2.0}, "below --weakest"),
    ]:
        with pytest.raises(UserError, match=words):
            evaluations.make("transfer", options)
    with pytest.raises(UserError, match="DTD is not in"):
        judge(evaluations.make("transfer", {"data": "dtd", "root": tmp_path}), subject(tmp_path))
    with pytest.raises(UserError, match="--root FOLDER"):
        evaluations.make("voc07", {})


def test_fine_tuning_chooses_refits_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts.flowers102(tmp_path)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    judged = subject(tmp_path, network)
    judged.facts["width"] = 6  # pyright: ignore[reportIndexIssue]
    options = {
        "data": "flowers102", "root": tmp_path, "steps": 40, "batch_size": 6, "lr": "0.000001,0.1", "weight_decay": "0",
    }  # fmt: skip
    before = {name: value.clone() for name, value in network.state_dict().items()}
    metrics, settings = judge(evaluations.make("transfer-finetune", options), judged)
    assert metrics == {"flowers102_mean_per_class": 1.0}
    assert settings["sets"]["flowers102"]["lr"] == 0.1
    assert settings["sets"]["flowers102"]["images"] == [9, 9, 12]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())

    def fitted_again(*_: object, **__: object) -> None:
        raise AssertionError("what was fitted is kept")

    monkeypatch.setattr("gemel.evaluations.protocols.transfer_finetune.fit", fitted_again)
    assert judge(evaluations.make("transfer-finetune", options), judged) == (metrics, settings)
    assert (settings["grid"], settings["sets"]["flowers102"]["unreadable"]) == ("ericsson", 0)
    assert settings["sets"]["flowers102"]["views"]["interpolation"] == "bicubic"
    monkeypatch.undo()
    for number, file in enumerate(sorted((tmp_path / "cache/finetune").iterdir())):
        file.write_text(['{"top1"', "{}", "[1, 2]"][number])
    assert judge(evaluations.make("transfer-finetune", options), judged) == (metrics, settings)
    with pytest.raises(UserError, match="several classes"):
        evaluations.make("transfer-finetune", {"data": "voc2007", "root": tmp_path})


def test_images_are_repeated_evenly() -> None:
    counts = np.bincount(repeated(7, 30, 0))
    assert counts.sum() == 30
    assert set(counts) == {4, 5}


@pytest.mark.parametrize(("steps", "kept"), [(10, 0.9), (100, 0.9), (1000, 0.99)])
def test_batch_norms_keep(steps: int, kept: float) -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Identity())
    keep_statistics(network, steps)
    assert network[0].momentum == pytest.approx(1 - kept)


def test_grids_of_the_papers() -> None:
    assert len(GRIDS["byol"].rates) * len(GRIDS["byol"].decays) == 56
    assert GRIDS["byol"].rates[1] / GRIDS["byol"].rates[0] == pytest.approx(10**0.5)
    assert GRIDS["byol"].decays[2] / GRIDS["byol"].decays[1] == pytest.approx(10**0.5)
    assert len(GRIDS["random"].decays) == 8
