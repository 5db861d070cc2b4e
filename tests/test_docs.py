"""What the documents say is so: README commands run, tables are current, examples run."""

import importlib
import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

import gemel
from conftest import TINY, write_photos
from forked import script
from gemel import methods
from gemel.cli.main import main
from gemel.data.sources import open_source
from gemel.request.facts import look

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FAST = ["--epochs", "1", "--workers", "0", "--threads", "1", "--batch-size", "8"]
SIZE = ["--image-size", "16"]
NETWORK = ["--backbone", "convnet", "--backbone.widths", "8", "--backbone.strides", "2"]


def fast(command: str) -> list[str]:
    """The words of a command; one that trains does so for an epoch, of small images by a small network where it may."""
    words = shlex.split(command)[1:]
    if words[0] != "pretrain":
        return words
    return [*words, *FAST, *(word for more in (SIZE, NETWORK) if more[0] not in words for word in more)]


def commands(page: str = README) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    # tests/explorer serve the explorer, which ends only when it is interrupted
    return [line for line in lines if line.startswith("gemel ") and not line.startswith("gemel explore ")]


def test_readme_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, in a folder that holds the images that they name; training and fits are shortened."""
    for number, name in enumerate(("photos", "labelled", "train", "test", "kinds")):
        write_photos(tmp_path / name, 24, seed=number)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "edits-twist-1.json").write_text('{"gemel_edits": 1, "names": {"0": "cat"}}')
    assert len(commands()) >= 3
    fits = ["--epochs", "1", "--batch-size", "8"]
    shorter = {"linear": fits, "semi": [*fits[:3], "4"], "study": ["--dry-run"]}
    barlow_twins = "gemel pretrain photos --method barlow_twins --method.projector 16,16"
    for command in (*commands()[:1], barlow_twins, *commands()[1:]):
        words = fast(command.replace("--then.epochs 5", "--then.epochs 1"))
        more = shorter.get(words[0], shorter.get(words[2] if len(words) > 2 else "", []))
        with pytest.raises(SystemExit) as left:
            main(words + more)
        assert left.value.code == 0, command
    assert (tmp_path / "classes.csv").is_file()
    assert (tmp_path / "sorted").is_dir()


def test_readme_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photos(tmp_path / "photos", 24)
    write_photos(tmp_path / "more_photos", 5, seed=1)
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    network = "{'name': 'convnet', 'widths': [8], 'strides': [2]}"
    settings = f"image_size=16, backbone={network}, workers=0, threads=1, batch_size=8, quiet=True"
    exec(code.replace("classes=20, minutes=30", f"classes=20, epochs=1, {settings}"), {})


def test_readme_error_is_the_real_one(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```text\n\$ (.*?)```", README, re.DOTALL)
    command, *lines = block.strip().splitlines()
    with pytest.raises(SystemExit):
        main(shlex.split(command)[1:])
    told = capsys.readouterr().err.splitlines()
    assert len(told) == len(lines)
    for line, real in zip(lines, told, strict=True):
        assert real.startswith(line.removesuffix("...")), real


def test_readme_names_what_exists() -> None:
    for path in re.findall(r"\]\(((?!https?:)[^)#]+)\)", README):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"^\| `([a-z_]+/)`", README, re.MULTILINE):
        assert (ROOT / "src" / "gemel" / name).is_dir() or (ROOT / name).is_dir(), name


def test_made_pages_are_current() -> None:
    spec = importlib.util.spec_from_file_location("make", ROOT / "docs" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run python docs/make.py"
    assert module.readme(README) == README, "run python docs/make.py"


def run_example(name: str, *words: str, folder: Path) -> str:
    code, out, errors = script(ROOT / "examples" / name, *words, folder=folder).end()
    assert code == 0, errors
    return out


def test_plain_torch_learns(tmp_path: Path) -> None:
    lines = run_example("plain_torch.py", folder=tmp_path).splitlines()
    losses = [float(re.findall(r"'loss': ([-\d.]+)", line)[0]) for line in lines]
    assert len(losses) == 14
    assert losses[-1] < losses[0]


def test_own_method_trains(tmp_path: Path) -> None:
    file = ROOT / "examples" / "own_method.py"
    run = gemel.pretrain("digits", method=str(file), epochs=1, out=tmp_path / "run", **TINY)
    assert "alignment" in run.metrics().column_names
    assert run.settings["method"]["name"] == str(file)
    assert methods.find(str(file)).__name__ == "AlignAndSpread", "it was run in this process"


def test_use_backbone(digits_run: gemel.Run, tmp_path: Path) -> None:
    out = run_example("use_backbone.py", str(digits_run.path), folder=tmp_path)
    assert "features: (2, 16)" in out
    assert out.count("is most like") == 3


@pytest.mark.parametrize("what", ["glyphs", "textures"])
def test_kinds_are_told_apart_by_their_folders(what: str, tmp_path: Path) -> None:
    run_example("kinds.py", what, "kinds", "48", folder=tmp_path)
    source = open_source(str(tmp_path / "kinds"), labels="folders")
    assert len(source) == 48
    assert source.labels is not None
    assert np.bincount(source.labels).tolist() == [6] * 8
    facts = look(source)
    assert facts.gray == (what == "glyphs")
    assert 40 <= facts.side < 80


def test_twist_page_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photos(tmp_path / "photos", 24)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "twist.md").read_text(encoding="utf-8")
    found = commands(page)
    assert len(found) == 3
    for command in found:
        with pytest.raises(SystemExit) as left:
            main([*fast(command.replace("--then.epochs 5", "--then.epochs 1")), "--method.hidden", "16"])
        assert left.value.code == 0, command


PAGES = sorted((ROOT / "docs").glob("*.md"))

ABSENT = re.compile(
    r"is not a folder|is no folder|is not a file|there is no folder, list or dataset|is neither a run nor a file"
    r"|needs a package that is not installed|there is no such file|files of .* are not there"
)
"""what a command may complain of in an empty folder: what it names is not there, and all its words are right"""


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_words_of_every_command_are_right(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mistakes are all told at once, so a command with a wrong word would complain of it beside what is missing."""
    monkeypatch.chdir(tmp_path)
    for command in commands(page.read_text(encoding="utf-8")):
        if command == "gemel doctor" or command.startswith("gemel evaluate timm:"):  # runs anywhere; asks a hub
            continue
        with pytest.raises(SystemExit) as left:
            main(shlex.split(command)[1:])
        told = capsys.readouterr().err.splitlines()
        assert left.value.code == 2, command
        assert [line for line in told if not ABSENT.search(line)] == [], command
    assert list(tmp_path.iterdir()) == []


def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands in their order, then its Python; training is shortened."""
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    assert "python examples/kinds.py glyphs kinds\n" in page
    run_example("kinds.py", "glyphs", "kinds", "48", folder=tmp_path)
    monkeypatch.chdir(tmp_path)
    found = [one for one in commands(page) if one != "gemel doctor"]
    assert [one.split()[1] for one in found][:3] == ["check", "pretrain", "classify"]
    for command in found:
        with pytest.raises(SystemExit) as left:
            main(fast(command))
        assert left.value.code == 0, command
    assert {"check.html", "classes.csv", "sorted", "named.csv", "vectors.parquet"} <= {
        one.name for one in tmp_path.iterdir()
    }
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(code, {})


def test_vectors_of_another_network_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "from_dinov2.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(code, {})
    for command in commands(page)[:2]:
        words = shlex.split(command)[1:]
        with pytest.raises(SystemExit) as left:
            main(words + (["--epochs", "1", "--threads", "1"] if words[0] == "pretrain" else []))
        assert left.value.code == 0, command
    assert (tmp_path / "classes.csv").is_file()


def test_losses_in_a_loop_of_ones_own_run(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "from_lightly.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(code, {})
    assert "'invariance': " in capsys.readouterr().out


@pytest.fixture
def site_tools(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "tools"))
    return importlib.import_module("method_pages")


def test_every_method_has_a_page(site_tools: Any) -> None:
    """Made from its class: title, equation, options; figures are well-formed, and of methods that there are."""
    pages = site_tools.pages()
    assert set(pages) == {f"methods/{name}.md" for name in (*methods.available(), "index")}
    drawn = [page for page in pages.values() if "<figure" in page]
    assert len(drawn) == len(yaml.safe_load(site_tools.FIGURES.read_text(encoding="utf-8")))
    for page in drawn:
        drawing = ElementTree.fromstring(re.findall(r"<figure.*</figure>", page)[0])
        assert len(list(drawing.iter("rect"))) >= 4
    page = pages["methods/barlow_twins.md"]
    assert page.startswith("# Barlow Twins\n\nMake the cross-correlation")
    assert ".equation }\nL = Σ_i (1 - C_ii)²" in page
    assert "| `method.lambda_param` | number >= 0" in page or "| `method.lambda_param` | number > 0" in page
    assert "::: gemel.methods.parts.barlow_loss.barlow_twins_loss" in page


def test_links_between_pages_lead_somewhere(site_tools: Any) -> None:
    """Headings are looked at by `make docs`, which knows how they are turned into anchors."""
    made = {*site_tools.pages(), "commands.md", "api.md", "notebook.md", "studies/index.md", "changelog.md"}
    for page in (*PAGES, *(ROOT / "docs" / "studies").glob("*.md")):
        for link in re.findall(r"\]\(((?!https?:)[^)#]+)", page.read_text(encoding="utf-8")):
            target = (page.parent / link).resolve()
            known = target.exists() or str(target.relative_to(ROOT / "docs")) in made
            assert known, f"{page.name} links to {link}"


@pytest.mark.parametrize(
    "target", ["demo", "test", "lint", "types", "docs", "package", "bench", "fuzz", "study-kills", "study-%"]
)
def test_makefile_has_the_targets(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
