"""knn, cluster, label-free, linear-cached: numbers by hand, everything that they depend on, and mistakes."""

import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import gemel
from conftest import write_photos
from gemel import evaluations
from gemel.data.sources import ArraySource, Source, open_source
from gemel.errors import UserError
from gemel.evaluations.base import Subject
from gemel.evaluations.features import see
from gemel.evaluations.networks import Pixels, pixel_facts
from gemel.evaluations.run_protocol import judge
from gemel.metrics.neighbours import knn_accuracy
from gemel.runs.run import Run
from gemel.settings.schema import schema_of
from gemel.settings.tree import SECTIONS

EVERY = {"data", "test", "labels", "network", "backbone", "width", "image_size", "crop", "mean", "std", "rejected"}
"""what every result tells"""


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return Subject(Pixels(), pixel_facts(8, "glyph"), "raw pixels", tmp_path_factory.mktemp("pixels"))


def digits(count: int = 1797, labels: list[int] | None = None) -> Source:
    source = open_source("digits").subset(np.arange(count))
    if labels is not None:
        source.labels = np.array(labels, np.int64)
    return source


def run(name: str, subject: Subject, train: Source, test: Source | None = None, **options: Any) -> Any:
    return judge(subject, evaluations.make(name, options), train, test, labels="own")


def test_all_k_of_one_search(pixels: Subject) -> None:
    several = run("knn", pixels, digits(600), k="10, 20,100")
    assert several.settings["k"] == [10, 20, 100]
    for k in (10, 20, 100):
        alone = run("knn", pixels, digits(600), k=k)
        assert alone.settings["k"] == k
        assert {f"{name}_k{k}": value for name, value in alone.metrics.items()}.items() <= several.metrics.items()
    assert len(several.metrics) == 6


def test_knn_is_the_metric_on_the_features(pixels: Subject) -> None:
    train, test = digits().subset(np.arange(1000)), digits().subset(np.arange(1000, 1797))
    assert train.labels is not None and test.labels is not None
    rows = [
        torch.from_numpy(np.stack([source.read(i) for i in range(len(source))])).flatten(1).float()
        for source in (train, test)
    ]
    labels = [torch.from_numpy(source.labels) for source in (train, test)]
    found = run("knn", pixels, train, test)
    assert found.metrics == pytest.approx(knn_accuracy(rows[1], rows[0], labels[1], labels[0], k=20), abs=3e-3)
    assert found.settings["split"] == "test set digits"
    assert (found.settings["bank"], found.settings["queries"]) == (1000, 797)
    alone = run("knn", pixels, train)
    assert alone.settings["split"] == "leave one out"
    assert (alone.settings["k"], alone.settings["temperature"]) == (20, 0.07)


@pytest.mark.parametrize("name", ["knn", "cluster", "label-free", "linear-cached"])
def test_results_tell_everything_they_depend_on(name: str, pixels: Subject) -> None:
    small: dict[str, dict[str, Any]] = {
        "label-free": {"objects": 5, "view_count": 3},
        "cluster": {"restarts": 1},
        "linear-cached": {"strengths": 2, "weakest": -2.0},
    }
    options = small.get(name, {})
    first, second = (run(name, pixels, digits(300), **options) for _ in range(2))
    assert first == second
    assert set(first.settings) >= EVERY
    assert all(type(value) is float and math.isfinite(value) for value in first.metrics.values())
    file = pixels.folder / "evaluations" / f"{first.file_name}.json"
    assert file.is_file()
    constructor = evaluations.make(name, {})
    for option in ("k", "temperature", "kmeans", "restarts", "seed", "objects", "view_count"):
        if hasattr(constructor, option):
            assert option in first.settings, option


def test_every_option_of_cluster(pixels: Subject) -> None:
    whole = run("cluster", pixels, digits())
    assert whole.metrics["kmeans_acc"] == pytest.approx(0.79, abs=0.04), "k-means on digits' pixels"
    assert whole.settings["kmeans"] == 10
    many = run("cluster", pixels, digits(), restarts=1, kmeans=40, silhouette_sample=200)
    assert many.metrics["kmeans_purity"] > whole.metrics["kmeans_purity"]
    assert many.metrics["kmeans_acc"] < whole.metrics["kmeans_acc"], "thirty classes have no label"
    assert "200 of 1797" in many.settings["silhouette"]
    none = run("cluster", pixels, digits(300), restarts=1, silhouette_sample=0)
    assert "kmeans_silhouette" not in none.metrics
    halves = run("cluster", pixels, digits(1000), digits().subset(np.arange(1000, 1797)), restarts=1)
    assert halves.settings["images"] == 797


def test_label_free_needs_no_labels(pixels: Subject, digits_run: Run) -> None:
    blind = digits(200)
    blind.labels = None
    found = run("label-free", pixels, blind, objects=20, view_count=4)
    assert set(found.metrics) == {"rankme", "alpha_req", "uniformity", "alignment", "lidar"}
    assert 1 <= found.metrics["lidar"] <= 19
    own = gemel.evaluate(digits_run, "label-free", objects=20, view_count=4)
    assert 1 <= own.metrics["rankme"] <= own.settings["rankme_limit"] == 16


class Constant(nn.Module):
    """A collapsed network, or one that diverged."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.full((192,), value))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.value.expand(len(images), -1)


@pytest.mark.parametrize("name", ["knn", "cluster", "label-free"])
def test_a_diverged_network_is_told(name: str, tmp_path: Path) -> None:
    broken = Subject(Constant(math.nan), pixel_facts(8, "glyph"), "broken", tmp_path)
    with pytest.raises(UserError, match="NaN or infinite"):
        run(name, broken, digits(100))


def test_a_collapsed_network_is_measured(tmp_path: Path) -> None:
    flat = Subject(Constant(1.0), pixel_facts(8, "glyph"), "flat", tmp_path)
    found = run("label-free", flat, digits(100), objects=10, view_count=2)
    assert found.metrics["rankme"] == pytest.approx(1, abs=1e-3)
    assert found.metrics["uniformity"] == pytest.approx(0, abs=1e-9)
    assert found.metrics["alignment"] == 0


@pytest.mark.parametrize(
    ("name", "labels", "options", "message"),
    [
        ("knn", None, {"k": 100}, "100 neighbours out of 99"),
        ("knn", None, {"k": 0}, "greater than 0"),
        ("knn", None, {"k": "0"}, "--k.* greater than 0"),
        ("knn", None, {"k": "5,-1"}, "--k.* greater than 0"),
        ("knn", None, {"temperature": 0}, "greater than 0"),
        ("knn", [3] * 100, {}, "all 100 labelled images of digits are of one class"),
        ("knn", [-1] * 100, {}, "digits has 0 labels"),
        ("knn", [-1] * 98 + [0, 1], {"k": 2}, "2 neighbours out of 1"),
        ("cluster", [-1] * 100, {}, "digits has 0 labels"),
        ("cluster", None, {"kmeans": 101}, "101 clusters of 100 images"),
        ("label-free", None, {"first": 9, "last": 9}, "--last 9 must be above --first 9"),
        ("knn", None, {"kmeans": 4}, "--kmeans is not an option of knn"),
    ],
)
def test_mistakes(name: str, labels: list[int] | None, options: dict[str, Any], message: str, pixels: Subject) -> None:
    with pytest.raises(UserError, match=message):
        run(name, pixels, digits(100, labels), **options)


def test_few_images(tmp_path: Path, pixels: Subject) -> None:
    with pytest.raises(UserError, match="at least four"):
        run("label-free", pixels, digits(3))
    write_photos(tmp_path / "photos", 4)
    source = open_source(tmp_path / "photos", labels="folders")
    assert isinstance(source, Source) and not isinstance(source, ArraySource)
    with pytest.raises(UserError, match="20 neighbours out of 3"):
        run("knn", pixels, source)


def test_protocols_are_the_files() -> None:
    assert {"knn", "cluster", "label-free"} <= set(evaluations.available())
    assert evaluations.find("label_free") is evaluations.find("label-free")
    for name in evaluations.available():
        assert evaluations.name_of(evaluations.find(name)) == name


@pytest.mark.parametrize("name", evaluations.available())
def test_every_option_reaches_its_protocol_from_the_command_line(name: str) -> None:
    """A word of `settings.SECTIONS` is read as a mapping with a name there."""
    assert not set(schema_of(evaluations.find(name)).model_fields) & set(SECTIONS)


@pytest.mark.parametrize("name", ["transfer", "transfer-finetune", "voc07"])
def test_protocols_with_images_of_their_own_open_no_others(name: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"network": "random", "size": 32, "out": tmp_path, "root": tmp_path}
    options |= {} if name == "voc07" else {"data": "dtd"}
    with pytest.raises(UserError, match="is not in"):  # the data set, where neither a run nor words name images
        gemel.evaluate("timm:resnet18", name, **options)
    for given in ({"images": "digits"}, {"test": "digits"}, {"labels": "folders"}):
        with pytest.raises(UserError, match=f"{name} judges by images of its own"):
            gemel.evaluate("timm:resnet18", name, **given, **options)


def test_test_labels_are_matched_by_name(tmp_path: Path, pixels: Subject) -> None:
    write_photos(tmp_path / "one", 12)
    write_photos(tmp_path / "two", 6, seed=1)
    shutil.rmtree(tmp_path / "two" / "a")
    train, test = (open_source(tmp_path / name, labels="folders") for name in ("one", "two"))
    assert (train.label_names, test.label_names) == (["a", "b"], ["b"])
    assert run("knn", pixels, train, test, k=1).settings["queries"] == 3
    assert test.labels is not None and test.labels.tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", ["knn", "linear-cached", "cluster"])
def test_training_and_test_images_are_kept_apart(name: str, pixels: Subject) -> None:
    small: dict[str, dict[str, Any]] = {
        "knn": {"k": 5},
        "linear-cached": {"strengths": 2, "weakest": -2.0},
        "cluster": {"restarts": 1},
    }
    options = small[name]
    with pytest.raises(UserError, match="every image of digits is in the test set digits"):
        run(name, pixels, digits(100), digits(100), **options)
    test = open_source("digits").subset(np.arange(200, 400))
    apart, overlapping = (run(name, pixels, digits(count), test, **options) for count in (200, 300))
    assert apart.settings["shared_images"] == 0
    assert overlapping.settings["shared_images"] == 100
    assert overlapping.metrics == apart.metrics


def test_a_copy_is_the_same_image_and_so_is_a_link(tmp_path: Path, pixels: Subject) -> None:
    write_photos(tmp_path / "train", 12)
    paths = write_photos(tmp_path / "test", 6, seed=1)
    for number, path in enumerate(sorted((tmp_path / "train").rglob("*.jpg"))[:4]):
        place = paths[number].with_name(f"again{number}.jpg")
        if number < 2:
            shutil.copyfile(path, place)
        else:
            (os.link if number == 2 else os.symlink)(path, place)
    train, test = (open_source(tmp_path / part, labels="folders") for part in ("train", "test"))
    found = run("knn", pixels, train, test, k=1)
    assert (found.settings["shared_images"], found.settings["bank"], found.settings["queries"]) == (4, 8, 10)


def test_an_image_that_is_listed_again_is_not_its_own_neighbour(tmp_path: Path, pixels: Subject) -> None:
    paths = write_photos(tmp_path / "photos", 12)
    os.link(paths[0], tmp_path / "photos/a/hard.jpg")
    lines = [str(path) for path in paths] + [str(paths[0]), f"photos/a/../{paths[1].relative_to(tmp_path / 'photos')}"]
    (tmp_path / "list.txt").write_text("\n".join([*lines, "photos/a/hard.jpg"]))
    labels = tmp_path / "labels.csv"
    rows = [f"{path},{number}" for number, path in enumerate(paths)] + [f"{tmp_path}/photos/a/hard.jpg,0"]
    labels.write_text("\n".join(["path,label", *rows]))
    source = open_source(tmp_path / "list.txt", labels=labels)
    assert len(source) == 15
    found = run("knn", pixels, source, k=1)
    assert (found.settings["repeated_images"], found.settings["bank"]) == (3, 12)
    assert found.metrics["top1"] == 0, "each label has one image: only its own repetition could be right"


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images of each class; the test set has a class that training lacks, and one in another spelling."""
    folder, random = tmp_path_factory.mktemp("strangers"), np.random.default_rng(0)
    for part, names in (("train", ("cat", "dog", "hen")), ("test", ("cat", "Dog", "pig"))):
        for kind, name in enumerate(names):
            for number in range(10):
                image = random.normal(60 * kind + 40, 9, (32, 32, 3)).clip(0, 255).astype(np.uint8)
                (folder / part / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(folder / part / name / f"{number}.png")
    return folder


@pytest.mark.parametrize("name", ["knn", "linear-cached", "linear", "finetune"])
def test_test_images_of_classes_that_training_lacks_are_refused(name: str, strangers: Path, pixels: Subject) -> None:
    train, test = (open_source(strangers / part, labels="folders") for part in ("train", "test"))
    with pytest.raises(UserError, match=r"2 classes .* \(20 of its images\) .*: Dog \(near: dog\); pig;"):
        run(name, pixels, train, test)


def test_clusters_are_judged_on_every_class(strangers: Path, pixels: Subject) -> None:
    train, test = (open_source(strangers / part, labels="folders") for part in ("train", "test"))
    found = run("cluster", pixels, train, test, restarts=1)
    assert (found.settings["images"], found.settings["label_classes"]) == (30, 3)
    assert found.metrics["kmeans_nmi"] == pytest.approx(1)


def test_two_folders_of_equal_names_sizes_and_times(tmp_path: Path, pixels: Subject) -> None:
    """As an archive with fixed times unpacks them; each class of the second looks like another of the first."""
    random = np.random.default_rng(0)
    for shift, folder in enumerate("ab"):
        for kind, name in enumerate(("cat", "dog", "hen", "pig")):
            for number in range(12):
                file = tmp_path / folder / name / f"{number:02}.bmp"
                file.parent.mkdir(parents=True, exist_ok=True)
                base = np.random.default_rng((kind + shift) % 4).normal(128, 60, (32, 32, 3))
                Image.fromarray((base + random.normal(0, 9, base.shape)).clip(0, 255).astype(np.uint8)).save(file)
                os.utime(file, (315532800, 315532800))
    one, two = (open_source(tmp_path / folder, labels="folders") for folder in "ab")
    assert not torch.equal(see(pixels, one).features, see(pixels, two).features)
    assert run("knn", pixels, one, k=5).metrics["top1"] == 1
    assert run("knn", pixels, one, two, k=5).metrics["top1"] == 0
    assert run("linear-cached", pixels, one, two, strengths=2, weakest=-2.0).metrics["top1"] == 0
    before = see(pixels, one).features.clone()
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "b").rename(tmp_path / "a")
    assert not torch.equal(before, see(pixels, open_source(tmp_path / "a")).features), "the same paths, too"


def test_one_question_is_one_file(pixels: Subject) -> None:
    """However the answer turns out, and however the options are spelt."""
    found = [
        run("knn", pixels, digits(200), **options) for options in ({}, {"k": 20}, {"k": "20"}, {"temperature": 0.07})
    ]
    assert len({one.file_name for one in found}) == 1
    other = found[0]._replace(found=found[0].found | {"best_epoch": 3}, metrics={"top1": 0.0})
    assert other.file_name == found[0].file_name
    others = [
        run("knn", pixels, digits(200), k=10),
        run("knn", pixels, digits(199)),
        run("cluster", pixels, digits(200)),
    ]
    assert len({one.file_name for one in (*found, *others)}) == 4


def evaluate(images: Any, out: Path, **options: Any) -> Any:
    return gemel.evaluate("timm:resnet18", "knn", images, network="random", size=32, out=out, k=3, **options)


def test_arrays_and_lists_of_paths(tmp_path: Path) -> None:
    paths = write_photos(tmp_path / "photos", 8, side=(40, 40))
    labels = [path.parent.name for path in paths]
    listed = evaluate(paths, tmp_path / "out", labels=labels)
    pixels = [np.asarray(Image.open(path)) for path in paths]
    for given in (np.stack(pixels), pixels):
        found = evaluate(given, tmp_path / "out", labels=labels)
        assert found.metrics == listed.metrics
        assert found.settings["labels"] == "given"
    other = evaluate(np.stack(pixels)[::-1], tmp_path / "out", labels=labels[::-1])
    assert other.file_name != found.file_name, "other arrays are another question"
    with pytest.raises(UserError, match="8 labels for 40 images"):
        evaluate(np.zeros((40, 9, 9), np.uint8), tmp_path / "out", labels=labels)


def test_numbers_that_cannot_be_kept_are_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photos(tmp_path / "photos", 8, side=(40, 40))
    kept = evaluate(tmp_path / "photos", tmp_path / "out", labels="folders")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/evaluations").write_text("a file is in the way")
    found = evaluate(tmp_path / "photos", tmp_path / "full", labels="folders")
    assert found.metrics == kept.metrics
    assert "the result is not kept" in capsys.readouterr().err


def test_see_is_what_embed_gives(digits_run: Run) -> None:
    from gemel.evaluations.networks import open_subject

    rows = see(open_subject(digits_run), open_source("digits")).features
    vectors = np.stack(gemel.embed(digits_run).column("vector").to_pylist())
    assert np.array_equal(vectors, rows.numpy())
