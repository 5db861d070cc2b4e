"""gemel classify."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gemel.commands.arguments import Images, RunFolder, check_suffix
from gemel.commands.writing import write_table
from gemel.errors import UserError


def classify(
    run: RunFolder,
    images: Images,
    out: Annotated[Path, typer.Option(help="F.parquet or F.csv")],
    into: Annotated[Path | None, typer.Option(help="make a folder of links for each class here")] = None,
    top: Annotated[int, typer.Option(help="classes told for each image")] = 3,
) -> None:
    """Write the discovered class of images: path, class, probability, and the next likely ones."""
    check_suffix(out, ".parquet", ".csv")
    if into is not None:
        _check_links(images, into)
    import gemel

    table = gemel.classify(run, images, top=top, quiet=False)
    write_table(table, out)
    used = len(set(table.column("class").to_pylist()))
    print(f"{table.num_rows} images in {used} classes: {out}")
    if into is not None:
        _link(table, into)
        print(f"links: {into}")


def _check_links(images: str, into: Path) -> None:
    """Before the images are looked at: is there something to link, and room for it?"""
    if not Path(images).expanduser().exists():
        raise UserError(f"--into needs files; {images} is a data set")
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise UserError(f"--into {into} is not empty; name a new folder")


def _link(table: Any, into: Path) -> None:
    """A folder for each class, in it links to its images; the images stay where they are."""
    for path, number in zip(table.column("path").to_pylist(), table.column("class").to_pylist(), strict=True):
        image = Path(path).absolute()
        folder = into / f"{number:04}"
        folder.mkdir(parents=True, exist_ok=True)
        link, copy = folder / image.name, 1
        while link.is_symlink():  # images of one name from several folders
            copy += 1
            link = folder / f"{image.stem}-{copy}{image.suffix}"
        link.symlink_to(image)
