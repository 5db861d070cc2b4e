"""The explorer in a real browser: from the disk without a network, and served."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gemel
from gemel.cli.main import main
from gemel.explorer.server import ExplorerServer
from gemel.runs.class_names import read_names
from gemel.runs.edits import read_edits

HOSTILE = "<b>\"Æ'</b> \u202e\u05e9\u05dc\u05d5\u05dd"


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that fails its test where a script fails or anything is asked of the network."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    found = context.new_page()
    wrong: list[str] = []
    found.on("pageerror", lambda error: wrong.append(str(error)))
    found.on("console", lambda line: wrong.append(line.text) if line.type in ("error", "warning") else None)
    found.wrong = wrong
    yield found
    assert not wrong
    context.close()


def until(page: Any, expression: str) -> None:
    """Wait until an expression is true; the page's policy forbids what Playwright's own waiting does."""
    end = time.monotonic() + 20
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        time.sleep(0.02)


def opened(page: Any, address: str) -> None:
    page.goto(address)
    page.wait_for_selector("html[data-ready]", timeout=20_000)
    until(page, "window.explorer.sheets.loaded.size > 0 && !window.explorer.map.pending")


def lasso(page: Any, points: list[tuple[float, float]]) -> None:
    """Draw around places of the screen."""
    page.click("#lasso")
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point)
    page.mouse.up()


def lasso_everything(page: Any) -> None:
    box = page.locator("#map").bounding_box()
    left, top, right, bottom = box["x"] + 2, box["y"] + 2, box["x"] + box["width"] - 60, box["y"] + box["height"] - 2
    lasso(page, [(left, top), (right, top), (right, bottom), (left, bottom)])


def groups(page: Any) -> dict[str, int]:
    return dict(page.evaluate("window.explorer.edits.groups.map((one) => [one.name, one.rows.length])"))


def edit_everything(page: Any) -> tuple[dict[str, int], list[str]]:
    """Name, merge, move and take out by the page's own buttons; return the groups, and the paths of the ten moved."""
    lasso_everything(page)
    assert page.locator("#panel h2").inner_text() == "240 images selected"
    assert page.locator("#panel .kind").count() >= 3, "three classes' worth"
    page.click("#tabs [data-view=classes]")
    first, second, third = (page.locator("#panel .class .name").nth(place).inner_text() for place in range(3))
    page.click("#panel .class >> nth=0")
    page.fill("[data-key=rename]", HOSTILE)
    page.click("text=Rename")
    assert page.locator("#panel h2").inner_text().strip() == HOSTILE
    page.click("[data-key=back]")
    page.locator(f'[data-key="class-{third}"]').click()
    page.select_option("[data-key=into]", second)
    page.click("text=Select all")
    page.click("text=Clear")
    page.click("#tabs [data-view=classes]")
    page.locator("#panel .class", has_text=HOSTILE).click()
    for place in range(10):
        page.locator("#panel .tile").nth(place).click(modifiers=["Control"])
    page.click("#tabs [data-view=selection]")
    ten = page.evaluate("[...window.explorer.map.selected].map((row) => window.explorer.pathOf(row))")
    page.fill("[data-key=move]", "ten")
    page.click("#panel form button")
    page.locator("#panel .tile").first.click()
    page.click("[data-key=wrong]")
    assert page.evaluate("window.explorer.edits.now.wrong.size") == 1
    page.keyboard.press("Control+z")
    assert page.evaluate("window.explorer.edits.now.wrong.size") == 0
    page.keyboard.press("Control+Shift+z")
    assert page.evaluate("window.explorer.edits.now.wrong.size") == 1
    found = groups(page)
    assert found["ten"] == 10 and first not in found and third not in found and HOSTILE in found
    return found, ten


def sorted_into(run: gemel.Run, folder: Path, *words: str) -> dict[str, int]:
    """Return the folders that classify makes, with the number of links in each."""
    with pytest.raises(SystemExit) as left:
        main(["classify", str(run.path), "--out", str(folder.with_suffix(".csv")), "--into", str(folder), *words])
    assert left.value.code == 0
    return {path.name: len(list(path.iterdir())) for path in folder.iterdir()}


def check_folders(folders: dict[str, int], found: dict[str, int]) -> None:
    """Hold the folders against the groups of the page; one of the ten images is wrong."""
    assert folders.pop("wrong") == 1
    assert folders.pop("0008-ten") == 9
    named = next(name for name in folders if name.endswith("-" + re.sub(r"[^\w. -]", "_", HOSTILE)))
    assert folders.pop(named) == found[HOSTILE]
    left = {int(name.partition("-")[0]): count for name, count in folders.items()}
    assert sorted(left.values()) == sorted(
        count for name, count in found.items() if name not in ("ten", HOSTILE) and count
    )


def test_from_the_disk_edits_come_back(page: Any, explored: gemel.Run, tmp_path: Path) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.context.set_offline(True)
    opened(page, explored.explorer_path.as_uri())
    found, ten = edit_everything(page)
    with page.expect_download() as download:
        page.click("#save")
    saved = tmp_path / "edits.json"
    download.value.save_as(saved)
    changes = json.loads(saved.read_text(encoding="utf-8"))
    assert sorted(changes["moved"]) == sorted(ten) and set(changes["moved"].values()) == {"ten"}
    check_folders(sorted_into(explored, tmp_path / "sorted", "--edits", str(saved)), found)
    assert {url.partition(":")[0] for url in asked} <= {"file", "blob"}
    assert [url for url in asked if url.startswith("file")] == [explored.explorer_path.as_uri()]
    opened(page, explored.explorer_path.as_uri())
    assert groups(page) == found, "the page starts from what was applied"
    assert page.locator("#undo").is_disabled()


def test_served_edits_go_into_the_run(
    page: Any, explorer_server: ExplorerServer, explored: gemel.Run, tmp_path: Path
) -> None:
    opened(page, explorer_server.address)
    found, ten = edit_everything(page)
    until(page, "document.getElementById('written').textContent === 'edits go into the run'")
    assert HOSTILE in read_names(explored).values() and sorted(read_edits(explored).moved) == sorted(ten)
    check_folders(sorted_into(explored, tmp_path / "sorted"), found)
    opened(page, explorer_server.address)
    assert groups(page) == found
    page.locator("#panel .class").first.click()
    page.locator("#panel .tile").first.click()
    until(page, "document.querySelector('img.large')?.naturalWidth === 16")


def test_zoom_keys_search_and_names_of_files(page: Any, explored: gemel.Run, tmp_path: Path) -> None:
    opened(page, explored.explorer_path.as_uri())
    shown = "window.explorer.map.pictures().rows.length"
    before = page.evaluate(shown)
    page.focus("#map")
    for _ in range(4):
        page.keyboard.press("+")
    until(page, f"window.explorer.camera.level > 3 && {shown} > 0")
    page.keyboard.press("0")
    assert page.evaluate(shown) == before
    page.keyboard.press("Enter")
    assert "class" in page.locator("#status").inner_text()
    page.wait_for_selector("text=Nearest neighbours")
    table = explored.map()
    assert table is not None
    for row, path in enumerate(table["path"].to_pylist()):
        if "/a/0" not in path:  # the odd ones
            page.evaluate(f"window.explorer.open({row})")
            assert page.locator("#panel h2").text_content() == path.rpartition("/")[2]
            assert page.locator("#panel .path").text_content() == path
    assert page.title() == "run: TWIST on images" and page.locator("#panel img, #panel script").count() == 0
    page.fill("#search", "not utf-8")
    assert page.locator("#found").inner_text() == "1 match"
    page.press("#search", "Enter")
    assert page.locator("#panel h2").inner_text() == "1 image selected"
    (tmp_path / "t.csv").write_text('path;size\n0100.png;3\nx/0101.png;"4"\n', encoding="utf-8")
    page.set_input_files("#join", tmp_path / "t.csv")
    until(page, "document.getElementById('status').textContent === 't.csv: 2 rows, 1 column'")
    assert page.locator("#colour option:checked").inner_text() == "size"
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
