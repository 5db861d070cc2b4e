"""A small campaign of `make fuzz`: damaged files, random settings."""

from pathlib import Path

from forked import script

FUZZ = Path(__file__).parent.parent / "benchmarks" / "fuzz.py"


def test_a_small_campaign(tmp_path: Path) -> None:
    out = tmp_path / "fuzz.md"
    words = ["--files", "64", "--settings", "40", "--seed", "1", "--out", str(out)]
    code, _, errors = script(FUZZ, *words, folder=tmp_path).end(300)
    assert code == 0, errors[-3000:]
    page = out.read_text(encoding="utf-8")
    assert "| faults | 0 |" in page
    assert page.count("| damage |") == 1
