"""`gemel.embed`: the features of images."""

from pathlib import Path
from typing import TYPE_CHECKING

from gemel.api.runs import load
from gemel.data.sources import Images
from gemel.runs.run import Run
from gemel.settings.schema import checked

if TYPE_CHECKING:
    import pyarrow as pa


@checked
def embed(
    run: Run | str | Path,
    images: Images | None = None,
    *,
    method: str | Path | None = None,
    pictures: bool = False,
    quiet: bool = True,
) -> "pa.Table":
    """Return the features of images, one row for each that can be read: path, vector.

    With pictures also image, class, probability and label, as far as there are some: the table that Embedding Atlas,
    Spotlight and the datasets library show as it is.

    Args:
        run: a run or its folder.
        images: as for pretrain, or paths, or arrays (N, H, W) or (N, H, W, C); left out: those of the run.
        method: the Python file of the run's own method, which is run only if it is named here; the features are
            those of the backbone without it.
        pictures: add a small picture of each image, its class and its label.
        quiet: print nothing.

    Raises:
        UserError: the run has not ended, or the images can't be found or read.
    """
    run = load(run)
    from gemel.engine.caller import preserved
    from gemel.engine.processes import joined
    from gemel.evaluations.features import printed, say_unreadable, see
    from gemel.evaluations.networks import open_subject, say_without_method
    from gemel.evaluations.run_protocol import images_of
    from gemel.evaluations.tables import picture_table, vector_table

    source = images_of(run, images, None if pictures else "none")
    with preserved(), joined():
        subject = open_subject(run, method=method)
        say_without_method(subject, quiet)
        seen = see(subject, source, tell=printed(quiet))
    say_unreadable(seen, quiet)
    return picture_table(seen) if pictures else vector_table(seen)
