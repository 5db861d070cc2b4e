"""The explorer's server: what it answers, and to whom it does not."""

import http.client
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import gemel
from gemel.cli.main import main
from gemel.explorer.server import HOST, ExplorerServer
from gemel.runs.class_names import read_names
from gemel.runs.edits import read_edits


def ask(
    server: ExplorerServer, path: str, *, method: str = "GET", body: Any = None, **headers: str
) -> tuple[int, str, bytes]:
    """Return status, type and body of an answer; `path` stands behind the token unless it begins with a slash."""
    connection = http.client.HTTPConnection(HOST, server.server_port, timeout=20)
    target = path if path.startswith("/") else f"/{server.token}/{path}"
    data = None if body is None else json.dumps(body).encode()
    sent = ({"Content-Type": "application/json"} if data else {}) | {
        key.replace("_", "-"): value for key, value in headers.items()
    }
    connection.request(method, target, data, sent)
    answer = connection.getresponse()
    found = answer.status, answer.headers.get_content_type(), answer.read()
    connection.close()
    return found


def test_the_page_its_blocks_and_its_pictures(explorer_server: ExplorerServer, explored: gemel.Run) -> None:
    status, kind, page = ask(explorer_server, "")
    assert (status, kind) == (200, "text/html") and b'id="facts"' in page and b'id="points"' not in page
    table = explored.map()
    assert table is not None and table.num_rows == 240
    for name, size in (("points", 240 * (2 + 2 + 2 * 8 + 2 * 8 + 2 + 1 + 1)), ("neighbours", 240 * 8 * 5)):
        status, _, block = ask(explorer_server, name)
        assert status == 200 and len(block) == size
    paths = json.loads(ask(explorer_server, "paths")[2])
    told = [paths["folders"][folder] + name for folder, name in zip(paths["folder"], paths["names"], strict=True)]
    assert told == table["path"].to_pylist()
    for _ in range(2):  # drawn, then from the run's cache
        status, kind, sheet = ask(explorer_server, "sheet-0")
        assert (status, kind) == (200, "image/png") and sheet.startswith(b"\x89PNG")
    status, kind, picture = ask(explorer_server, "picture/7")
    assert (status, kind) == (200, "image/png")
    assert picture == Path(table["file"][7].as_py()).read_bytes() or "udc" in table["file"][7].as_py()


@pytest.mark.parametrize(
    "path",
    [
        "../run.yaml", "..%2frun.yaml", "picture/../run.yaml", "picture/..%2f..%2frun.yaml", "picture//etc/passwd",
        "picture/240", "picture/-1", "picture/1/2", "picture/%D9%A3", "sheet-1", "sheet-999999999", "run.yaml", "edits",
        "picture/00000000000000000001", "points/", "classes.parquet", "%00",
    ],
)  # fmt: skip
def test_nothing_but_the_runs_images_can_be_named(explorer_server: ExplorerServer, path: str) -> None:
    status, _, body = ask(explorer_server, path)
    assert status == 404 and body == b"nothing of that name"


def test_tokens_hosts_and_origins(explorer_server: ExplorerServer) -> None:
    port = explorer_server.server_port
    for path in (
        "/",
        "/points",
        "/wrong/points",
        f"/{explorer_server.token}",
        f"/{explorer_server.token}x/",
        f"/x/{explorer_server.token}/",
    ):
        assert ask(explorer_server, path)[0] == 403
    assert ask(explorer_server, "points", Host=f"evil.example:{port}")[0] == 403
    assert ask(explorer_server, "points", Host=HOST)[0] == 403
    for origin in ("http://evil.example", "null", f"http://{HOST}:{port + 1}", f"https://{HOST}:{port}"):
        assert ask(explorer_server, "points", Origin=origin)[0] == 403
        assert ask(explorer_server, "edits", method="POST", body={}, Origin=origin)[0] == 403
    assert ask(explorer_server, "points", Sec_Fetch_Site="cross-site")[0] == 403
    assert ask(explorer_server, "points", Origin=f"http://localhost:{port}", Host=f"localhost:{port}")[0] == 200
    assert ask(explorer_server, "points", method="DELETE")[0] == 501
    status, _, body = ask(explorer_server, "/favicon.ico")
    assert (status, body) == (200, b""), "a refusal would stand in the browser's console"


def test_edits_go_into_the_run(explorer_server: ExplorerServer, explored: gemel.Run) -> None:
    table = explored.map()
    assert table is not None
    path = table["path"][0].as_py()
    changes = {"gemel_edits": 1, "names": {"3": "cat", "5": "cat"}, "moved": {path: "kitten"}, "wrong": {path: True}}
    assert ask(explorer_server, "edits", method="POST", body=changes)[0] == 200
    assert read_names(explored) == {3: "cat", 5: "cat"}
    edits = read_edits(explored)
    assert edits.moved == {path: "kitten"} and edits.wrong == {path: True}
    back = {"names": {"5": ""}, "moved": {path: None}, "wrong": {path: False}}
    assert ask(explorer_server, "edits", method="POST", body=back)[0] == 200
    assert read_names(explored) == {3: "cat"} and not read_edits(explored).moved and not read_edits(explored).wrong
    assert b'"names":{"3":"cat"}' in ask(explorer_server, "")[2]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ([], b"holds no edits"),
        ({"names": {"8": "cat"}}, b"class 8 was named; there are classes 0 to 7"),
        ({"names": {"3": "c" * 300}}, b"must have 1 to 100 characters"),
        ({"moved": {"/etc/passwd": "cat"}}, b"1 images that the run has not learned from"),
        ({"wrong": {"x": 1}}, b"holds no edits of the explorer: wrong.x"),
        ({"names": {"3": "\ud800"}}, b"the name of class 3 holds half of a character"),
        ({"else": 1}, b"holds no edits of the explorer: else"),
    ],
)
def test_edits_that_are_none(explorer_server: ExplorerServer, explored: gemel.Run, body: Any, told: bytes) -> None:
    status, _, answer = ask(explorer_server, "edits", method="POST", body=body)
    assert status == 400 and told in answer
    assert not (explored.path / "classes.yaml").exists() and not (explored.path / "edits.json").exists()


def test_requests_of_another_form(explorer_server: ExplorerServer) -> None:
    assert ask(explorer_server, "edits", method="POST", body={}, Content_Type="text/plain")[0] == 415
    assert ask(explorer_server, "edits", method="POST", body={}, Content_Length=str(2**30))[0] == 413
    assert ask(explorer_server, "points", method="POST", body={})[0] == 404
    connection = http.client.HTTPConnection(HOST, explorer_server.server_port, timeout=20)
    connection.request("POST", f"/{explorer_server.token}/edits", b"{", {"Content-Type": "application/json"})
    assert connection.getresponse().status == 400
    connection.close()


def test_an_image_that_has_changed_or_gone(explorer_server: ExplorerServer) -> None:
    content = explorer_server.content
    row = content.table["path"].to_pylist().index(next(p for p in content.table["path"].to_pylist() if "0100" in p))
    file = Path(content.table["file"][row].as_py())
    before = file.read_bytes()
    try:
        file.write_bytes(b"no image")
        assert ask(explorer_server, f"picture/{row}")[0] == 404
        file.unlink()
        assert ask(explorer_server, f"picture/{row}")[0] == 404
        assert ask(explorer_server, "sheet-0")[0] == 200
        Image.new("RGB", (3, 2)).save(file, "BMP")  # which browsers need not know
        assert ask(explorer_server, f"picture/{row}")[:2] == (200, "image/png")
    finally:
        file.write_bytes(before)


def test_the_users_mistakes(explored: gemel.Run, explorer_server: ExplorerServer) -> None:
    with pytest.raises(gemel.UserError, match=r"--port .* can't be used"):
        gemel.explore(explored, port=explorer_server.server_port)
    with pytest.raises(gemel.UserError, match="--port 70000 can't be used"):
        gemel.explore(explored, port=70_000)
    (explored.path / "evaluations" / "map.parquet").write_bytes(b"")
    with pytest.raises(gemel.UserError, match=r"map\.parquet is damaged"):
        gemel.explore(explored)
    (explored.path / "evaluations" / "map.parquet").unlink()
    with pytest.raises(gemel.UserError, match="has no map of its images yet"):
        gemel.explore(explored)


def test_ctrl_c_ends_it(
    explored: gemel.Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (explored.path / "classes.yaml").write_text("3: cat\n")
    monkeypatch.setattr(ExplorerServer, "service_actions", lambda server: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(SystemExit) as left:
        main(["explore", str(explored.path)])
    told = capsys.readouterr().out
    assert left.value.code == 0 and f"http://{HOST}:" in told and "stopped; the edits are in the run" in told
    assert '"names":{"3":"cat"}' in explored.explorer_path.read_text(encoding="utf-8"), "what holds now"
