"""Progress of passes, one after the other."""

import pytest

from gemel.evaluations.features import printed


def show_two_passes() -> None:
    tell = printed(quiet=False)
    assert tell is not None
    for done, count in ((10, 30), (20, 30), (30, 30), (15, 30), (30, 30)):
        tell(done, count)


def test_long_passes_are_shown_each_from_its_start(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gemel.engine.progress.SECONDS", 0.0)
    show_two_passes()
    found = capsys.readouterr()
    assert [line.split(" ")[0] for line in found.err.splitlines()] == ["10/30", "20/30", "30/30", "15/30", "30/30"]
    assert found.err.splitlines()[2] == "30/30  0:00 left"
    assert not found.out, "tables go there"


def test_short_passes_and_quiet_ones_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show_two_passes()
    assert printed(quiet=True) is None
    assert capsys.readouterr() == ("", "")
