"""Which results are one score: by their protocol's rules, whatever came of them; and which published rows they meet."""

import json
from pathlib import Path
from typing import Any

import pytest

import gemel
from gemel.reports.compare import Comparison
from gemel.reports.seed_groups import Column
from gemel.runs.run import Run
from reports.written_runs import kinds, write_run

FIT = {"recipe": "twist, 1 %", "epochs": 20, "split": "a test set", "reported": "last"}
SETS = {
    "food101_top1": (0.7, "linear top1", "Food-101"),
    "cars_top1": (0.6, "linear top1", "Stanford Cars"),
    "aircraft_mean_per_class": (0.5, "linear mean per class", "FGVC Aircraft"),
    "pets_mean_per_class": (0.5, "linear mean per class", "Oxford Pets"),
    "flowers102_mean_per_class": (0.5, "linear mean per class", "Flowers-102"),
    "voc2007_map11": (0.4, "linear 11-point mAP", "VOC2007"),
    "average": (0.6, "linear mean", "average of 11"),
}


def judge(run: Run, protocol: str, metrics: dict[str, float], name: str = "a", **settings: Any) -> None:
    """Plant a result."""
    result = {"protocol": protocol, "metrics": metrics, "settings": settings}
    (run.path / "evaluations" / f"{protocol}-{name}.json").write_text(json.dumps(result))


def two_seeds(folder: Path) -> list[Run]:
    return [write_run(folder / f"s{seed}", None, seed=seed, method={"name": "twist"}) for seed in (0, 1)]


def met(comparison: Comparison, metric: str) -> set[tuple[str, str, str]]:
    """Metric and data of the published rows beside a score, and the kinds of their marks."""
    found = [one for one in comparison.neighbours if any(column.metric == metric for column in one.values)]
    return {(one.row.metric, one.row.data, " ".join(mark.kind for mark in one.marks)) for one in found}


def test_seeds_judged_by_different_options_are_not_averaged(tmp_path: Path) -> None:
    runs = two_seeds(tmp_path)
    for run, k, top1 in zip(runs, (5, 20), (0.7, 0.8), strict=True):
        judge(run, "knn", {"top1": top1}, data="cifar10", k=k)
    (group,) = gemel.compare(runs, published=False).groups
    assert group.scores == {Column("knn", "top1", "k 5"): (0.7,), Column("knn", "top1", "k 20"): (0.8,)}


def test_outcomes_do_not_tell_seeds_apart(tmp_path: Path) -> None:
    """Numbers of images, the strength that was chosen and the path of the run differ; the question is one."""
    runs = two_seeds(tmp_path)
    for place, run in enumerate(runs):
        outcomes = {"strength": 10.0**-place, "chosen_on": f"{place} images", "fitted": place, "judged": place}
        fit = {"test_images": place, "test_without_label": place, "unreadable": place, "network": str(run.path)}
        judge(run, "linear-cached", {"top1": 0.5}, data="cifar10", tolerance=1e-7, **outcomes, **fit)
        judge(run, "transfer", {"cars_top1": 0.5}, data="cars", sets={"cars": {"val_score": place}}, seed=place)
        judge(run, "cluster", {"acc": 0.5}, kmeans=10 + place, label_classes=10 + place, silhouette=f"{place} images")
    other = write_run(tmp_path / "other", None, epochs=100, method={"name": "twist"})
    judge(other, "linear-cached", {"top1": 0.5}, data="cifar10", tolerance=1e-7, strength=9.0, fitted=9)
    comparison = gemel.compare([*runs, other], published=False)
    assert comparison.groups[0].scores == {
        Column("cluster", "acc"): (0.5, 0.5),
        Column("linear-cached", "top1"): (0.5, 0.5),
        Column("transfer", "cars_top1"): (0.5, 0.5),
    }
    assert kinds(comparison, 1) == ["epochs"]


def test_one_run_by_several_seeds_counts_and_data(tmp_path: Path) -> None:
    (run, _) = two_seeds(tmp_path)
    for place in range(2):
        judge(run, "semi", {"top1": 0.5}, f"seed-{place}", data="cifar10", seed=place)
        judge(run, "cluster", {"kmeans_acc": 0.5}, f"k-{place}", data="cifar10", kmeans=10 + place, label_classes=10)
        judge(run, "knn", {"top1": 0.5}, f"data-{place}", data=f"set-{place}", k=20)
        judge(run, "transfer", {"cars_top1": 0.5}, f"again-{place}", data="cars,pets"[: 4 + 5 * place])
    found = {(column.protocol, column.options) for column in gemel.compare([run], published=False).columns}
    assert found == {
        *(("semi", f"seed {place}") for place in range(2)),
        *(("cluster", f"kmeans {count}") for count in ("as many as labels", 11)),
        *(("knn", f"data set-{place}") for place in range(2)),
        ("transfer", ""),
    }
    scores = gemel.compare([run], published=False).groups[0].scores
    assert scores[Column("transfer", "cars_top1")] == (0.5,), "asked twice, one value"


def test_recorded_options_are_the_rules(tmp_path: Path) -> None:
    """Whatever else a result says is an outcome: nothing has to be listed for a new protocol."""
    runs = two_seeds(tmp_path)
    for place, run in enumerate(runs):
        options = {"k": [20], "seed": place, "strength": None}
        judge(run, "new", {"top1": 0.5}, data="cifar10", options=options, split="x", k=20, chosen=place, lr=10.0**place)
    assert gemel.compare(runs, published=False).groups[0].scores == {Column("new", "top1"): (0.5, 0.5)}
    other = write_run(tmp_path / "other", None, epochs=100, method={"name": "twist"})
    judge(other, "new", {"top1": 0.5}, data="cifar10", options={"k": [5], "seed": 0, "strength": None}, split="x")
    comparison = gemel.compare([*runs, other], published=False)
    assert next(mark.words for mark in comparison.marks(comparison.groups[1])) == "protocol: new with k 5, first row 20"


def test_marks_are_of_the_judged_data(tmp_path: Path) -> None:
    """Trained on different images, judged on the same, and the other way round."""
    first = write_run(tmp_path / "first", None, images="stl10", method={"name": "twist"})
    second = write_run(tmp_path / "second", None, images="cifar10", method={"name": "twist"})
    third = write_run(tmp_path / "third", None, images="stl10", epochs=100, method={"name": "twist"})
    for run, data in ((first, "cifar10"), (second, "cifar10"), (third, "folder/cifar100")):
        judge(run, "linear", {"top1": 0.5}, data=data, split="a test set")
    comparison = gemel.compare([first, second, third])
    assert kinds(comparison, 1) == []
    assert [mark.words for mark in comparison.marks(comparison.groups[2])][:1] == ["data cifar100, first row cifar10"]
    marks = {one.row.data: [mark.kind for mark in one.marks] for one in comparison.neighbours}
    assert "data" not in marks["CIFAR-10"]
    assert "protocol" not in marks["CIFAR-10"], "a test set is a test set"
    assert "data" in marks["ImageNet-1k"]


def test_semi_meets_its_rows_beside_finetune(tmp_path: Path) -> None:
    (run, other) = two_seeds(tmp_path)
    for percent in (1, 10):
        rules = FIT | {"recipe": f"twist, {percent} %"}
        judge(run, "semi", {"top1": 0.5}, str(percent), data="imagenet", percent=percent, **rules)
    judge(run, "finetune", {"top1": 0.75}, data="imagenet", **FIT)
    judge(other, "semi", {"top1": 0.5}, data="imagenet", percent=10, **FIT | {"recipe": "twist, 10 %"})
    comparison = gemel.compare([run, other])
    semi = [column for column in comparison.columns if column.protocol == "semi"]
    assert [column.options for column in semi] == ["percent 1", "percent 10"]
    for column, data in zip(semi, ("ImageNet-1k 1% labels", "ImageNet-1k 10% labels"), strict=True):
        beside = [one for one in comparison.neighbours if column in one.values]
        assert len(beside) > 10
        assert {(one.row.metric, one.row.data) for one in beside} == {("fine-tune top1", data)}
        assert not any(mark.kind == "data" for one in beside for mark in one.marks)
    tuned = [one for one in comparison.neighbours if Column("finetune", "top1") in one.values]
    whole = [one for one in tuned if one.row.data == "ImageNet-1k 100% labels"]
    assert whole
    assert not any(mark.kind == "data" for one in whole for mark in one.marks)


def test_semi_on_other_data_meets_none(tmp_path: Path) -> None:
    (run, _) = two_seeds(tmp_path)
    judge(run, "semi", {"top1": 0.5}, data="cifar10", percent=1, **FIT)
    assert gemel.compare([run]).neighbours == ()


def test_two_columns_of_one_printed_metric_do_not_hide_each_other(tmp_path: Path) -> None:
    (run, _) = two_seeds(tmp_path)
    for k in (5, 20):
        judge(run, "knn", {"top1": 0.5}, str(k), data="imagenet", k=k)
    values = [set(one.values) for one in gemel.compare([run]).neighbours]
    assert {Column("knn", "top1", "k 5"), Column("knn", "top1", "k 20")} in values


@pytest.mark.parametrize("protocol", ["transfer", "transfer-finetune"])
def test_transfer_meets_the_rows_of_each_set(tmp_path: Path, protocol: str) -> None:
    (run, _) = two_seeds(tmp_path)
    judge(run, protocol, {metric: value for metric, (value, _, _) in SETS.items()}, data="all")
    comparison = gemel.compare([run])
    for metric, (_, printed, data) in SETS.items():
        printed = printed if protocol == "transfer" else printed.replace("linear", "fine-tune")
        beside = met(comparison, metric)
        assert {row[:2] for row in beside} == {(printed, data)}
        assert not any("data" in row[2] for row in beside)


def test_voc07_meets_its_rows(tmp_path: Path) -> None:
    (run, _) = two_seeds(tmp_path)
    judge(run, "voc07", {"map_area": 0.8, "map_area_4": 0.4}, data="voc2007 trainval")
    comparison = gemel.compare([run])
    assert {row[:2] for row in met(comparison, "map_area")} == {("linear SVM mAP", "VOC07")}
    assert met(comparison, "map_area_4") == set()
    assert "80.0" in comparison.short_table().rows[0]


def test_many_scores_stand_below_each_other(tmp_path: Path) -> None:
    runs = two_seeds(tmp_path)
    for run in runs:
        judge(run, "transfer", {metric: value for metric, (value, _, _) in SETS.items()}, data="all")
    wider = write_run(tmp_path / "other", None, epochs=100, method={"name": "twist"})
    judge(wider, "knn", {"top1": 0.9}, data="cifar10")
    comparison = gemel.compare([*runs, wider])
    table = comparison.short_table()
    assert table.heads == ("score", "TWIST, epochs 800", "TWIST, epochs 100", "nearest printed:")
    assert [row[0] for row in table.rows] == [
        "seeds",
        *(str(one).replace("_", " ") for one in comparison.columns),
        "mark",
    ]
    assert {len(row) for row in table.rows} == {4}
    cells = {row[0]: row[1:] for row in table.rows}
    assert cells["seeds"][:2] == ("2", "1")
    assert cells["transfer cars top1"][:2] == ("60.0 ± 0.0", "")
    assert cells["transfer average"][0] == "60.0 ± 0.0"
    assert cells["knn top1"][1] == "90.0"
    nearest = next(one for one in comparison.neighbours if Column("transfer", "cars_top1") in one.values)
    assert cells["transfer cars top1"][2].startswith(f"{nearest.row.value:.1f} {nearest.row.method}")
    assert nearest.row.method == "TWIST", "of equally near ones our own method"
    assert comparison.html().count("transfer cars_top1 by run") == 1, "a chart of each"


def test_numbers_that_are_no_scores_are_left_out(tmp_path: Path) -> None:
    (run, _) = two_seeds(tmp_path)
    judge(run, "linear", {"top1": 0.5, "best_top1": 0.6, "best_epoch": 3, "lr": 0.3, "lr_0.3_top1": 0.5}, data="x")
    assert [column.metric for column in gemel.compare([run]).columns] == ["top1", "best_top1"]
