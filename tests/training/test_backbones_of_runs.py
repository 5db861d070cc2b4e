"""Runs of networks whose width or size is not what their names tell: trained, loaded, refused before the start."""

from pathlib import Path
from typing import Any

import pytest

import gemel
from gemel.errors import UserError

OPTIONS: dict[str, Any] = {
    "epochs": 1,
    "image_size": 32,
    "batch_size": 20,
    "classes": 4,
    "views": "photo",
    "workers": 0,
    "threads": 1,
    "method": {"name": "twist", "hidden": 8},
    "quiet": True,
}


@pytest.mark.parametrize(("name", "width"), [("mobilenetv3_small_050", 1024), ("test_vit", 64)])
def test_a_run_is_loaded_with_the_width_that_it_was_trained_with(
    name: str, width: int, photos: Path, tmp_path: Path
) -> None:
    run = gemel.pretrain(photos, out=tmp_path / "run", backbone=name, **OPTIONS)
    assert run.backbone_facts["width"] == width
    table = gemel.embed(run, photos)
    assert table.column("vector").type.list_size == width
    assert gemel.classify(run, photos).num_rows == 40
    assert gemel.evaluate(run, "knn", photos, labels="folders", network="random", k=3).settings["width"] == width


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"backbone": "test_vit", "image_size": 40}, r"test_vit takes no images of 40 pixels \(.+\); choose 48 pixels"),
        ({"backbone": {"name": "resnet18", "image_size": 64}}, r"--backbone\.image_size is for networks"),
        (
            {"backbone": "test_vit", "views": {"name": "photo", "local_count": 1, "local_size": 20}},
            r"local_size 16 works",
        ),
        ({"backbone": {"name": "test_vit", "in_channels": 4}}, r"takes images of 4 channels, not 3"),
    ],
)
def test_what_a_network_does_not_take_is_told_before_the_start(
    options: dict[str, Any], told: str, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=told):
        gemel.pretrain(photos, out=tmp_path / "run", **(OPTIONS | options))
    assert not (tmp_path / "run").exists()


def test_images_that_have_moved(photos: Path, tmp_path: Path) -> None:
    """The message says what to do, and doing it continues the run."""
    (tmp_path / "here").symlink_to(photos)
    run = gemel.pretrain(tmp_path / "here", out=tmp_path / "run", backbone="convnet", **OPTIONS)
    run.report_path.unlink()
    (tmp_path / "here").rename(tmp_path / "there")
    with pytest.raises(UserError, match=r"put the images back there \(a link will do\), or write where they are now"):
        gemel.resume(run)
    settings = (run.path / "run.yaml").read_text()
    (run.path / "run.yaml").write_text(settings.replace(str(tmp_path / "here"), str(tmp_path / "there")))
    assert gemel.resume(run, quiet=True).report_path.is_file()
