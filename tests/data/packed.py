"""The same images in every kind of place that a source can read: a folder, archives, shards, tables, a database."""

import io
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import ipc, parquet

HUGGING_FACE = (
    b'{"info": {"features": {"image": {"_type": "Image"}, "label": {"names": ["b", "a"], "_type": "ClassLabel"}}}}'
)


def write_images(folder: Path, count: int, *, seed: int = 0, side: int = 20) -> list[Path]:
    """PNG files in the folders a and b, sorted."""
    random = np.random.default_rng(seed)
    for number in range(count):
        path = folder / "ab"[number % 2] / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8)).save(path)
    return sorted(folder.rglob("*.png"))


def _zip(place: Path, root: Path, files: Sequence[Path]) -> str:
    with zipfile.ZipFile(place / "images.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in reversed(files):
            archive.write(file, file.relative_to(root))
    return "images.zip"


def _tar(place: Path, root: Path, files: Sequence[Path]) -> str:
    with tarfile.open(place / "images.tar", "w") as archive:
        archive.add(root, ".")
    return "images.tar"


def _shards(place: Path, root: Path, files: Sequence[Path]) -> str:
    (place / "shards").mkdir()
    for number in range(3):
        with tarfile.open(place / "shards" / f"part-{number:03}.tar", "w") as archive:
            for file in files[number::3]:
                name = str(file.relative_to(root))
                archive.add(file, name)
                _add(archive, name.replace(".png", ".cls"), file.parent.name.encode())
                _add(archive, name.replace(".png", ".mask.png"), b"a mask")
    return "shards"


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _table(files: Sequence[Path]) -> pa.Table:
    images = pa.array([{"bytes": file.read_bytes(), "path": None} for file in files])
    labels = pa.array(["ba".index(file.parent.name) for file in files])
    table = pa.table({"image": images, "label": labels, "weight": [1.5] * len(files)})
    return table.replace_schema_metadata({b"huggingface": HUGGING_FACE})


def _parquet(place: Path, root: Path, files: Sequence[Path]) -> str:
    parquet.write_table(_table(files), place / "images.parquet", row_group_size=5)
    return "images.parquet"


def _datasets(place: Path, root: Path, files: Sequence[Path]) -> str:
    """As the datasets library's `save_to_disk` writes it: two files of Arrow's stream format."""
    (place / "dataset").mkdir()
    (place / "dataset" / "state.json").write_text("{}")
    table, half = _table(files), len(files) // 2
    for number, part in enumerate((table[:half], table[half:])):
        path = place / "dataset" / f"data-{number:05}-of-00002.arrow"
        with ipc.new_stream(path, part.schema) as stream:
            stream.write_table(part, max_chunksize=4)
    return "dataset"


def _csv(place: Path, root: Path, files: Sequence[Path]) -> str:
    rows = [f"{file.relative_to(place)};{file.parent.name};1.5" for file in files]
    (place / "images.csv").write_text("\n".join(["file;label;weight", *rows]) + "\n")
    return "images.csv"


def _path_table(place: Path, root: Path, files: Sequence[Path]) -> str:
    columns = {
        "path": [str(one.relative_to(place)) for one in files],
        "label": [one.parent.name for one in files],
        "weight": [1.5] * len(files),
    }
    parquet.write_table(pa.table(columns), place / "paths.parquet")
    return "paths.parquet"


def _remote(place: Path, root: Path, files: Sequence[Path]) -> str:
    system = fsspec.filesystem("memory")
    for file in files:
        system.pipe(f"{place.name}/{file.relative_to(root)}", file.read_bytes())
    return f"memory://{place.name}"


def _lmdb(place: Path, root: Path, files: Sequence[Path]) -> str:
    import lmdb

    with lmdb.open(str(place / "images.lmdb"), map_size=1 << 24) as database, database.begin(write=True) as change:
        for file in files:
            change.put(str(file.relative_to(root)).encode(), file.read_bytes())
        change.put(b"__len__", b"12")
    return "images.lmdb"


KINDS: dict[str, Callable[[Path, Path, Sequence[Path]], str]] = {
    "zip": _zip,
    "tar": _tar,
    "shards": _shards,
    "parquet": _parquet,
    "datasets": _datasets,
    "csv": _csv,
    "paths": _path_table,
    "remote": _remote,
    **({"lmdb": _lmdb} if find_spec("lmdb") else {}),
}
"""by name: writes the images of a folder in another way into `place`, and returns its name there; LMDB if installed"""
