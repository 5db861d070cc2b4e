"""The command line, mostly in process: exit codes, messages, files."""

import csv
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from pyarrow import parquet

import gemel
from conftest import write_photos
from forked import command
from gemel.cli.main import main
from gemel.runs.run import Run


def gemel_says(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, output and errors of a command."""
    with pytest.raises(SystemExit) as left:
        main(words)
    out = capsys.readouterr()
    return int(left.value.code or 0), out.out, out.err


def test_help_without_torch() -> None:
    """`import gemel.cli` and --help bring neither torch nor Lightning: it answers at once."""
    code = (
        "import sys, gemel.cli\n"
        "try: gemel.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'lightning', 'timm', 'sklearn') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"
    assert len(answer.stdout.splitlines()) < 40, "one screen"


def test_the_front_door_is_instant() -> None:
    """`import gemel` brings none of its libraries; names, signatures and documents are there all the same."""
    code = (
        "import sys, inspect, gemel\n"
        "print([one for one in ('numpy', 'torch', 'pydantic', 'pyarrow', 'yaml') if one in sys.modules])\n"
        "print(set(gemel.__all__) - set(dir(gemel)), hasattr(gemel, 'nothing'))\n"
        "found = [getattr(gemel, name) for name in gemel.__all__]\n"
        "print([one for one in found if not inspect.getdoc(one)], inspect.signature(gemel.classify))\n"
        "print('torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    libraries, names, documents, torch = answer.stdout.splitlines()
    assert (libraries, names, torch) == ("[]", "set() False", "False")
    assert documents.startswith("[] (run: ")
    assert "top: " in documents


def test_typo_in_a_common_setting_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys, gemel.cli\n"
        "try: gemel.cli.main(['pretrain', 'nowhere', '--epohcs', '3', '--batch-size', '-4', '--optimizer.lr', 'x'])\n"
        "except SystemExit as left: print(left.code, [name for name in ('torch', 'lightning') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert answer.stdout.splitlines()[-1] == "2 []"
    lines = answer.stderr.splitlines()
    assert len(lines) == 4, "every mistake in one answer"
    assert "did you mean --epochs?" in answer.stderr
    assert "--batch-size must be greater than or equal to 2, not -4" in answer.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pretrain", "--epochs"], "--epochs needs a value"),
        (["pretrain", "digits", "--epohcs"], "did you mean --epochs"),
        (["pretrain", "a", "b"], "one word too many"),
        (["pretrain", "--method.hiden", "3"], "did you mean --method.hidden?"),
        (["pretrain", "--method", "barlow_twins", "--method.alpha", "3"], "not an option of barlow_twins"),
        (["resume", "nowhere"], "nowhere is not a folder"),
        (["evaluate", "nowhere", "knn"], "nowhere is not a folder"),
        (["embed", "nowhere", "digits", "--out", "f.txt"], "must end in .parquet or .npz"),
        (["embed", "nowhere", "digits"], "--out"),
        (["recipe", "twist/resnet5"], "twist/resnet50"),
        (["settings", "twits"], "there are barlow_twins, "),
        (["nonsense"], "nonsense"),
        (["report"], "RUN"),
        (["pretrian"], "pretrain"),
        (["methods", "twist"], "'twist' is one word too many"),
        (["compare", "a", "--out", "f.txt"], "--out f.txt must end in .md"),
        (["import", "lost.pth", "--out", "x", "--methd", "twist"], "did you mean --method?"),
        (["study", "epohcs"], "did you mean epochs?"),
        (["study"], "NAME missing; there are"),
    ],
)
def test_mistakes_leave_with_2(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, errors = gemel_says(words, capsys)
    assert code == 2
    assert message in errors
    assert "Traceback" not in errors


def test_mistakes_of_every_kind_are_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["nowhere", "else", "--epohcs", "3", "--epochs", "-5", "--config", "none.yaml", "--weights", "lost.pth"]
    words += ["--method", "barlow_twins", "--method.lambda_parm", "1", "--seed"]
    code, _, errors = gemel_says(["pretrain", *words], capsys)
    assert code == 2
    told = (
        "'else' is one word too many",
        "did you mean --epochs?",
        "--epochs must be",
        "did you mean --method.lambda_param?",
        "--config none.yaml can't be read",
        "lost.pth is neither a run nor a file",
        "--seed needs a value",
        "there is no folder, list or dataset",
    )
    assert [part for part in told if part not in errors] == []
    assert len(errors.splitlines()) == len(told)
    code, _, errors = gemel_says(["pretrain", *words, "--debug"], capsys)
    assert code == 2, "to see the traceback changes nothing else"
    assert "Traceback" in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "embed nowhere --out f.txt --otu 3 a b",
            ["'b' is one word too many", "nowhere is not a folder", "--out f.txt must", "did you mean --out?"],
        ),
        (
            "classify nowhere --top 0 --naming first --rename a --rename b --labels c --labels d",
            [
                "--labels is given twice: c and d",
                "nowhere is not a folder",
                "--top must be greater than 0, not 0",
                "--naming must be 'one_to_one' or 'majority', not first",
                "--out missing; gemel classify RUN [IMAGES] --out OUT",
            ],
        ),
        (
            "evaluate nowhere knn --k 0 --temprature 1 --size many --network random --network pixels",
            [
                "--network is given twice: random and pixels",
                "nowhere is not a folder",
                "--k must be greater than 0",
                "did you mean --temperature?",
                "--size must be a valid integer, not many",
            ],
        ),
        (
            "evaluate nowhere knnn --size many --k 0",
            ["did you mean knn?", "nowhere is not a folder", "--size must be a valid integer"],
        ),
        ("export nowhere onxx --uot 3", ["nowhere is not a folder", "did you mean onnx?", "did you mean --out?"]),
        (
            "study epochs --seeds 0 --epohcs 3 --tabels x --optimizer lasr",
            ["--seeds must be", "did you mean --epochs?", "did you mean --tables?", "did you mean lars?"],
        ),
    ],
)
def test_every_command_reports_all_mistakes(
    words: str, told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, errors = gemel_says(words.split(), capsys)
    assert code == 2
    assert [part for part in told if part not in errors] == []
    assert len(errors.splitlines()) == len(told)
    assert list(tmp_path.iterdir()) == []


def test_switches_of_an_evaluation_take_no_image(
    digits_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--scale-lr nowhere`: the word is IMAGES; `--scale-lr no`: it is the switch's."""
    for words in (["--scale-lr", "nowhere"], ["--scale-lr", "no", "nowhere"], ["--no-scale-lr", "nowhere"]):
        code, _, errors = gemel_says(["evaluate", str(digits_run.path), "linear", *words], capsys)
        assert code == 2
        assert "there is no folder, list or dataset 'nowhere'" in errors
    code, _, errors = gemel_says(["evaluate", "--drop-last", str(digits_run.path), "linear", "nowhere"], capsys)
    assert code == 2
    assert "'nowhere'" in errors


@pytest.mark.parametrize(
    ("settings", "words", "said"),
    [
        ("method: {alpha: 1.7}", "--method twist", ""),
        (
            "method: {alpha: 1.7}",
            "--method barlow_twins",
            "dropped: method.alpha in mine.yaml (of twist; --method names",
        ),
        ("backbone: {widths: [8], strides: [2]}", "--backbone convnet", ""),
        (
            "backbone: {name: resnet18, stem: small}",
            "--backbone convnet",
            "dropped: backbone.stem in mine.yaml (of res",
        ),
        ("optimizer: {lr: 0.5}", "--optimizer adamw", ""),  # the recipe's
        ("optimizer: {lr: 0.5}", "--optimizer sgd", "dropped: optimizer.lr in mine.yaml (of adamw; --optimizer names"),
        ("views: {rotate: 3}", "--views glyph", ""),
        ("views: {flip: 0.3}", "--views dino", "dropped: views.flip in mine.yaml (of photo; --views names dino)"),
    ],
)
def test_settings_of_a_file_hold_for_the_name_in_force(
    settings: str,
    words: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Kept where a flag names what is in force anyway; dropped, and said, where it names another."""
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(settings)
    flags = f"--config mine.yaml --epochs 1 --threads 1 --workers 0 --dry-run {words}"
    code, out, errors = gemel_says(["pretrain", *flags.split()], capsys)
    assert code == 0, errors
    assert said in out
    assert ("dropped" in out) == bool(said)
    ((section, options),) = yaml.safe_load(settings).items()
    found = yaml.safe_load(out.partition("\n\n")[2])[section]
    for key in options.keys() - {"name"}:
        assert (found.get(key) == options[key]) == (not said), key


def test_what_is_of_the_call_does_not_stand_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("dry_run: true\n")
    code, _, errors = gemel_says(["pretrain", "--config", str(file), "--out", str(tmp_path / "run")], capsys)
    assert code == 2
    assert "dry_run in" in errors


def test_dry_run_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = gemel_says(["pretrain", "--epochs", "3", "--dry-run"], capsys)
    assert code == 0
    assert "estimate: " in out
    assert "classes: 10 (the data set's description says so)" in out
    assert list(tmp_path.iterdir()) == []


def test_pretrain_then_everything(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    words = ["--epochs", "1", "--image-size", "16", "--batch-size", "8", "--backbone", "convnet", "--workers", "0",
             "--labels", "folders", "--classes", "3", "--method.hidden", "16"]  # fmt: skip
    code, out, _ = gemel_says(["pretrain", str(photos), "--out", str(run), *words], capsys)
    assert code == 0
    assert "report" in out

    code, out, _ = gemel_says(["evaluate", str(run), "knn", "--k", "5"], capsys)
    assert code == 0
    assert "top1" in out

    table = tmp_path / "classes.csv"
    links_folder = tmp_path / "links"
    words = ["classify", str(run), str(photos), "--out", str(table), "--into", str(links_folder)]
    code, _, _ = gemel_says(words, capsys)
    assert code == 0
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    likely = {"class", "probability", "class_2", "probability_2", "class_3", "probability_3"}
    assert set(rows[0]) == {"path", *likely, "unlike"}
    links = [path for path in links_folder.rglob("*") if path.is_symlink()]
    assert len(links) == 40
    assert all(link.resolve().is_file() for link in links)

    code, _, _ = gemel_says(["report", str(run), str(run), "--out", str(tmp_path / "two.html")], capsys)
    assert code == 0
    assert (tmp_path / "two.html").stat().st_size > 10_000


def test_unreadable_images_are_told(photos_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / "images"
    write_photos(images, 6)
    for number in range(7):
        (images / f"bad{number}.jpg").write_bytes(b"no image")
    code, out, _ = gemel_says(["embed", str(photos_run.path), str(images), "--out", str(tmp_path / "a.npz")], capsys)
    assert code == 0
    assert "7 of 13 images can't be read and are left out: " in out
    assert "bad4.jpg" in out
    assert ", and 2 more" in out
    assert "6 images, " in out


def test_evaluate_other_networks(digits_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = gemel_says(["evaluate", str(digits_run.path), "knn", "--network", "pixels", "--k", "1,20"], capsys)
    assert code == 0
    assert "top1_k20" in out
    assert "network: raw pixels" in out
    words = ["evaluate", "timm:resnet18", "knn", "digits", "--network", "random", "--size", "32", "--k", "3"]
    code, _, errors = gemel_says(words, capsys)
    assert code == 2
    assert "--out FOLDER" in errors
    for wrong, message in (("--size", "--size must be"), ("--sice", "--sice is not an option of knn")):
        code, _, errors = gemel_says([*words[:4], wrong, "none at all", "--out", str(tmp_path)], capsys)
        assert code == 2
        assert message in errors


def test_embed_writes_both_formats(
    tmp_path: Path, photos_run: Run, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("f.parquet", "f.npz"):
        code, out, _ = gemel_says(["embed", str(photos_run.path), str(photos), "--out", str(tmp_path / name)], capsys)
        assert code == 0
        assert "40 images, 16 numbers each" in out
    one = parquet.read_table(tmp_path / "f.parquet")
    with np.load(tmp_path / "f.npz") as two:
        assert one.column("path").to_pylist() == two["path"].tolist()
        assert np.allclose(np.stack(one.column("vector").to_pylist()), two["vector"])
        assert two["vector"].std() > 0


def test_a_method_without_classes_says_so(
    photos_run: Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["classify", str(photos_run.path), str(photos), "--out", str(tmp_path / "f.csv")]
    code, _, errors = gemel_says(words, capsys)
    assert code == 2
    assert "discovers no classes; gemel embed" in errors


def test_links_do_not_overwrite(
    digits_run: Run, tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "full"
    into.mkdir()
    (into / "mine.txt").write_text("kept")
    words = ["classify", str(digits_run.path), str(photos), "--out", str(tmp_path / "f.csv"), "--into", str(into)]
    code, _, errors = gemel_says(words, capsys)
    assert code == 2
    assert "is not empty" in errors
    assert [path.name for path in into.iterdir()] == ["mine.txt"]


LISTS = ["methods", "settings twist", "settings barlow_twins", "recipe twist", "pretrain --help", "evaluate --help"]


@pytest.mark.parametrize("line", LISTS)
def test_lists(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = gemel_says(line.split(), capsys)
    assert code == 0
    assert len(out.splitlines()) > 3


def test_recipe_is_a_config(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`gemel recipe X > mine.yaml` is what `--config mine.yaml` reads."""
    _, text, _ = gemel_says(["recipe", "barlow_twins/small"], capsys)
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    words = ["pretrain", str(photos), "--config", str(file), "--dry-run", "--batch-size", "8", "--image-size", "16",
             "--backbone", "convnet"]  # fmt: skip
    code, out, errors = gemel_says(words, capsys)
    assert code == 0, errors
    assert "name: barlow_twins" in out


def test_backbone_and_python_answers(photos_run: Run, photos: Path) -> None:
    import torch

    backbone = gemel.backbone(photos_run)
    assert not backbone.training
    assert backbone(torch.zeros(2, 3, 32, 32)).shape == (2, backbone.width)
    table = gemel.embed(photos_run, photos)
    assert table.column_names == ["path", "vector"]
    result = gemel.evaluate(photos_run, "knn", photos, labels="folders", k=3)
    assert 0 <= result.metrics["top1"] <= 1
    assert result.settings["k"] == 3
    with pytest.raises(gemel.UserError, match="labels"):
        gemel.evaluate(photos_run, "knn", photos)
    with pytest.raises(gemel.UserError, match="did you mean knn"):
        gemel.evaluate(photos_run, "knnn")
    with pytest.raises(gemel.UserError, match=r"did you mean k\?"):
        gemel.evaluate(photos_run, "knn", kk=3)


@pytest.mark.parametrize("module", ["typer", "pydantic", "numpy", "torch", "gemel.training.train"])
def test_an_interrupt_in_an_import_leaves_with_130(module: str, tmp_path: Path) -> None:
    """However early, and whatever the import would make of an exception: one line."""
    code = (
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == sys.argv[1]: os.kill(os.getpid(), signal.SIGINT)\n"
        "from gemel.cli import main\n"
        "sys.meta_path.insert(0, Finder())\n"
        "try: main(['pretrain', 'digits', '--threads', '1', '--epochs', '4000', '--out', sys.argv[2]])\n"
        "except Exception: pass\n"
    )
    words = [sys.executable, "-c", code, module, str(tmp_path / "run")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "gemel: interrupted\n")


def test_handlers_are_given_back_to_a_caller(capsys: pytest.CaptureFixture[str]) -> None:
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    gemel_says(["study", "epohcs"], capsys)
    assert before == [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]


def test_sigterm_leaves_with_130_at_any_time(tmp_path: Path) -> None:
    """Before the training begins, too."""
    process = command("pretrain", "digits", "--epochs", "4000", "--out", str(tmp_path / "run"))
    process.wait_until(process.printed)  # the first choice: torch is being used, nothing is trained yet
    process.send(signal.SIGTERM)
    code, _, errors = process.end()
    assert code == 130
    assert "Traceback" not in errors
