"""gemel check."""


def check(images: str, *, out: str | None = None, report: str | None = None, rescan: bool = False) -> None:
    """Find duplicates and faults in images: unlike any other, blurred, dark, odd or unreadable.

    Args:
        images: folder, text file of paths, or name of a dataset
        out: F.csv or F.parquet, a row for each finding
        report: F.html, a page with pictures
        rescan: list the folder anew
    """
    import gemel

    gemel.check(images, out=out, report=report, rescan=rescan, quiet=False)
