"""Killed at random moments and resumed: the same end, with 0 and with 2 workers.

Here two methods; every one is interrupted and resumed in test_contract.py or test_pretrain.py.
"""

from pathlib import Path

import pytest

from forked import script

KILLS = Path(__file__).parent.parent.parent / "benchmarks" / "kills.py"


@pytest.mark.parametrize("method", ["twist", "barlow_twins"])
def test_killed_runs_end_as_the_unbroken(method: str, tmp_path: Path, photos: Path) -> None:
    """A few kills; `make study-kills` does twenty."""
    words = ["--images", str(photos), "--kills", "2", "--epochs", "5", "--seed", "1", "--methods", method]
    code, out, errors = script(KILLS, *words, "--out", str(tmp_path / "kills.md"), folder=tmp_path).end(300)
    assert "DIFFERENT" not in out
    assert code == 0, out + errors[-3000:]
