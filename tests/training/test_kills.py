"""Killed at random moments and resumed: the same end, with 0 and with 2 workers.

Here two methods; every one is interrupted and resumed in test_contract.py or test_pretrain.py.
"""

import subprocess
import sys
from pathlib import Path

KILLS = Path(__file__).parent.parent.parent / "benchmarks" / "kills.py"


def test_killed_runs_end_as_the_unbroken(tmp_path: Path) -> None:
    """A few kills; `make study-kills` does twenty."""
    options = ["--kills", "1", "--epochs", "2", "--seed", "1", "--out", str(tmp_path / "kills.md")]
    options += ["--methods", "twist", "barlow_twins"]
    done = subprocess.run(
        [sys.executable, str(KILLS), *options], capture_output=True, text=True, check=False, timeout=600
    )
    assert "DIFFERENT" not in done.stdout
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
