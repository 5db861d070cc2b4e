"""The front door's classify: which discovered class each image is of, by numbers and by names."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gemel.errors import UserError, brief
from gemel.launcher import launched
from gemel.runs.class_names import check_numbers, read_names, renamed, write_names
from gemel.runs.run import Run

if TYPE_CHECKING:
    import pyarrow as pa

NAMINGS = ("one_to_one", "majority")


def classify(
    run: Run,
    images: str | Path | None,
    *,
    top: int,
    labels: str | None,
    naming: str,
    rename: Sequence[str],
    quiet: bool,
) -> "pa.Table":
    """As `gemel.classify`."""
    if type(top) is not int or top < 1:
        raise UserError(f"top must be a whole number of at least 1, not {brief(top)}")
    if naming not in NAMINGS:
        raise UserError(f"--naming {brief(naming)!r} is unknown; there are {', '.join(NAMINGS)}")
    kept = read_names(run)
    renamed(kept, rename)  # its mistakes are told before the images are looked at
    from gemel.engine.processes import joined
    from gemel.evaluations.class_naming import names_from
    from gemel.evaluations.features import printed, say_unreadable, see
    from gemel.evaluations.networks import open_subject
    from gemel.evaluations.run_protocol import images_of
    from gemel.evaluations.tables import class_table

    subject = open_subject(run)
    if subject.method is None:
        raise UserError(f"{run.path} has no checkpoint, and so no classes; gemel embed gives its features")
    source = images_of(run, images, labels or "none")
    with joined():
        seen = see(subject, source, tell=printed(quiet))
    say_unreadable(seen, quiet)
    if seen.top is None:
        raise UserError(f"{run.settings['method']['name']} discovers no classes; gemel embed gives its features")
    names = kept
    if labels:
        found = names_from(seen, "majority" if naming == "majority" else "one_to_one")
        # classes that the sample doesn't tell of keep their names, but one_to_one never gives a name twice
        spared = {one: name for one, name in kept.items() if naming == "majority" or name not in found.values()}
        names = spared | found
    names = renamed(names, rename)
    check_numbers(names, seen.top.class_count)
    if names != kept and launched().rank == 0:
        write_names(run, names)
    return class_table(subject, seen, top=top, names=names)
