"""Few labels: which images, by which numbers."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import gemel
from gemel.data.sources import open_source
from gemel.data.sources.parts import Subset
from gemel.errors import UserError
from gemel.evaluations.fit_common import listed, share_of
from gemel.evaluations.protocols.semi import RECIPES
from gemel.evaluations.splits import hold_out

PUBLISHED = {  # protocols 4: rates of backbone and head at the recipe's batch, epochs
    ("twist", 1): (0.04, 0.2, 20),
    ("twist", 10): (0.02, 0.2, 20),
    ("twist", 100): (0.01, 0.2, 30),
    ("barlow_twins", 1): (0.002, 0.5, 20),
    ("barlow_twins", 10): (0.002, 0.5, 20),
    ("barlow_twins-code", 1): (0.005, 0.5, 20),
    ("swav", 1): (0.02, 5.0, 20),
    ("swav", 10): (0.01, 0.2, 20),
    ("vicreg", 1): (0.03, 0.08, 20),
    ("vicreg", 10): (0.01, 0.1, 20),
    ("simclr", 1): (0.8, 0.8, 60),
    ("simclr", 10): (0.8, 0.8, 30),
    ("lightly", 100): (0.05, 0.05, 30),
}


@pytest.mark.parametrize(("name", "percent"), PUBLISHED)
def test_recipes_are_the_published_ones(name: str, percent: int) -> None:
    row = RECIPES[name][percent]
    assert row.backbone_lr is not None
    assert (row.backbone_lr * row.scale, row.lr[0] * row.scale, row.epochs) == pytest.approx(PUBLISHED[name, percent])
    if name in ("barlow_twins", "swav"):
        assert [row.rate_factor(epoch, 0, 1) for epoch in (11, 12, 16)] == pytest.approx([1, 0.2, 0.04])


def counts(source: Subset) -> list[int]:
    assert source.labels is not None
    return np.bincount(source.labels).tolist()


def paths(source: Subset) -> set[str]:
    return {source.path(index) for index in range(len(source))}


def test_a_share_is_stratified_and_needs_no_order() -> None:
    digits = open_source("digits")
    assert digits.labels is not None
    chosen = share_of(digits, 10, seed=0)
    assert counts(chosen) == [int(np.ceil(0.1 * count)) for count in np.bincount(digits.labels)]
    mixed = Subset(digits, np.random.default_rng(0).permutation(len(digits)))
    assert paths(share_of(mixed, 10, seed=0)) == paths(chosen)
    assert paths(share_of(digits, 10, seed=1)) != paths(chosen)
    assert len(share_of(digits, 100, seed=0)) == len(digits)
    assert counts(share_of(digits, 0.01, seed=0)) == [1] * 10


def test_few_labels_by_the_recipe_at_the_nearest_percentage(digits_run: gemel.Run) -> None:
    result = gemel.evaluate(digits_run, "semi", percent=5, epochs=24, batch_size=16, backbone_lr=0.1)
    assert result.settings["recipe"] == "twist, 10 %"
    assert result.settings["images"] == 79
    assert "not the papers' list" in result.settings["labels_used"]
    assert result.metrics["top1"] > 0.4
    paper = gemel.evaluate(digits_run, "semi", percent=2, recipe="barlow-twins", epochs=1, batch_size=16)
    assert paper.settings["recipe"] == "barlow_twins, 1 %"
    assert paper.settings["schedule"] == "steps"


def test_a_list_of_the_users(photos_run: gemel.Run, tmp_path: Path) -> None:
    images = sorted(Path(photos_run.settings["images"]).rglob("*.jpg"))
    train, test = tmp_path / "train", tmp_path / "test"
    for number, image in enumerate(images):
        copy = (test if number % 4 == 0 else train) / image.relative_to(photos_run.settings["images"])
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, copy)
    names = [path.name for path in sorted(train.rglob("*.jpg"))]
    file = tmp_path / "1percent.txt"
    file.write_text("\ufeff" + "\r\n".join(["# SimCLR's form", *names[::2][:12], ""]), encoding="utf-8")
    result = gemel.evaluate(
        photos_run, "semi", train, test=test, labels="folders", list=str(file), epochs=1, batch_size=4
    )
    assert result.settings["images"] == 12
    assert result.settings["labels_used"] == "the 12 images of 1percent.txt"


def test_lists_that_do_not_fit(photos: Path, tmp_path: Path, digits_run: gemel.Run) -> None:
    source = open_source(photos, labels="folders")
    assert listed(source, ["b/c/0002.jpg", "0001.jpg"], "list").path(0).endswith("0001.jpg")
    mistake = r"2 of the 3 names in --list file don't name exactly one image .*nobody.jpg \(0 images"
    with pytest.raises(UserError, match=mistake):
        listed(source, ["0001.jpg", "nobody.jpg", "a/0002.jpg"], "file")
    with pytest.raises(UserError, match="twice"):
        listed(source, ["0001.jpg", "a/0001.jpg"], "file")
    with pytest.raises(UserError, match="cannot be read"):
        gemel.evaluate(digits_run, "semi", list=str(tmp_path / "nothing.txt"))
    digits = open_source("digits")
    assert digits.labels is not None
    names = [digits.path(index) for index in hold_out(digits)[0].tolist() if digits.labels[index] != 3]
    file = tmp_path / "list.txt"
    file.write_text("\n".join(names[:300]))
    with pytest.raises(UserError, match="1 of 10 classes have no image to fit on in digits: 3"):
        gemel.evaluate(digits_run, "semi", list=str(file), batch_size=16)


def test_too_few_images_for_the_recipes_batch(digits_run: gemel.Run) -> None:
    with pytest.raises(UserError, match="20 labelled images of digits cannot fill a batch of 256"):
        gemel.evaluate(digits_run, "semi")
