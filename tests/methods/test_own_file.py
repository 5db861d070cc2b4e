"""A method in a user's own file: run only where the call names it, once for each content; its errors are told."""

import inspect
import sys
from pathlib import Path

import numpy as np
import pytest

import gemel
from conftest import TINY, write_photos
from gemel import methods
from gemel.cli.main import main
from gemel.errors import UserError
from gemel.methods import MethodNotAllowed

SOURCE = Path(inspect.getfile(methods.find("barlow_twins"))).read_text(encoding="utf-8")

TRACE = """
from pathlib import Path
with Path(__file__).with_suffix(".ran").open("a") as file:
    file.write("x")
"""
"""leaves a letter beside the file whenever it is run"""


def write(file: Path, name: str = "Mine") -> Path:
    """A method with heads, Barlow Twins under another name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(SOURCE.replace("class BarlowTwins", f"class {name}") + TRACE)
    return file


def times_run(file: Path) -> int:
    ran = file.with_suffix(".ran")
    return len(ran.read_text()) if ran.exists() else 0


def test_a_file_is_run_once_for_each_content(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.py")
    found = [methods.find(str(path), named=True) for path in (file, tmp_path / "." / "mine.py", file)]
    assert [one.__name__ for one in found] == ["Mine"] * 3
    assert found[0] is found[1] is found[2] is methods.find(str(file))
    assert methods.find_recipe(f"{file}/resnet50")[1] == methods.find_recipe("barlow_twins/resnet50")[1]
    assert times_run(file) == 1
    write(file, "Other")  # as long, and within the same second
    assert methods.find(str(file), named=True).__name__ == "Other"
    assert times_run(file) == 2
    assert not (tmp_path / "__pycache__").exists()


def test_two_files_of_one_name_are_two_methods(tmp_path: Path) -> None:
    files = [write(tmp_path / folder / "mine.py", f"Of{folder.upper()}") for folder in ("a", "b")]
    assert [methods.find(str(file), named=True).__name__ for file in files] == ["OfA", "OfB"]
    assert [methods.find(str(file)).__name__ for file in files] == ["OfA", "OfB"]
    assert [times_run(file) for file in files] == [1, 1]
    for file in files:
        found = methods.find(str(file))
        assert getattr(sys.modules[found.__module__], found.__name__) is found, "as pickle looks for it"


def test_a_file_that_nobody_named_is_not_run(tmp_path: Path) -> None:
    file = write(tmp_path / "theirs.py")
    for call in (lambda: methods.find(str(file)), lambda: methods.find_recipe(f"{file}/resnet50")):
        with pytest.raises(MethodNotAllowed, match=r"run only if the call names it; add --method .*theirs\.py if you"):
            call()
    assert times_run(file) == 0


ERRORS = {
    "syntax": ("x = 1\ndef f(:\n", "line 2: SyntaxError"),
    "division": ("x = 1\n\nx / 0\n", "line 3: ZeroDivisionError: division by zero"),
    "deep": ("def f():\n    raise KeyError('a\\nb')\n\nf()\n", "line 2: KeyError"),
    "own": ("class Bad(Exception): ...\nraise Bad('no\\nway')\n", "line 2: Bad: no way$"),
    "exit": ("import sys\nsys.exit('bye')\n", "line 2: SystemExit: bye"),
    "import": ("import nothing_of_this_name\n", "line 1: ModuleNotFoundError: No module named 'nothing_of_this_name'"),
    "zero byte": ("x = 1\n\0", r"(SyntaxError|ValueError): source code string cannot contain null bytes"),
    "encoding": ("# coding: none-such\n", "SyntaxError"),
    "nothing": ("x = 1\n", "holds 0 methods; one class that derives from Method is needed"),
    "contract": (
        SOURCE.replace("        *,\n        lambda_param", "        lambda_param"),
        "options must be keyword-only",
    ),
    "annotation": (SOURCE.replace("lambda_param: PositiveFloat", "lambda_param: object()"), "can't be imported"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_errors_in_a_file_are_told_on_one_line(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, told = ERRORS[kind]
    file = tmp_path / "mine.py"
    file.write_text(content)
    with pytest.raises(UserError, match=told) as raised:
        methods.find(str(file), named=True)
    assert "\n" not in str(raised.value)
    assert not [
        name for name in sys.modules if name.startswith("gemel_user_mine") and sys.modules[name].__file__ == str(file)
    ]
    with pytest.raises(SystemExit) as left:
        main(["pretrain", "digits", "--method", str(file), "--dry-run"])
    assert left.value.code == 2
    shown = capsys.readouterr().err
    assert "Traceback" not in shown and shown.count("\n") == 1


def test_commands_that_show_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "mine.py")
    for words in (["recipe", f"{file}/cifar10"], ["settings", str(file)]):
        with pytest.raises(SystemExit) as left:
            main(words)
        assert left.value.code == 0
    shown = capsys.readouterr().out
    assert f"name: {file}\n  recipe: cifar10\n" in shown and "--method.lambda_param" in shown
    assert len(gemel.views([np.zeros((40, 40, 3), np.uint8)], str(file))) == 2
    assert times_run(file) == 1


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.py is not a file; give a method's name or a Python file"):
        methods.find(str(tmp_path / "none.py"), named=True)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> tuple[gemel.Run, Path, Path]:
    """A run of a method in a file, made in another process's place: this one forgets that it has run the file."""
    folder = tmp_path_factory.mktemp("theirs")
    write_photos(folder / "photos", 12)
    file = write(folder / "theirs.py")
    options = {
        **TINY,
        "epochs": 1,
        "image_size": 16,
        "batch_size": 4,
        "method": {"name": str(file), "projector": [8, 8]},
    }
    run = gemel.pretrain(folder / "photos", out=folder / "run", **options)
    methods._loaded.clear()  # pyright: ignore[reportPrivateUsage]
    file.with_suffix(".ran").unlink()
    return run, file, folder / "photos"


def test_a_run_of_somebody_elses_runs_no_code(
    theirs: tuple[gemel.Run, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, file, photos = theirs
    assert gemel.embed(run, photos).num_rows == 12
    assert gemel.evaluate(run, "knn", photos, labels="folders", k=1).metrics["top1"] >= 0
    assert gemel.report([run], tmp_path / "page.html").is_file()
    assert gemel.export(run, "safetensors").is_file()
    assert len(gemel.compare([run]).markdown()) > 0
    with pytest.raises(UserError, match=r"run only if the call names it; add --method"):
        gemel.classify(run, photos)
    (run.path / "backbone.safetensors").rename(tmp_path / "kept")
    with pytest.raises(UserError, match=r"run only if the call names it; add --method"):
        gemel.resume(run)
    (tmp_path / "kept").rename(run.path / "backbone.safetensors")
    with pytest.raises(UserError, match=r"run only if the call names it; add --method"):
        gemel.pretrain(photos, config=run.path / "run.yaml", out=tmp_path / "again", quiet=True)
    assert not (tmp_path / "again").exists()
    with pytest.raises(SystemExit) as left:
        main(["embed", str(run.path), str(photos), "--out", str(tmp_path / "f.parquet")])
    assert left.value.code == 0
    assert "theirs.py" in (shown := capsys.readouterr().out) and "--method" in shown, (
        "it is said that heads are left out"
    )
    assert times_run(file) == 0


def test_a_run_whose_method_the_call_names(theirs: tuple[gemel.Run, Path, Path], tmp_path: Path) -> None:
    """The file may have moved since."""
    run, file, photos = theirs
    moved = tmp_path / "moved.py"
    moved.write_text(file.read_text())
    with pytest.raises(UserError, match="discovers no classes"):
        gemel.classify(run, photos, method=moved)
    assert times_run(moved) == 1
    assert times_run(file) == 0
    run.report_path.unlink()
    with pytest.raises(SystemExit) as left:
        main(["resume", str(run.path), "--method", str(moved)])
    assert left.value.code == 0 and run.report_path.is_file()
    with pytest.raises(UserError, match="which is part of gemel; leave it out"):
        methods.allow(moved, "twist")
    methods._loaded.clear()  # pyright: ignore[reportPrivateUsage]
