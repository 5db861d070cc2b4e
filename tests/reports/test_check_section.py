"""The section of a report about the images themselves."""

import shutil
from pathlib import Path
from typing import Any

import pytest

import gemel
from check_images import write_parts
from gemel.data.check.findings import KINDS, UNREADABLE, find
from gemel.data.sources import open_source
from gemel.errors import UserError
from gemel.evaluations import data_check
from gemel.evaluations.data_check import COPIES, SHOWN, described
from gemel.reports.check_section import ADVICE, check_page, check_section
from gemel.runs.run import CHECK, CHECK_TABLE, Run


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Many copies of two images, and copies of others."""
    folder = write_parts(tmp_path_factory.mktemp("photos"))
    for number in range(20):
        for copy in range(8 if number < 2 else 1):
            shutil.copy(folder / f"{number:02}.jpg", folder / f"{number:02}-copy-{copy}.jpg")
    return described(find(open_source(folder)))


def test_every_kind_has_advice() -> None:
    assert tuple(ADVICE) == KINDS


def test_pictures_are_bounded(found: dict[str, Any]) -> None:
    groups = found["shown"]["exact duplicate"]
    assert len(groups) == SHOWN
    assert [len(group) for group in groups] == [1 + COPIES] * 2 + [2] * (SHOWN - 2)
    shown = {entry["id"] for groups in found["shown"].values() for group in groups for entry in group}
    assert set(found["pictures"]) == shown
    assert all(picture.startswith("data:image/") for picture in found["pictures"].values())
    assert UNREADABLE not in found["shown"]


def test_in_words(found: dict[str, Any]) -> None:
    section = check_section(found, "check.json")
    assert section is not None
    assert section.about == "All of 74 images."
    assert section.rows[0] == ("exact duplicate", 34, ADVICE["exact duplicate"])
    strips = section.strips[0]
    assert strips.has_first
    assert strips.more == f"{34 - 2 * COPIES - (SHOWN - 2)} more in the table"
    assert strips.groups[0][0].lines == ("keep",)
    sampled = check_section(found | {"images": 1000}, "check.json")
    assert sampled is not None
    assert sampled.about.startswith("A sample of 74 of 1,000 images")
    assert check_section(None, "check.json") is None


@pytest.mark.parametrize("damage", [{"counts": 3}, {"images": "many"}, {"shown": {"dark": [[{"id": 1}]]}}])
def test_damaged(found: dict[str, Any], damage: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"check\.json is damaged: \w+"):
        check_section(found | damage, "check.json")


def test_a_picture_that_is_a_file_is_not_shown(found: dict[str, Any]) -> None:
    page = check_page("<b>", found | {"pictures": dict.fromkeys(found["pictures"], "http://x/y.png")}, [("<i>", "<u>")])
    assert "http" not in page
    assert "&lt;b&gt;" in page
    assert "<i>" not in page


def test_a_run_has_it(photos_run: Run, tmp_path: Path) -> None:
    assert (photos_run.path / CHECK_TABLE).read_text().startswith('"path","finding","of","value","about"')
    page = photos_run.report_path.read_text(encoding="utf-8")
    assert "The images themselves" in page
    copy = tmp_path / "run"
    shutil.copytree(photos_run.path, copy)
    (copy / CHECK).unlink()
    assert "The images themselves" not in gemel.report([copy]).read_text(encoding="utf-8")
    (copy / CHECK).write_text('{"images": []}')
    assert "check.json is damaged" in gemel.report([copy]).read_text(encoding="utf-8")


def test_of_many_images_a_sample(
    monkeypatch: pytest.MonkeyPatch, photos: Path, photos_run: Run, tmp_path: Path
) -> None:
    from gemel.evaluations.features import see
    from gemel.evaluations.networks import open_subject

    monkeypatch.setattr(data_check, "SAMPLE", 25)
    copy = tmp_path / "run"
    shutil.copytree(photos_run.path, copy)
    run, source = Run(copy), open_source(photos)
    data_check.check_run(run, source, see(open_subject(run), source), None)
    found = run.check()
    assert found is not None
    assert (found["images"], found["looked_at"]) == (40, 25)
