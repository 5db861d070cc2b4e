"""Names of files that are too long: refused before the work, or cut."""

import os
from pathlib import Path

import pyarrow as pa
import pytest

from gemel.cli.tables import link
from gemel.errors import UserError
from gemel.runs.output_paths import check_suffix, short_name
from gemel.runs.tables import write_table


@pytest.mark.parametrize("length", [20, 241, 255])
def test_a_table_of_a_long_name(length: int, tmp_path: Path) -> None:
    out = tmp_path / f"{'x' * (length - 4)}.csv"
    check_suffix(out, ".csv")
    write_table(pa.table({"path": ["a"]}), out)
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("name", ["x" * 252 + ".csv", "漢" * 85 + ".csv", "a/" * 3000 + "b.csv"])
def test_a_name_that_is_too_long_is_refused_before_the_work(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--out .+: the name is too long; give a shorter one"):
        check_suffix(tmp_path / name, ".csv")


def test_links_of_long_names(tmp_path: Path) -> None:
    """Classes of 100 letters and 300 bytes; two images of one name of 255 bytes in one class."""
    images = [tmp_path / folder / f"{'é' * 125}.jpeg" for folder in ("a", "b")]
    for image in images:
        image.parent.mkdir()
        image.write_bytes(b"")
    names = [f"{'漢' * 99}{end}" for end in "xy"]
    rows = {"path": [*map(str, images), str(images[0])], "class": [0, 0, 1], "name": [names[0], names[0], names[1]]}
    link(pa.table(rows), tmp_path / "links")
    folders = sorted((tmp_path / "links").iterdir())
    assert [folder.name[:6] for folder in folders] == ["0000-漢", "0001-漢"]
    assert [len(list(folder.iterdir())) for folder in folders] == [2, 1]
    linked = {path.readlink() for folder in folders for path in folder.iterdir()}
    assert linked == set(images)


def test_a_name_is_cut_between_letters() -> None:
    assert short_name("ä" * 200, "-2.jpg") == "ä" * 124 + "-2.jpg"
    assert short_name("a", ".jpg") == "a.jpg"
    assert len(os.fsencode(short_name("\udcff" * 300))) == 255, "bytes that are no text"
