"""`gemel.classify`: which discovered class each image is of, by numbers and by names."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt, SkipValidation

from gemel.api.runs import load
from gemel.data.sources import Images, Labels
from gemel.errors import UserError
from gemel.launcher import launched
from gemel.runs.class_names import check_numbers, read_names, renamed, write_names
from gemel.runs.edits import Edits, apply_edits, check_edits, read_edits_file
from gemel.runs.run import Run
from gemel.settings.schema import checked

if TYPE_CHECKING:
    import pyarrow as pa

    from gemel.evaluations.base import Subject
    from gemel.evaluations.features import Seen

Naming = Literal["one_to_one", "majority"]


@checked
def classify(
    run: Run | str | Path,
    images: Images | None = None,
    *,
    top: PositiveInt = 3,
    labels: SkipValidation[Labels | None] = None,
    naming: Naming = "one_to_one",
    rename: Sequence[str] = (),
    edits: str | Path | None = None,
    method: str | Path | None = None,
    quiet: bool = True,
) -> "pa.Table":
    """Return the discovered classes of images, one row for each that can be read.

    Columns: path, class, probability, then the next likely classes; unlike: whether the image is unlike any that the
    run has seen; edited: moved or wrong, where the user said so. Names are kept in RUN/classes.yaml for later calls;
    classes of one name count as one.

    Args:
        run: a run or its folder.
        images: as for pretrain, or paths, or arrays (N, H, W) or (N, H, W, C); left out: those of the run.
        top: number of classes shown for each image, the most likely ones.
        labels: of a labelled sample among the images, which names the classes: folders or FILE.csv.
        naming: one_to_one: a label names at most one class, so that most are right; majority: its most frequent label.
        rename: names given by hand, `3=cat`; two classes of one name are merged, `3=` takes a name away.
        edits: a file that Save in the explorer made: names, merged classes, images moved by hand, wrong ones. It is
            kept in the run's folder, for later calls and in explorer.html.
        method: the Python file of the run's own method, which is run only if it is named here.
        quiet: print nothing.

    Raises:
        UserError: the run's method discovers no classes, the images can't be found or read, or the edits are of
            another run.
    """
    run = load(run)
    changes = None if edits is None else _edits(run, edits)
    renamed(read_names(run), rename)  # its mistakes are reported before the images are read
    from gemel.evaluations.familiar import read_familiar
    from gemel.evaluations.hand_edits import hand_edits
    from gemel.evaluations.tables import class_table

    subject, seen = _seen(run, images, "none" if labels is None else labels, method, quiet)
    before = read_names(run)
    if changes is not None and launched().rank == 0:
        apply_edits(run, changes)
    names = _names(run, seen, None if labels is None else naming, rename)
    if launched().rank == 0 and (changes is not None or names != before):
        _renew_explorer(run)
    by_hand = hand_edits(run, seen, names)
    return class_table(subject, seen, top=top, names=by_hand.names, familiar=read_familiar(run), edits=by_hand)


def _seen(
    run: Run, images: Images | None, labels: Labels, method: str | Path | None, quiet: bool
) -> "tuple[Subject, Seen]":
    """Return the run's network and what it makes of images; raises UserError where there are no classes."""
    from gemel.engine.caller import preserved
    from gemel.engine.processes import joined
    from gemel.evaluations.features import printed, say_unreadable, see
    from gemel.evaluations.networks import open_subject
    from gemel.evaluations.run_protocol import images_of

    subject = open_subject(run, method=method)
    if subject.method is None:
        raise UserError(f"{subject.why_no_method}; gemel embed gives its features")
    source = images_of(run, images, labels)
    with preserved(), joined():
        seen = see(subject, source, tell=printed(quiet))
    say_unreadable(seen, quiet)
    if seen.top is None:
        raise UserError(f"{run.method_name} discovers no classes; gemel embed gives its features")
    return subject, seen


def _edits(run: Run, file: str | Path) -> Edits:
    """Return the edits of a file, which must be of this run."""
    edits, table = read_edits_file(file), run.map()
    if table is None:
        raise UserError(
            f"{run.path} has no map of its images, which edits are made on; gemel resume {run.path} makes it"
        )
    classes = int((table.schema.metadata or {})[b"classes"])
    check_edits(edits, paths=set(table["path"].to_pylist()), classes=classes, where=f"--edits {file}")
    return edits


def _renew_explorer(run: Run) -> None:
    """Let explorer.html start from the names and edits that are in force."""
    from gemel.reports.explorer import renew_edits

    table = run.map()
    if table is not None:
        renew_edits(run, table)


def _names(run: Run, seen: "Seen", naming: Naming | None, rename: Sequence[str]) -> dict[int, str]:
    """Return the names of classes, kept in the run's folder: those kept, then a sample's, then those given by hand."""
    from gemel.evaluations.class_naming import names_from

    kept = names = read_names(run)
    if naming is not None:
        found = names_from(seen, naming)
        # classes that the sample has no images of keep their names, but one_to_one never gives a name twice
        spared = {one: name for one, name in kept.items() if naming == "majority" or name not in found.values()}
        names = spared | found
    names = renamed(names, rename)
    if seen.top is not None:
        check_numbers(names, seen.top.class_count)
    if names != kept and launched().rank == 0:
        write_names(run, names)
    return names
