"""A small campaign of `make fuzz`: damaged files, random settings."""

import subprocess
import sys
from pathlib import Path

FUZZ = Path(__file__).parent.parent / "benchmarks" / "fuzz.py"


def test_a_small_campaign(tmp_path: Path) -> None:
    out = tmp_path / "fuzz.md"
    words = [sys.executable, str(FUZZ), "--files", "64", "--settings", "40", "--seed", "1", "--out", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    page = out.read_text(encoding="utf-8")
    assert "| faults | 0 |" in page
    assert page.count("| damage |") == 1
