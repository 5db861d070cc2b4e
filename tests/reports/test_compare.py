"""Runs side by side: groups of seeds, marks, published rows, and every format."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import gemel
from gemel.cli.main import main
from gemel.errors import UserError
from gemel.reports.comparability import printed_metric, same
from gemel.reports.seed_groups import Column
from gemel.runs.run import MAP, Run
from reports.written_runs import kinds, write_run

TOP1 = Column("knn", "top1")


def test_seeds_are_a_group_with_mean_and_error(tmp_path: Path) -> None:
    scores = [0.80, 0.82, 0.87]
    runs = [write_run(tmp_path / f"s{seed}", one, seed=seed, threads=seed + 1) for seed, one in enumerate(scores)]
    comparison = gemel.compare([*runs, write_run(tmp_path / "long", 0.9, epochs=1000)], published=False)
    assert [len(group.runs) for group in comparison.groups] == [3, 1]
    assert [group.name for group in comparison.groups] == ["Barlow Twins, epochs 800", "Barlow Twins, epochs 1000"]
    error = math.sqrt(sum((100 * one - 83) ** 2 for one in scores) / 2 / 3)
    row = comparison.table().rows[0]
    assert f"83.0 ± {error:.1f}" in row
    assert "90.0" in comparison.table().rows[1]


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({}, [], ""),
        ({"epochs": 100}, ["epochs"], "100 epochs, first row 800"),
        ({"images": "stl10"}, ["data"], "data stl10, first row cifar10"),
        ({"backbone": {"name": "resnet50"}}, ["network"], "network resnet50, first row resnet18"),
        ({"backbone": {"name": "resnet18", "stem": "small"}}, ["network"], "network resnet18, with other options"),
        ({"k": 5}, ["protocol"], "protocol: knn with k 5, first row 20"),
        ({"split": "leave one out"}, ["protocol"], "split leave one out, first row test set x"),
        ({"top1": None}, ["unfinished"], "1 of 1 runs without scores"),
    ],
)
def test_marks_between_our_runs(tmp_path: Path, change: dict[str, Any], kind: list[str], words: str) -> None:
    first = write_run(tmp_path / "first", 0.8)
    second = write_run(tmp_path / "second", **{"top1": 0.8, "method": {"name": "twist"}, **change})
    comparison = gemel.compare([first, second], published=False)
    assert kinds(comparison, 0) == []
    assert kinds(comparison, 1) == kind
    assert words in comparison.table().rows[1][-2]


def test_a_seed_twice_is_no_repetition(tmp_path: Path) -> None:
    comparison = gemel.compare([write_run(tmp_path / name, 0.8) for name in "ab"], published=False)
    assert kinds(comparison, 0) == ["seeds"]


def test_several_results_of_one_protocol_are_columns(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 0.8)
    other = json.loads((run.path / "evaluations" / "knn-20.json").read_text())
    other["settings"]["k"], other["metrics"]["top1"] = 5, 0.7
    (run.path / "evaluations" / "knn-5.json").write_text(json.dumps(other))
    found = gemel.compare(run).columns
    assert sorted(column.options for column in found) == ["k 20", "k 5"]


def test_published_rows_stand_beside_and_say_what_differs(tmp_path: Path) -> None:
    """lightly prints k-NN of Barlow Twins, ResNet-18, CIFAR-10: 85.9 after 800 epochs at batch 512, 81.9 after 200."""
    comparison = gemel.compare([write_run(tmp_path / "run", 0.8)])
    rows = {
        (one.row.method, one.row.data, one.row.epochs): (one.values[TOP1], [mark.kind for mark in one.marks])
        for one in comparison.neighbours
    }
    assert rows[("Barlow Twins batch 512", "CIFAR-10", 800)] == (85.9, ["protocol", "form"])
    assert rows[("Barlow Twins batch 512", "CIFAR-10", 200)] == (81.9, ["protocol", "epochs", "form"])
    assert rows[("Barlow Twins batch 256", "ImageNet-1k", 100)] == (45.6, ["data", "network", "epochs", "form"])
    assert ("SimSiam batch 512", "CIFAR-10", 800) in rows  # another method on the same data
    assert all("barlow" in method.lower() or data == "CIFAR-10" for method, data, _ in rows)
    assert len(comparison.neighbours[0].marks) == min(len(one.marks) for one in comparison.neighbours)
    words = " ".join(mark.words for one in comparison.neighbours for mark in one.marks)
    for reason in ("protocol: best epoch", "200 epochs, here 800", "data ImageNet-1k, here cifar10", "form: batch 512"):
        assert reason in words


def test_leave_one_out_does_not_compare_with_a_test_set(tmp_path: Path) -> None:
    comparison = gemel.compare([write_run(tmp_path / "run", 0.8, split="leave one out")])
    for one in comparison.neighbours:
        assert any("here leave one out" in mark.words for mark in one.marks)


def test_no_scores_no_neighbours(tmp_path: Path) -> None:
    assert gemel.compare([write_run(tmp_path / "run", None)]).neighbours == ()


@pytest.mark.parametrize(
    ("column", "printed"),
    [
        (Column("cluster", "acc"), "ACC"),
        (Column("cluster", "kmeans_ami"), "k-means AMI"),
        (Column("linear", "top5"), "linear top5"),
        (Column("finetune", "mean_per_class"), "fine-tune mean per class"),
    ],
)
def test_scores_have_the_names_of_the_published_table(column: Column, printed: str) -> None:
    from gemel import published

    assert printed_metric(column) == printed
    assert published.rows(metric=printed)


def test_names_of_networks_and_data() -> None:
    assert same("ViT-B/16", "vit_base_patch16_224")
    assert same("ImageNet-1k", "imagenet")
    assert not same("ResNet-50", "ResNet-50x2")


def test_command_writes_every_format(digits_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted = write_run(tmp_path / "[red]", 0.5)
    for suffix in (".md", ".html", ".csv"):
        out = tmp_path / f"compared{suffix}"
        with pytest.raises(SystemExit) as left:
            main(["compare", str(digits_run.path), str(planted.path), "--published", "--out", str(out)])
        assert left.value.code == 0
        assert "printed:" in capsys.readouterr().out
    with (tmp_path / "compared.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    (knn,) = [result for result in digits_run.evaluations() if result["protocol"] == "knn"]
    (own,) = [row for row in rows if row["source"] == str(digits_run.path) and row["score"].startswith("knn top1")]
    assert float(own["mean"]) == knn["metrics"]["top1"]
    assert {row["unit"] for row in rows} == {"as measured", "as printed"}
    text = (tmp_path / "compared.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    page = (tmp_path / "compared.html").read_text(encoding="utf-8")
    assert page.count("<svg") > 3
    assert "<script" not in page
    assert "<link" not in page


@pytest.mark.parametrize("out", ["compared.pdf", "nowhere/compared.md"])
def test_out_is_checked_first(tmp_path: Path, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", 0.5)
    with pytest.raises(SystemExit) as left:
        main(["compare", str(run.path), "--out", str(tmp_path / out)])
    assert left.value.code == 2
    assert "--out" in capsys.readouterr().err
    with pytest.raises(UserError, match="--out"):
        gemel.compare([run]).write(tmp_path / out)


def test_nothing_to_compare() -> None:
    with pytest.raises(UserError, match="name at least one"):
        gemel.compare([])
    with pytest.raises(UserError, match="not a folder"):
        gemel.compare(["/nowhere"])


KINDS = np.arange(120) % 6


def write_map(run: Run, noise: float, seed: int, *, paths: str = "{}.png") -> Run:
    """A map whose neighbours are seen through so much noise; its rows in an order of their own."""
    random = np.random.default_rng(seed)
    rows = np.eye(6)[KINDS] + noise * random.normal(size=(120, 6))
    far = np.linalg.norm(rows[:, None] - rows[None], axis=2) + 1e9 * np.eye(120)
    order = random.permutation(120)
    place = np.argsort(order)
    near = place[np.argsort(far[order], axis=1)[:, :8]].astype(np.int32)
    columns: dict[str, Any] = dict.fromkeys(
        ["file", "x", "y", "level", "part", "similarity", "class", "probability"], order
    )
    columns |= {"index": order, "path": [paths.format(one) for one in order], "neighbours": list(near)}
    facts = {"images": "120", "classes": "0"}
    parquet.write_table(pa.table(columns).replace_schema_metadata(facts), run.path / MAP)
    return run


def noisy(folder: Path, noises: list[float]) -> list[Run]:
    runs = [write_run(folder / f"n{noise:g}", 0.8, epochs=100 + one) for one, noise in enumerate(noises)]
    return [write_map(run, noise, seed) for seed, (run, noise) in enumerate(zip(runs, noises, strict=True))]


def test_the_run_to_take_is_told_without_labels(tmp_path: Path) -> None:
    comparison = gemel.compare(noisy(tmp_path, [2.0, 0.6, 0.1, 50.0]), published=False)
    told = comparison.advice
    assert "Without labels, Barlow Twins, epochs 102 is the one to take, a hint only, as there are few" in told
    order = [told.index(f"epochs {100 + one}:") for one in (2, 1, 0, 3)]
    assert order == sorted(order)
    assert told in comparison.short_table().note
    assert told in comparison.markdown()


def test_maps_of_other_images_tell_nothing(tmp_path: Path) -> None:
    runs = noisy(tmp_path, [0.1, 0.6, 2.0])
    assert gemel.compare(runs[:2]).advice == ""
    write_map(runs[2], 2.0, 5, paths="other/{}.png")
    assert gemel.compare(runs).advice == ""


def test_a_damaged_map_is_named(tmp_path: Path) -> None:
    runs = noisy(tmp_path, [0.1, 0.6, 2.0, 3.0])
    (runs[3].path / MAP).write_bytes(b"PAR1")
    comparison = gemel.compare(runs)
    assert "epochs 100 is the one to take" in comparison.advice
    assert any(MAP in one for one in comparison.problems)
