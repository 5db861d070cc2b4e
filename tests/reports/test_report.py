"""The report: one page from a run's folder, whatever the folder holds."""

import csv
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet

from gemel.errors import UserError
from gemel.reports import build_report
from gemel.reports.compare import compare_runs
from gemel.runs.run import Run

HOSTILE = "\"><script>alert('x')</script><img src=x onerror=alert(1)>"
PIXEL = "data:image/png;base64," + (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """What a browser would see: tags, attributes, text; fails on tags that do not match."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(self.source)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "

    def values(self, name: str) -> list[str]:
        return [value for _, own, value in self.attributes if own == name]


def metrics_rows(steps: int = 60, **columns: Sequence[float | str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for step in range(steps):
        row: dict[str, Any] = {
            "stage": "pretrain", "epoch": step // 20, "step": step + 1, "progress": (step + 1) / steps,
            "loss": 1 - step / steps, "consistency": 0.1, "sharpness": 0.5, "diversity": 1.0, "lr": 0.001,
            "images_per_second": 900 + step,
        }  # fmt: skip
        if step % 20 == 19:
            row |= {"rankme": 4 + step, "rankme_limit": 64, "classes_used": 3, "classes": 4, "knn": 0.9, "acc": 0.8}
        rows.append(row | {name: values[step] for name, values in columns.items()})
    return rows


def write_metrics(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with (folder / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)


def write_run(folder: Path, *, word: str = "digits", seed: int = 0) -> Run:
    """Write all the files of a run; `word` stands wherever a user's own text can."""
    (folder / "evaluations").mkdir(parents=True)
    settings = {
        "images": word, "method": {"name": "twist", "alpha": 1.2}, "backbone": {"name": "convnet"}, "epochs": 3,
        "batch_size": 32, "classes": 4, "labels": None, "seed": seed, "optimizer": {"name": "adamw", "lr": 0.001},
    }  # fmt: skip
    (folder / "run.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    write_metrics(folder, metrics_rows())
    terms = {name: f"reading of {name}" for name in ("consistency", "sharpness", "diversity")}
    method = {"title": "TWIST", "terms": terms, "advice": {"one_class": "raise --method.beta"}, "protocols": {}}
    facts = {"python": "3.11", "host": word, "method": method}
    (folder / "environment.json").write_text(json.dumps(facts), encoding="utf-8")
    (folder / "rejected.csv").write_text("path,reason\n", encoding="utf-8")
    Run(folder).write_rejected({f"{word}/{index}.jpg": f"truncated {word}" for index in range(130)})
    table = pa.table({
        "path": [f"{word}/{index}" for index in range(10)],
        "class": [0, 0, 0, 0, 0, 1, 1, 1, 3, 3],
        "probability": [0.9] * 10,
        "label": [word] * 6 + ["b"] * 3 + [None],
    })  # fmt: skip
    parquet.write_table(table, folder / "classes.parquet")
    write_gallery(folder, word, PIXEL)
    result = {"protocol": "knn", "metrics": {"top1": 0.984, "odd": math.nan}, "settings": {"k": 20, "data": word}}
    (folder / "evaluations" / "knn-12ab.json").write_text(json.dumps(result), encoding="utf-8")
    return Run(folder)


def write_gallery(folder: Path, word: str, picture: str) -> None:
    def entry(place: int, **more: float) -> dict[str, Any]:
        return {"id": str(place), "path": f"{word}/{place}", "label": word, **more}

    classes = [
        {
            "class": name,
            "count": count,
            "probability": 0.9,
            "certain": [entry(place, probability=0.99) for place in range(min(count, 3))],
            "uncertain": [entry(place, probability=0.4) for place in range(3, min(count, 5))],
        }
        for name, count in ((0, 5), (1, 3), (3, 2), (2, 0))
    ]
    neighbours = [{"query": entry(0), "neighbours": [entry(1, similarity=0.98), entry(2, similarity=0.9)]}]
    gallery = {"pictures": {str(place): picture for place in range(6)}, "classes": classes, "neighbours": neighbours}
    (folder / "evaluations" / "gallery.json").write_text(json.dumps(gallery), encoding="utf-8")


def read_report(*runs: Run) -> Page:
    return Page(build_report(runs))


def test_page_stands_in_the_run_and_nothing_else_is_left(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one")
    before = {path.name for path in run.path.iterdir()}
    assert build_report([run]) == run.report_path
    assert {path.name for path in run.path.iterdir()} == before | {"report.html"}
    first = run.report_path.read_bytes()
    assert build_report([run], tmp_path / "there" / "page.html").read_bytes() == first


def test_page_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    page = read_report(write_run(tmp_path / "one"), write_run(tmp_path / "two"))
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert "http://" not in page.source and "https://" not in page.source
    assert "url(" not in page.source and "@import" not in page.source
    assert all(value.startswith("#") for value in page.values("href"))
    assert all(value.startswith("data:image/") for value in page.values("src"))
    assert not page.values("srcset")
    assert {value[1:] for value in page.values("href")} <= set(page.values("id"))


def test_other_peoples_text_is_only_text(tmp_path: Path) -> None:
    run = write_run(tmp_path / "<b>&'", word=HOSTILE)
    write_metrics(run.path, metrics_rows(60, **{f"<i>{HOSTILE}": [1.0] * 60}))
    for page in (read_report(run), read_report(run, write_run(tmp_path / "other", word=HOSTILE))):
        assert not {"script", "b>&'", "i"} & set(page.tags)
        assert not [name for _, name, _ in page.attributes if name.startswith("on")]
        assert all(value.startswith("data:image/") for value in page.values("src"))
        assert "<script>alert('x')</script>" in page.text


def test_the_sections_come_in_order(tmp_path: Path) -> None:
    page = read_report(write_run(tmp_path / "one"))
    sections = ["curves", "scores", "classes", "neighbours", "rejected", "settings"]
    assert page.values("id") == [f"run0-{name}" for name in sections]
    before = page.source[: page.source.index('id="run0-curves"')]
    assert before.index("<h1>TWIST on digits</h1>") < before.index('aria-label="Verdict"') < before.index("Final loss")


def test_numbers_are_told(tmp_path: Path) -> None:
    text = read_report(write_run(tmp_path / "one")).text
    assert "98.4 %" in text and "not finite" in text
    assert "1 class holds no image:" in text
    assert "5 images (50.0 %)" in text and "mostly “digits”" in text
    assert "130 files were left out" in text and "The first 100;" in text
    assert "method.alpha" in text and "1.2" in text


def test_the_classes_and_k_means_stand_side_by_side(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one")
    metrics = {"nmi": 0.6, "acc": 0.7, "kmeans_nmi": 0.5, "kmeans_acc": 0.8, "kmeans_ari": 0.4}
    result = {"protocol": "cluster", "metrics": metrics, "settings": {"data": "digits", "split": "all"}}
    (run.path / "evaluations" / "cluster-34cd.json").write_text(json.dumps(result), encoding="utf-8")
    text = " ".join(read_report(run).text.split())
    assert "Clustering digits, all classes k-means accuracy 70.0 % 80.0 % NMI 0.600 0.500 ARI – 0.400" in text


def test_the_gravest_finding_is_the_verdict(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one")
    assert "Healthy" in read_report(run).text
    write_metrics(run.path, metrics_rows(loss=[1.0] * 59 + ["nan"]))
    assert "Not usable" in read_report(run).text


def test_every_picture_is_there_once_for_each_place(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one")
    # class 0: 3 and 2, class 1: 3, class 3: 2, an image with two neighbours
    assert read_report(run).tags.count("img") == 3 + 2 + 3 + 2 + 3
    assert set(read_report(run).values("src")) == {PIXEL}


def test_a_gallery_cannot_make_the_page_load_a_file(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one")
    write_gallery(run.path, "digits", "https://example.org/x.png")
    assert "img" not in read_report(run).tags


@pytest.mark.parametrize(
    "missing", ["metrics.csv", "environment.json", "rejected.csv", "classes.parquet", "evaluations/gallery.json",
                "evaluations/knn-12ab.json"]
)  # fmt: skip
def test_a_missing_file_costs_only_its_section(tmp_path: Path, missing: str) -> None:
    run = write_run(tmp_path / "one")
    (run.path / missing).unlink()
    page = read_report(run)
    assert "TWIST on digits" in page.text and "All settings" in page.text


@pytest.mark.parametrize("damage", [b"", b"[]", b"{", b"\xff\xfe\0", b"null", b"3", b"a,b\n1\n2,3\n"])
@pytest.mark.parametrize(
    "name", ["metrics.csv", "environment.json", "rejected.csv", "classes.parquet", "evaluations/gallery.json",
             "evaluations/bottleneck.json", "evaluations/knn-12ab.json", "classes.yaml"]
)  # fmt: skip
def test_a_damaged_file_costs_only_its_section(tmp_path: Path, name: str, damage: bytes) -> None:
    run = write_run(tmp_path / "one")
    other = json.dumps({"protocol": "linear", "metrics": {"top1": 0.875}, "settings": {}})
    (run.path / "evaluations" / "linear-34cd.json").write_text(other)
    (run.path / name).write_bytes(damage)
    page = read_report(run)
    assert "TWIST on digits" in page.text and "All settings" in page.text and "87.5 %" in page.text
    empty = {"metrics.csv": (b"",), "rejected.csv": (b"",), "classes.yaml": (b"", b"null")}
    if damage not in empty.get(name, ()) and (name, damage) not in HARMLESS:
        assert "Damaged files are left out" in page.text and f"{run.path / name} " in page.text


HARMLESS = {(name, text) for name in ("metrics.csv", "rejected.csv") for text in (b"[]", b"{", b"null", b"3")}
"""a head and no row"""


@pytest.mark.parametrize(
    "gallery",
    [
        {"classes": 3},
        {"classes": [{"class": 0}]},
        {"pictures": {"0": 3}},
        {"neighbours": [{"query": {"id": "0", "path": "a"}, "neighbours": [{}]}]},
        {"classes": [{"class": "x", "count": 1, "probability": 1, "certain": [], "uncertain": []}]},
    ],
)
def test_a_gallery_of_another_form_is_left_out(tmp_path: Path, gallery: dict[str, Any]) -> None:
    run = write_run(tmp_path / "one")
    (run.path / "evaluations" / "gallery.json").write_text(json.dumps(gallery))
    page = read_report(run)
    assert "gallery.json is damaged" in page.text and "img" not in page.tags
    assert "10 images in 3 classes" in page.text, "classes.parquet is whole"


def test_a_picture_that_is_none_stays_a_string(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one")
    write_gallery(run.path, "digits", "data:image/png;base64," + "é" * 40)
    assert "img" in read_report(run).tags


@pytest.mark.parametrize(
    "changed",
    [{"epochs": "many"}, {"method": 3}, {"seed": None}, {"backbone": [1]}, {"images": 3}, {"optimizer": "lars"}],
)
def test_settings_of_another_type_are_shown_as_they_are(tmp_path: Path, changed: dict[str, Any]) -> None:
    run = write_run(tmp_path / "one")
    (run.path / "run.yaml").write_text(yaml.safe_dump(run.settings | changed))
    assert "All settings" in read_report(run).text
    assert "<svg" in compare_runs([run, write_run(tmp_path / "two")], published=True).html()


def test_advice_is_the_methods_own(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one")
    write_metrics(run.path, metrics_rows(classes_used=[1] * 60, classes=[4] * 60))
    assert "To try: raise --method.beta" in read_report(run).text
    (run.path / "environment.json").unlink()
    text = read_report(run).text
    assert "To try:" in text and "--method" not in text.partition("Settings and environment")[0]


def test_the_reading_of_the_terms_is_the_methods_own(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one")
    assert "Sharpness: reading of sharpness." in read_report(run).text
    (run.path / "environment.json").unlink()
    assert "Sharpness" in read_report(run).text and "reading of" not in read_report(run).text


def test_a_run_that_has_only_settings(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("method: twist\n", encoding="utf-8")
    page = read_report(Run(tmp_path))
    assert "No measurements were logged yet." in page.text and "None: every file could be read." in page.text
    (tmp_path / "metrics.csv").write_text("stage,epoch,step\n", encoding="utf-8")
    assert "No measurements were logged yet." in read_report(Run(tmp_path)).text


def test_images_without_labels_and_methods_without_classes(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one")
    table = parquet.read_table(run.path / "classes.parquet").drop_columns(["label"])
    parquet.write_table(table, run.path / "classes.parquet")
    text = read_report(run).text
    assert "Discovered classes" in text and "mostly" not in text and "against labels" not in text
    (run.path / "classes.parquet").unlink()
    (run.path / "evaluations" / "gallery.json").write_text('{"pictures": {}, "classes": [], "neighbours": []}')
    assert "Discovered classes" not in read_report(run).text


@pytest.mark.parametrize("bad", ["nan", "inf", ""])
def test_values_that_are_no_numbers_leave_a_gap(tmp_path: Path, bad: str) -> None:
    run = write_run(tmp_path / "one")
    losses = [0.5 if step < 40 else bad for step in range(60)]
    write_metrics(run.path, metrics_rows(loss=losses))
    page = read_report(run)
    assert "20 rows without a number" in page.text and "then not finite" in page.text
    assert not any("nan" in value or "inf" in value for value in page.values("d"))
    write_metrics(run.path, metrics_rows(loss=[bad] * 60))
    assert "Terms of the loss" in read_report(run).text


@pytest.mark.parametrize("steps", [1, 2])
def test_a_run_of_hardly_a_step(tmp_path: Path, steps: int) -> None:
    run = write_run(tmp_path / "one")
    write_metrics(run.path, metrics_rows(steps))
    assert "svg" in read_report(run).tags


def test_an_unknown_measurement_has_a_chart_of_its_own(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one")
    count = read_report(run).tags.count("svg")
    write_metrics(run.path, metrics_rows(teacher_momentum=[10.0 ** -(step / 10) for step in range(60)]))
    page = read_report(run)
    assert page.tags.count("svg") == count + 1
    assert "Teacher momentum" in page.text and "log scale" in page.text


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one")
    write_metrics(run.path, metrics_rows()[:30])
    assert "50.0 % done" in read_report(run).text
    assert "done" not in read_report(write_run(tmp_path / "two")).text


def test_several_runs_share_their_charts(tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "a" / "run"), write_run(tmp_path / "b" / "run", seed=7)
    write_metrics(two.path, metrics_rows(invariance=[3.0] * 60))
    page = read_report(one, two)
    assert one.report_path.is_file() and not two.report_path.exists()
    assert "2 runs compared" in page.text and "a/run" in page.text and "b/run" in page.text
    assert page.text.count("All settings") == 2
    differing = page.text[page.text.index("What differs") : page.text.index("Curves")]
    assert "seed" in differing and "epochs" not in differing
    loss = next(
        value for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-label") and "Loss" in value
    )
    assert "a/run from" in loss and "b/run from" in loss


def test_the_same_run_twice_is_no_mistake(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one")
    assert "Nothing: the runs share every setting." in read_report(run, run).text


def test_no_run_and_no_place_are_the_users_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run was given"):
        build_report([])
    run = write_run(tmp_path / "one")
    with pytest.raises(UserError, match="can't be written"):
        build_report([run], run.path / "run.yaml" / "page.html")


def test_many_classes_stay_readable(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one")
    table = pa.table({"path": [f"{n}" for n in range(600)], "class": [n // 2 for n in range(600)],
                      "probability": [0.5] * 600, "label": [f"{n}" for n in range(600)]})  # fmt: skip
    parquet.write_table(table, run.path / "classes.parquet")
    page = read_report(run)
    assert "600 images in 300 classes" in page.text and "297 classes without pictures" in page.text


def test_no_torch_for_a_report() -> None:
    code = (
        "import sys, gemel.reports; print([name for name in ('torch', 'lightning', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
