"""A protocol on a subject: from the user's words to a result that tells everything it depends on."""

from pathlib import Path
from typing import Any

import numpy as np

from gemel import evaluations
from gemel.data.messages import LABEL_WORDS, in_full
from gemel.data.sources import ArraySource, Source, open_source
from gemel.distributed import rank
from gemel.engine.processes import joined
from gemel.errors import UserError
from gemel.evaluations.base import Evaluation, Progress, Result, Subject
from gemel.evaluations.features import printed
from gemel.evaluations.networks import is_library, open_subject
from gemel.runs.run import Run
from gemel.settings.schema import convert, mistakes_in, schema_of


def evaluate(
    words: Run | str | Path,
    protocol: str,
    images: str | Path | None,
    *,
    test: str | Path | None,
    labels: str | None,
    quiet: bool,
    options: dict[str, Any],
) -> Result:
    """What `gemel.evaluate` does; see there. Options are those of `open_subject` and of the protocol."""
    of_subject = ("network", "network_seed", "out", "weights", "size")
    evaluation = evaluations.make(protocol, {key: value for key, value in options.items() if key not in of_subject})
    chosen = _checked({key: value for key, value in options.items() if key in of_subject})
    subject = open_subject(words, **chosen)
    source, tested, given = NO_IMAGES, None, "own"
    if evaluation.takes_images:
        run = None if is_library(words) else words if isinstance(words, Run) else Run(words)
        # in full: a result's name follows from what it depends on, and `photos` is another folder elsewhere
        images, test = (None if one is None else in_full(str(one)) for one in (images, test))
        labels = labels if labels in LABEL_WORDS else in_full(labels)
        source = images_of(run, images, labels)
        tested = None if test is None else images_of(run, test, labels)
        if tested is not None:
            tested.rename_labels(source.label_names)
        given = labels or (run.settings["labels"] if run is not None and images is None else "own")
    elif (images, test, labels) != (None, None, None):
        raise UserError(f"{protocol} judges by images of its own; leave out IMAGES, --test and --labels, give --root")
    with joined():
        return judge(subject, evaluation, source, tested, labels=given, tell=printed(quiet))


def judge(
    subject: Subject,
    evaluation: Evaluation,
    train: Source,
    test: Source | None,
    *,
    labels: str,
    tell: Progress | None = None,
) -> Result:
    """Run a protocol and keep its result with everything that it depends on."""
    metrics, defaults = evaluation.run(subject, train, test, tell=tell)
    facts = subject.facts
    settings: dict[str, Any] = {
        "data": train.name,
        "test": None if test is None else test.name,
        "labels": labels,
        "network": subject.name,
        "backbone": facts["name"],
        "width": int(facts["width"]),
        "image_size": int(facts["size"]),
        "crop": CROPS[facts["views"]],
        "mean": list(facts["mean"]),
        "std": list(facts["std"]),
        **defaults,  # last: a protocol with a crop of its own says so
    }
    result = Result(evaluations.name_of(type(evaluation)), metrics, settings)
    if rank() == 0:
        result.write(subject.folder)
    return result


CROPS = {"glyph": "the whole image", "photo": "middle 224 / 256 of the shorter side, bicubic"}
"""the inference crop of each family of views"""


NO_IMAGES = ArraySource("none", np.empty((0, 1, 1), np.uint8))
"""what a protocol with data sets of its own is given"""


def images_of(run: Run | None, images: str | Path | None, labels: str | None) -> Source:
    """The images of the user's words; left out: those that the run learned from, with its labels."""
    if images is None:
        if run is None:
            raise UserError("name the images: gemel evaluate timm:NAME PROTOCOL IMAGES --out FOLDER")
        imported = run.environment.get("imported")
        if imported is not None:
            raise UserError(f"name the images: {run.path} was imported from {imported}, and learned from none of yours")
        return open_source(run.settings["images"], labels=labels or run.settings["labels"])
    return open_source(str(images), labels=labels)


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    """Options of `open_subject` in their types."""
    schema = schema_of(open_subject)
    mistakes = mistakes_in(options, schema.model_fields, lambda key: f"--{key.replace('_', '-')}", title="evaluate")
    if mistakes:
        raise UserError(*mistakes)
    return {key: value for key, value in convert(schema, options, "evaluate").items() if key in options}
