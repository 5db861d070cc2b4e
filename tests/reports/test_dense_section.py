"""Dense results in the report, and beside the printed tables."""

import json
from pathlib import Path
from typing import Any

import pytest

import gemel
from gemel.errors import UserError
from gemel.reports.dense_section import dense_sections
from gemel.runs.run import Run
from reports.written_runs import write_run

PICTURE = "data:image/jpeg;base64,/9j/4AAQ"


def written(folder: Path, protocol: str, metrics: dict[str, float], **settings: Any) -> Run:
    run = write_run(folder, None, backbone={"name": "resnet50"}, method={"name": "twist"})
    place = f"evaluations/{protocol}-key"
    rows = [{"path": "a.jpg", "truth": PICTURE, "found": PICTURE}, {"path": "b.jpg", "truth": PICTURE, "found": ""}]
    (run.path / place).mkdir()
    (run.path / place / "pictures.json").write_text(json.dumps(rows))
    result = {"protocol": protocol, "metrics": metrics, "settings": {"predictions": place, **settings}}
    (run.path / "evaluations" / f"{protocol}-hash.json").write_text(json.dumps(result))
    return run


def test_pictures_stand_in_the_report(tmp_path: Path) -> None:
    run = written(tmp_path / "run", "detection", {"ap": 0.581, "ap50": 0.842}, data="voc0712")
    (section,) = dense_sections(run, run.evaluations())
    assert section.about == "voc0712, AP 0.581, AP50 0.842"
    assert [one.path for one in section.pictures] == ["a.jpg", "b.jpg"]
    page = gemel.report([run]).read_text(encoding="utf-8")
    assert page.count(PICTURE) == 3
    assert "Detection: what was found" in page
    assert 'href="#run0-dense0"' in page


def test_what_is_no_picture_stays_out(tmp_path: Path) -> None:
    run = written(tmp_path / "run", "segmentation", {"miou": 0.5})
    file = run.path / "evaluations/segmentation-key/pictures.json"
    for rows in ([{"path": "a", "truth": "https://example.com/a.png", "found": ""}], [{"path": "a"}], [3]):
        file.write_text(json.dumps(rows))
        with pytest.raises(UserError):
            dense_sections(run, run.evaluations())
        page = gemel.report([run]).read_text(encoding="utf-8")
        assert "example.com" not in page
        assert "Damaged files are left out" in page


def rows_beside(run: Run) -> set[tuple[str, str, str]]:
    found = gemel.compare([run]).neighbours
    return {
        (one.row.table.partition(" detection")[0].partition(" semantic")[0], one.row.network, one.row.data)
        for one in found
    }


def test_printed_tables_stand_beside_their_like(tmp_path: Path) -> None:
    metrics = {"ap": 0.581, "ap50": 0.842, "ap75": 0.654}
    fpn = written(tmp_path / "fpn", "detection", metrics, data="voc0712", detector="fpn", comparable="yes")
    assert rows_beside(fpn) == {
        ("TWIST Table 5", "ResNet-50-FPN", "VOC07+12"),
        ("TWIST README", "ResNet-50-FPN", "VOC07+12"),
    }
    twist = next(one for one in gemel.compare([fpn]).neighbours if one.row.table.startswith("TWIST Table 5 det") and
                 one.row.method == "TWIST")  # fmt: skip
    assert sorted(twist.values.values()) == [58.1, 65.4, 84.2]
    assert "network" not in [mark.kind for mark in twist.marks]
    assert "58.1" in " ".join(gemel.compare([fpn]).short_table().rows[0])
    c4 = written(tmp_path / "c4", "detection", metrics | {"mask_ap": 0.3}, data="coco", detector="c4", comparable="yes")
    assert rows_beside(c4) == {("Barlow Twins Table 4", "ResNet-50-C4", "COCO")}
    other = written(tmp_path / "no", "detection", metrics, data="voc0712", detector="fpn", comparable="no: steps 6")
    assert rows_beside(other) == set()
    fcn = written(tmp_path / "fcn", "segmentation", {"miou": 0.7}, data="voc2012aug", head="fcn", comparable="yes")
    assert rows_beside(fcn) == {("TWIST Table 6", "ResNet-50 FCN-FPN", "VOC")}
