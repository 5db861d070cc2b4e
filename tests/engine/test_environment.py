"""environment.json is written wherever gemel runs."""

from pathlib import Path

import pytest

from gemel.engine import environment


def test_without_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = environment.environment(3, 1)
    assert (known["images"], known["threads"]) == (3, 1)
    monkeypatch.setenv("PATH", str(tmp_path))  # where no git is
    assert environment.environment(3, 1)["commit"] in ("git does not tell", "not in a checkout")
    installed = tmp_path / "env/lib/site-packages/gemel/train/environment.py"
    monkeypatch.setattr(environment, "__file__", str(installed))
    assert environment.environment(3, 1)["commit"] == "not in a checkout"
