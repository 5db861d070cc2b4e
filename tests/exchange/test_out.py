"""Classes in ONNX, the Hugging Face folder, embeddings as CSV and with pictures."""

import csv
import json
import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas
import pytest
import timm
import torch
import yaml
from PIL import Image
from pyarrow import parquet

import gemel
from gemel.backbones.timm import timm_backbone
from gemel.cli.main import main
from gemel.data.sources import open_source
from gemel.errors import UserError
from gemel.exchange.huggingface import card
from gemel.runs.class_names import FILE
from gemel.runs.run import Run


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("resnet")
    torch.manual_seed(0)
    torch.save(timm_backbone("resnet18").network.state_dict(), folder / "bare.pth")
    return gemel.import_official(folder / "bare.pth", folder / "run")


def normalised(run: Run, count: int) -> np.ndarray[Any, Any]:
    """The first digits as the run's network sees them, without gemel."""
    source, facts = open_source("digits"), run.backbone_facts
    from gemel.data.batches import InferenceLoader

    views, _ = next(iter(InferenceLoader(source, size=facts["size"], glyph=True, indices=range(count))))
    mean, std = (np.array(facts[name], np.float32)[:, None, None] for name in ("mean", "std"))
    return (views.numpy().astype(np.float32) / 255 - mean) / std


def test_classes_and_their_names(digits_run: Run, tmp_path: Path) -> None:
    """As `gemel classify` gives them: classes of one name count as one."""
    images = normalised(digits_run, 40)
    (digits_run.path / FILE).write_text(yaml.safe_dump({1: "straight", 7: "straight", 0: "röund"}))
    session: Any = onnxruntime.InferenceSession(
        gemel.export(digits_run, "onnx", tmp_path / "a.onnx"), providers=["CPUExecutionProvider"]
    )
    table = gemel.classify(digits_run, "digits")
    for count in (1, 40):
        wanted = table.slice(0, count)
        features, probabilities, numbers, words = session.run(None, {"images": images[:count]})
        assert features.shape == (count, digits_run.backbone_facts["width"])
        assert probabilities.shape == (count, 9)
        np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
        np.testing.assert_array_equal(numbers, wanted["class"].to_numpy())
        np.testing.assert_allclose(probabilities.max(1), wanted["probability"].to_numpy(), rtol=1e-3)
        assert list(words) == wanted["name"].to_pylist()
    facts = json.loads(session.get_modelmeta().custom_metadata_map["gemel"])
    assert facts["classes"][:2] == [[0, "röund"], [1, "straight"]]
    assert [number for number, _ in facts["classes"]] == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    (digits_run.path / FILE).unlink()


def test_a_hugging_face_folder(resnet: Run, tmp_path: Path) -> None:
    folder = gemel.export(resnet, "huggingface", tmp_path / "model")
    assert sorted(one.name for one in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(images), gemel.backbone(resnet)(images))
    seen = timm.data.resolve_model_data_config(network)
    facts = resnet.backbone_facts
    assert (list(seen["mean"]), list(seen["std"])) == (facts["mean"], facts["std"])
    assert tuple(seen["input_size"]) == (3, facts["size"], facts["size"])
    assert gemel.export(resnet, "huggingface", tmp_path / "model") == folder
    (folder / "other.txt").touch()
    with pytest.raises(UserError, match="holds something else; name a new folder"):
        gemel.export(resnet, "huggingface", folder)


def test_the_model_card(resnet: Run, photos_run: Run) -> None:
    for run, words in ((resnet, "resnet18 that learned by"), (photos_run, "40 images of photos")):
        text = card(run)
        _, head, body = text.split("---\n", 2)
        described = yaml.safe_load(head)
        assert described["library_name"] == "timm"
        assert run.method_name in described["tags"]
        assert words in body
        assert str(run.path.parent) not in text, "no path of this machine"
        assert f"| mean | {', '.join(f'{one:.6g}' for one in run.backbone_facts['mean'])} |" in body
    with pytest.raises(UserError, match="timm does not load this convnet: it is gemel's own network"):
        gemel.export(photos_run, "huggingface")


def test_vectors_as_csv(photos_run: Run, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as left:
        main(["embed", os.fspath(photos_run.path), str(photos), "--out", str(tmp_path / "vectors.csv")])
    assert left.value.code == 0
    with (tmp_path / "vectors.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    table = gemel.embed(photos_run, photos)
    assert list(rows[0]) == ["path", *(f"vector_{number:02}" for number in range(16))]
    assert [row["path"] for row in rows] == table["path"].to_pylist()
    found = np.array([[float(one) for one in list(row.values())[1:]] for row in rows])
    np.testing.assert_allclose(found, np.stack(table["vector"].to_numpy(zero_copy_only=False)), rtol=1e-6)


def test_a_table_with_pictures(digits_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "atlas.parquet"
    words = ["embed", os.fspath(digits_run.path), "--pictures", "--out"]
    with pytest.raises(SystemExit) as left:
        main([*words, str(path)])
    assert left.value.code == 0
    table = pandas.read_parquet(path)
    assert list(table.columns) == ["path", "vector", "image", "class", "probability", "label"]
    assert len(table) == 1797
    row = table.iloc[3]
    assert row["label"] == "3"
    picture = Image.open(BytesIO(row["image"]["bytes"]))
    np.testing.assert_array_equal(np.asarray(picture), open_source("digits").read(3))
    assert row["vector"].shape == (16,)
    noted = json.loads(parquet.read_schema(path).metadata[b"huggingface"])["info"]["features"]
    assert noted["image"] == {"_type": "Image"}
    assert noted["vector"]["length"] == 16
    source = open_source(path, labels="none")
    assert source.name == str(path), "vectors: heads can be learned from it"
    with pytest.raises(SystemExit):
        main([*words, str(tmp_path / "atlas.npz")])
    assert "--pictures needs --out F.parquet" in capsys.readouterr().err


def test_the_datasets_library_shows_the_pictures(digits_run: Run, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the datasets library, which gemel does without")
    parquet.write_table(gemel.embed(digits_run, pictures=True), tmp_path / "a.parquet")
    loaded = datasets.Dataset.from_parquet(str(tmp_path / "a.parquet"), cache_dir=str(tmp_path / "cache"))
    assert loaded[3]["image"].size == (8, 8)
