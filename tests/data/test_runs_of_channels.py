"""Runs on 13 channels, 12 bits and DICOM: they learn, and what they export gives the same features outside gemel."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scans import dicom, npy, tiff, waves, write_labels

import gemel
from conftest import TINY
from gemel.backbones.timm import for_channels, timm_backbone
from gemel.engine.pretrained_weights import start_from
from gemel.errors import UserError
from gemel.runs.run import Run

for _package in ("tifffile", "pydicom"):
    pytest.importorskip(_package, reason="of gemel[formats], is not installed")

DOCUMENT = Path(__file__).parents[2] / "docs" / "formats.md"

KINDS: dict[str, tuple[int, Callable[[NDArray[Any]], bytes], Callable[[bytes], NDArray[Any]]]] = {
    "13.npy": (13, lambda one: npy(one.astype(np.float32)), lambda data: np.lib.format.read_array(_file(data))),
    "12.tif": (1, lambda one: tiff((one[..., 0] * 4095).astype(np.uint16)), lambda data: _tifffile(data)),
    "ct.dcm": (
        1,
        lambda one: dicom((one[..., 0] * 2000).astype(np.uint16), RescaleIntercept=-1000, RescaleSlope=1,
                          WindowCenter=0.5, WindowWidth=2001),
        lambda data: _pydicom(data),
    ),
}  # fmt: skip
"""channels, writer, and a reader that is none of gemel's"""


def _file(data: bytes) -> Any:
    from io import BytesIO

    return BytesIO(data)


def _tifffile(data: bytes) -> NDArray[Any]:
    import tifffile

    return tifffile.imread(_file(data))


def _pydicom(data: bytes) -> NDArray[Any]:
    import pydicom

    return pydicom.dcmread(_file(data)).pixel_array.astype(float) - 1000


@pytest.fixture(scope="module", params=KINDS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("scans")
    channels, write, _ = KINDS[request.param]
    images, labels = waves(48, channels)
    files = [folder / f"{number:02}{Path(request.param).suffix}" for number in range(len(images))]
    for file, image in zip(files, images, strict=True):
        file.write_bytes(write(image))
    views = {"name": "photo", "global_count": 2, "scale": (0.5, 1.0), "flip": 0.5, "noise": 0.5, "blur": 0.0}
    words: dict[str, Any] = TINY | {"views": views, "method": {"name": "barlow_twins", "projector": [32, 32]}}
    words |= {"labels": str(write_labels(folder, files, labels)), "optimizer": {"name": "adamw", "lr": 3e-3}}
    return gemel.pretrain(
        folder,
        out=tmp_path_factory.mktemp("runs") / f"run-{request.param}",
        epochs=25,
        batch_size=16,
        image_size=16,
        seed=1,
        **words,
    )


def test_it_learns(run: Run) -> None:
    trained, random = (
        gemel.evaluate(run, "knn", labels=run.settings["labels"], k=5, network=network)
        for network in ("trained", "random")
    )
    assert trained.metrics["top1"] > random.metrics["top1"]
    assert trained.metrics["top1"] > 0.8


def test_the_same_features_outside_gemel(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the code of docs/formats.md, which knows the graph's file alone."""
    kind = run.path.name.removeprefix("run-")
    read = KINDS[kind][2]
    (code,) = re.findall(r"## Outside gemel\n.*?```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    if kind == "ct.dcm":  # each file names its own window
        code = code.replace('facts["black"] or 0, facts["white"]', "-1000, 1000")
    if kind == "13.npy":
        gemel.export(run, "onnx")
        monkeypatch.chdir(run.path)
    else:  # one graph is enough: it costs ten seconds
        code = re.sub(r"^(session|facts) = .*\n|^\(features,\).*\n", "", code, flags=re.MULTILINE)
    network = gemel.backbone(run)
    embedded = {row["path"]: row["vector"] for row in gemel.embed(run).to_pylist()}
    for path in sorted(embedded)[:4]:
        values = read(Path(path).read_bytes()).astype(np.float64)
        tile = np.moveaxis(values, -1, 0) if values.ndim == 3 else np.stack([values] * 3)
        found: dict[str, Any] = {"tile": tile, "facts": run.backbone_facts}
        exec(code, found)
        with torch.no_grad():
            features = network(torch.from_numpy(found["images"])).numpy() if kind != "13.npy" else found["features"]
        np.testing.assert_allclose(features[0], embedded[path], rtol=1e-3, atol=1e-4)


def test_what_is_recorded(run: Run) -> None:
    settings, facts = run.settings, run.backbone_facts
    channels = KINDS[run.path.name.removeprefix("run-")][0]
    assert (settings["pixels"], settings["channels"]) == ("floats", 13 if channels == 13 else 3)
    assert facts["mean"] == settings["views"]["mean"]
    assert facts["std"] == settings["views"]["std"]
    assert len(facts["mean"]) == settings["channels"]
    if channels == 13:
        assert settings["backbone"]["in_channels"] == 13
        np.testing.assert_allclose(np.array(facts["mean"]) / facts["mean"][0], np.geomspace(1, 0.01, 13), rtol=0.05)
    assert all(picture.startswith("data:image/png") for picture in run.gallery()["pictures"].values())  # type: ignore[index]


def test_what_does_not_fit(tmp_path: Path) -> None:
    images, _ = waves(8, 5)
    for number, image in enumerate(images):
        (tmp_path / f"{number}.npy").write_bytes(npy(image.astype(np.float32)))
    words: dict[str, Any] = {"out": tmp_path / "run", "epochs": 1, "batch_size": 4, "method": "barlow_twins"}
    wrong = {
        "--backbone lab_resnet is for colours": {"backbone": "lab_resnet"},
        "--composite 0,1,5: the images have channels 0 to 4": {"composite": (0, 1, 5)},
        "--views.mean has 3 numbers, and the images 5 channels": {"views": {"name": "photo", "mean": [0.5] * 3}},
        "strong views are of 8 bits": {"views": {"name": "photo", "kinds": "strong"}},
        "--pixels bytes is for images of 1 or 3 channels, not 5": {"pixels": "bytes"},
    }
    for message, more in wrong.items():
        with pytest.raises(UserError, match=message):
            gemel.pretrain(tmp_path, **(words | more))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("channels", [1, 4, 13])
def test_first_layers_are_made_for_other_channels(channels: int, tmp_path: Path) -> None:
    """Equal channels give what three equal ones gave."""
    torch.manual_seed(0)
    three, other = timm_backbone("resnet18"), timm_backbone("resnet18", in_channels=channels)
    torch.save(three.network.state_dict(), tmp_path / "weights.pth")
    assert f"the first layer's are made for {channels} channels" in start_from(other, tmp_path / "weights.pth")
    kernels = three.network.conv1.weight
    assert for_channels(kernels, channels).shape == (64, channels, 7, 7)
    images = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        one, two = (net.eval()(images.expand(-1, count, -1, -1)) for net, count in ((three, 3), (other, channels)))
    if channels == 1:
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-3)
    else:  # 13 channels repeat red once more than green
        assert (one - two).norm() < 0.5 * one.norm()
