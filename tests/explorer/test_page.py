"""The explorer as one file: what it holds, and that no name of a file or a class is anything but text."""

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gemel
from gemel.data.sources import open_source
from gemel.evaluations.features import Seen
from gemel.evaluations.image_map.explorer_page import write_map_and_page
from gemel.reports import explorer
from gemel.reports.explorer import PictureFacts, edits_of, neighbours, renew_edits, write_explorer
from gemel.runs.class_names import write_names

WEB = Path(__file__).parents[2] / "web"


def test_the_built_page_is_that_of_the_sources() -> None:
    """Fails after a change in web/: `make web` builds src/gemel/reports/explorer.html anew."""
    names = ["build.mjs", "package.json", "page.html", "style.css", *(f"src/{path.name}" for path in WEB.glob("src/*"))]
    total = hashlib.sha256()
    for name in sorted(names):
        total.update(f"{name}\n".encode())
        total.update((WEB / name).read_bytes())
    assert f"sources {total.hexdigest()} " in explorer.SHELL.read_text(encoding="utf-8")


def test_only_the_pages_own_script_may_run() -> None:
    shell = explorer.SHELL.read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", shell, re.DOTALL)
    assert len(scripts) == 1
    hashed = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', shell)
    assert policy and f"script-src 'sha256-{hashed}'" in policy[1] and "default-src 'none'" in policy[1]
    assert "innerHTML" not in shell and "eval(" not in shell and "://" not in re.sub(r"<!--.*?-->", "", shell)


def json_of(page: str, name: str) -> Any:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_names_that_would_be_code_are_text(explored: gemel.Run) -> None:
    write_names(explored, {1: "</script><script>alert(1)</script>", 2: "<!--", 3: "\u202e" + "x" * 99})
    table = explored.map()
    assert table is not None
    renew_edits(explored, table)
    page = explored.explorer_path.read_text(encoding="utf-8")
    assert page.count("<script>") == 1 and "alert(1)</script>" not in page
    assert json_of(page, "edits")["names"]["1"] == "</script><script>alert(1)</script>"
    found = re.search(r'id="paths">([^<]*)', page)
    assert found
    names = json.loads(base64.b64decode(found[1]))["names"]
    assert "<script>document.title=1<!--.png" in names and "not utf-8 \\udcff\\udcfe.png" in names
    again = explored.explorer_path.read_bytes()
    renew_edits(explored, table)
    assert explored.explorer_path.read_bytes() == again


def test_a_page_of_some_of_the_images(explored: gemel.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer, "IN_A_FILE", 50)
    table = explored.map()
    assert table is not None
    write_explorer(explored, table, PictureFacts(0, "png", 16), ())
    page = explored.explorer_path.read_text(encoding="utf-8")
    assert "50 of 240 images" in page and json_of(page, "facts")["count"] == 50
    rows = np.frombuffer(neighbours(table.slice(0, 50))[: 50 * 8 * 4], "<u4")
    assert ((rows < 50) | (rows == explorer.NO_ROW)).all() and (rows < 50).any()


def test_edits_are_known_by_rows(explored: gemel.Run) -> None:
    table = explored.map()
    assert table is not None
    paths = table["path"].to_pylist()
    edits = {"gemel_edits": 1, "run": "", "moved": {paths[4]: "x", paths[9]: "y"}, "wrong": {paths[2]: True}}
    explored.write_json("edits.json", edits)
    assert edits_of(explored, table) == {"names": {}, "moved": {4: "x", 9: "y"}, "wrong": [2]}
    assert edits_of(explored, table.slice(0, 5))["moved"] == {4: "x"}


def test_without_classes_there_is_a_map(tmp_path: Path) -> None:
    (tmp_path / "evaluations").mkdir()
    (tmp_path / "run.yaml").write_text("images: shades\nmethod: {name: barlow_twins}\n")
    images = [np.full((30, 60, 3), 5 * number, np.uint8) for number in range(40)]
    features = torch.eye(40)[:, :7] + torch.arange(40)[:, None] / 40
    run = gemel.load(tmp_path)
    write_map_and_page(run, Seen(open_source(images), np.arange(40), features, None, {}))
    facts = json_of(run.explorer_path.read_text(encoding="utf-8"), "facts")
    assert facts["likely"] == 0 and facts["count"] == 40 and facts["sheets"]["side"] == 60
    table = run.map()
    assert table is not None and table["file"].null_count == 40 and table["class"][0].as_py() == []
