"""`gemel.check`: what is wrong with a dataset's images, before anything is learned from them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SkipValidation

from gemel.data.sources import Images, Source, open_source
from gemel.errors import UserError, brief
from gemel.launcher import launched
from gemel.runs.output_paths import check_suffix
from gemel.settings.schema import checked

if TYPE_CHECKING:
    import pyarrow as pa

    from gemel.data.check.findings import Features, Findings


@checked
def check(
    images: Images,
    *,
    features: SkipValidation[Any] = None,
    out: str | Path | None = None,
    report: str | Path | None = None,
    rescan: bool = False,
    quiet: bool = True,
) -> "pa.Table":
    """Return what is wrong with images: a row for each finding, in an order that is always the same.

    Columns: path; finding: exact duplicate, near duplicate, unlike any other, blurred, dark, nearly one colour, odd
    size, odd shape or unreadable; of: the image that a duplicate repeats, which is the larger, else the less
    compressed, else the first of them; value: the number that was measured; about: what it means.

    Args:
        images: as for pretrain, or paths, or uint8 arrays (N, H, W) or (N, H, W, 3).
        features: by which images are unlike any other: (N, D), a row for each image, or a table as `gemel.embed`
            returns it; left out: by pixels alone.
        out: F.csv or F.parquet, where the table is kept too.
        report: F.html, a page with pictures.
        rescan: list a folder anew.
        quiet: print nothing.

    Raises:
        UserError: the images can't be found, none can be read, the features do not fit, or a file can't be written.
    """
    if launched().processes > 1:
        raise UserError("start gemel check as one process; it uses all cores by itself")
    if out is not None:
        check_suffix(Path(out), ".csv", ".parquet")
    if report is not None:
        check_suffix(Path(report), ".html", option="--report")
    source = open_source(images, rescan=rescan)
    if source.width is not None:
        raise UserError(f"{brief(source.name)} holds vectors; gemel check looks at images")
    from gemel.data.check.findings import find
    from gemel.engine.caller import preserved
    from gemel.evaluations.features import printed

    with preserved():
        findings = find(source, features=_features(features, source), tell=printed(quiet))
    if findings.looked_at == findings.counts["unreadable"]:
        first = findings.found[0].about
        raise UserError(f"none of the {len(source)} images of {source.name} can be read; the first: {first}")
    if not quiet:
        print("\n".join(findings.summary()))
    _write(findings, out, report, quiet=quiet)
    return findings.table()


def _write(findings: "Findings", out: str | Path | None, report: str | Path | None, *, quiet: bool) -> None:
    from gemel.evaluations.data_check import described
    from gemel.reports.check_section import check_page
    from gemel.runs.files import write_text
    from gemel.runs.tables import write_table

    if out is not None:
        write_table(findings.table(), Path(out))
    if report is not None:
        table = findings.table().to_pylist()
        rejected = [(row["path"], row["about"]) for row in table if row["finding"] == "unreadable"]
        write_text(Path(report), check_page(findings.source.name, described(findings), rejected))
    for name, path in (("table", out), ("report", report)):
        if path is not None and not quiet:
            print(f"{name}: {path}")


def _features(given: Any, source: Source) -> "Features | None":
    """Return vectors in the order of the source, of the images that have one.

    Raises:
        UserError: another number of them, another shape, or NaN.
    """
    import numpy as np
    import torch

    from gemel.data.check.findings import Features
    from gemel.data.listing import printable

    if given is None:
        return None
    indices = np.arange(len(source))
    if {"path", "vector"} <= set(getattr(given, "column_names", ())):
        rows = {path: row for row, path in enumerate(given.column("path").to_pylist())}
        places = np.array([rows.get(printable(source.path(index)), -1) for index in indices.tolist()], np.int64)
        indices = np.flatnonzero(places >= 0)
        flat = given.column("vector").combine_chunks().flatten().to_numpy(zero_copy_only=False)
        if not len(rows) or len(flat) % given.num_rows:
            raise UserError("the vectors of the features have different lengths; give those of one network")
        vectors = flat.astype(np.float32).reshape(given.num_rows, -1)[places[indices]]
        if not len(indices):
            raise UserError(f"the features are of none of the images of {source.name}; make them with gemel.embed")
    else:
        try:
            vectors = np.asarray(given, np.float32)
        except (TypeError, ValueError) as error:
            raise UserError(f"features are numbers (N, D), one row for each image, not {brief(given)}") from error
    if vectors.ndim != 2 or len(vectors) != len(indices) or not vectors.shape[1]:
        raise UserError(f"features of shape {vectors.shape} for {len(source)} images; give (N, D), a row for each")
    if not np.isfinite(vectors).all():
        raise UserError(
            "the features hold NaN or infinite values; leave out what has none, by a table of path and vector"
        )
    return Features(indices, torch.from_numpy(np.ascontiguousarray(vectors)))
