"""Networks from words: a run, its backbone before training, pixels, timm's and torchvision's."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import gemel
from conftest import write_photos
from gemel import backbones
from gemel.backbones.torchvision import torchvision_backbone
from gemel.data.sources import open_source
from gemel.engine.checkpoints import load_backbone
from gemel.errors import UserError
from gemel.evaluations.base import Result
from gemel.evaluations.features import see
from gemel.evaluations.networks import open_subject
from gemel.runs.run import Run


def test_a_run(digits_run: Run) -> None:
    subject = open_subject(digits_run)
    assert subject.name == f"{digits_run.path} (twist, convnet)"
    assert subject.folder == digits_run.path
    assert subject.method is not None
    for name, value in load_backbone(digits_run).state_dict().items():
        assert torch.equal(value, subject.network.state_dict()[name])
    assert open_subject(str(digits_run.path)).name == subject.name


def test_random_weights_are_the_seed_s(digits_run: Run) -> None:
    state = torch.get_rng_state()
    zero, again, one = (open_subject(digits_run, network="random", network_seed=seed) for seed in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    weights = [next(subject.network.parameters()) for subject in (zero, again, one)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], next(load_backbone(digits_run).parameters()))
    assert zero.name == "random convnet (seed 0)"
    assert zero.method is None
    assert zero.folder != digits_run.path, "the run's own results stay the run's"


def test_pixels_are_the_crop(digits_run: Run) -> None:
    source = open_source("digits")
    subject = open_subject(digits_run, network="pixels")
    seen = see(subject, source)
    size = int(subject.facts["size"])
    assert seen.features.shape == (1797, 3 * size * size)
    images = seen.features.unflatten(1, (3, size, size))
    assert torch.equal(images[:, 0], images[:, 2])
    assert 0 <= float(images.min()) < 0.01 < 0.99 < float(images.max()) <= 1.0
    if size == 8:
        assert np.allclose(images[5, 0].numpy() * 255, source.read(5))


def test_pixels_tell_digits_apart(digits_run: Run) -> None:
    own = digits_run.evaluations()
    result = gemel.evaluate(digits_run, "knn", network="pixels", k=1)
    assert result.metrics["top1"] == pytest.approx(0.989, abs=0.004)
    assert result.settings["network"] == "raw pixels"
    assert digits_run.evaluations() == own, "the run keeps its own"


LAYOUTS = ["plain", "module.", "backbone.", "state_dict", "model", "safetensors", "with classifier"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_state_dict(tmp_path: Path, layout: str) -> None:
    source = torchvision_backbone("resnet18").network
    tensors = {name: value.clone() for name, value in source.state_dict().items()}
    file = tmp_path / "weights.pt"
    if layout.endswith("."):
        torch.save({layout + name: value for name, value in tensors.items()}, file)
    elif layout == "safetensors":
        file = tmp_path / "weights.safetensors"
        save_file(tensors, file)
    elif layout in ("state_dict", "model"):
        torch.save({layout: tensors, "epoch": 3}, file)
    else:
        more = {"fc.weight": torch.zeros(7, 512), "fc.bias": torch.zeros(7)} if layout != "plain" else {}
        torch.save(tensors | more, file)
    subject = open_subject("torchvision:resnet18", out=tmp_path / "out", weights=file, size=32)
    assert all(torch.equal(tensors[name], value) for name, value in subject.network.network.state_dict().items())
    assert (subject.facts["width"], subject.facts["size"]) == (512, 32)
    assert str(file) in subject.name


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_an_incomplete_state_dict_is_refused_by_name(tmp_path: Path, library: str) -> None:
    network = backbones.find("resnet18")() if library == "timm" else torchvision_backbone("resnet18")
    tensors = network.network.state_dict()
    lost = tensors.pop("layer1.0.conv1.weight")
    torch.save({"state_dict": tensors}, tmp_path / "some.pt")
    with pytest.raises(UserError, match=r"layer1\.0\.conv1\.weight is missing"):
        open_subject(f"{library}:resnet18", out=tmp_path, weights=tmp_path / "some.pt")
    torch.save(tensors | {"layer1.0.conv1.weight": lost[:3]}, tmp_path / "some.pt")
    with pytest.raises(UserError, match=r"layer1\.0\.conv1\.weight is \(3, 64, 3, 3\)"):
        open_subject(f"{library}:resnet18", out=tmp_path, weights=tmp_path / "some.pt")


def test_a_library_s_network_by_a_protocol(tmp_path: Path, photos: Path) -> None:
    result = gemel.evaluate(
        "timm:resnet18", "knn", photos, labels="folders", network="random", size=32, out=tmp_path, k=(1, 3)
    )
    assert set(result.metrics) == {"top1_k1", "top1_k3"}
    assert result.settings["network"] == "timm resnet18 (random, seed 0)"
    assert result.settings["mean"] == pytest.approx([0.485, 0.456, 0.406])
    assert (tmp_path / "evaluations" / f"{result.file_name}.json").is_file()


def test_a_run_without_its_heads(digits_run: Run, tmp_path: Path) -> None:
    for name in ("run.yaml", "backbone.json", "backbone.safetensors"):
        (tmp_path / name).write_bytes((digits_run.path / name).read_bytes())
    subject = open_subject(tmp_path)
    assert subject.method is None
    assert gemel.embed(tmp_path).num_rows == 1797
    with pytest.raises(UserError, match="no checkpoint"):
        gemel.classify(tmp_path)


def test_mistakes(digits_run: Run, tmp_path: Path) -> None:
    for words, options, message in (
        ("timm:resnet18", {}, "--out FOLDER"),
        ("timm:resnet81", {"out": tmp_path}, "did you mean resnet18"),
        ("torchvision:resnet81", {"out": tmp_path}, "did you mean resnet18"),
        ("torchvision:raft_large", {"out": tmp_path}, "no classifier 'raft_large'"),
        ("timm:resnet18", {"out": tmp_path, "network": "pixels"}, "does not go with"),
        (digits_run, {"out": tmp_path}, "--out is for timm:NAME"),
        (digits_run, {"network": "blank"}, "there are trained, random, pixels"),
        ("nowhere", {}, "nowhere is not a folder"),
        ("timm:resnet18", {"out": tmp_path, "weights": tmp_path / "none.pt"}, "is not a file"),
    ):
        with pytest.raises(UserError, match=message):
            open_subject(words, **options)
    with pytest.raises(UserError, match="name the images"):
        gemel.evaluate("timm:resnet18", "knn", out=tmp_path, network="random")


def test_a_run_by_two_paths_is_one_file(digits_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(digits_run.path)
    results = [gemel.evaluate(path, "knn", quiet=True, k=7) for path in (digits_run.path, Path())]
    assert results[0].settings["network"] != results[1].settings["network"]
    assert results[0].file_name == results[1].file_name
    (digits_run.path / "evaluations" / f"{results[0].file_name}.json").unlink()


def test_images_by_two_paths_are_one_file(digits_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the same words elsewhere, for other images, another."""
    for place in ("here", "there"):
        write_photos(tmp_path / place / "photos", 8)
    monkeypatch.chdir(tmp_path / "here")

    def name(images: str | Path) -> str:
        return gemel.evaluate(digits_run, "knn", images, labels="folders", k=3, quiet=True).file_name

    first = name("photos")
    assert [name("./photos/"), name(tmp_path / "here/photos")] == [first, first]
    monkeypatch.chdir(tmp_path / "there")
    other = name("photos")
    assert other != first
    for one in (first, other):
        (digits_run.path / "evaluations" / f"{one}.json").unlink()


def test_two_networks_of_a_library_are_two_files() -> None:
    def name(network: str, backbone: str = "timm:resnet18") -> str:
        return Result("knn", {}, {"network": network, "backbone": backbone}, {}).file_name

    assert name("timm resnet18 (weights a.pt)") != name("timm resnet18 (weights b.pt)")
    assert name("a/run (twist, resnet18)", "resnet18") == name("/b/run (twist, resnet18)", "resnet18")
