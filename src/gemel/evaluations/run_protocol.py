"""A protocol on a subject: from the user's words to a result that tells everything it depends on."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from gemel import evaluations
from gemel.data.messages import in_full
from gemel.data.sources import ArraySource, Images, Labels, Source, open_source
from gemel.data.sources.identity import fingerprint
from gemel.data.survey import decoded
from gemel.distributed import rank
from gemel.engine.processes import joined
from gemel.errors import UserError, system_words
from gemel.evaluations.base import Evaluation, Progress, Result, Subject
from gemel.evaluations.features import printed
from gemel.evaluations.networks import is_library, open_subject, say_without_method
from gemel.evaluations.splits import kept_apart, match_labels
from gemel.runs.run import Run
from gemel.settings.schema import schema_of


def evaluate(
    words: Run | str | Path,
    protocol: str,
    images: Images | None,
    *,
    test: Images | None,
    labels: Labels | None,
    quiet: bool,
    options: dict[str, Any],
) -> Result:
    """Do what `gemel.evaluate` does; see there. Options are those of `open_subject` and of the protocol, checked."""
    of_subject = schema_of(open_subject).model_fields
    evaluation = evaluations.make(protocol, {key: value for key, value in options.items() if key not in of_subject})
    subject = open_subject(words, **{key: value for key, value in options.items() if key in of_subject})
    say_without_method(subject, quiet)
    source, tested, given = NO_IMAGES, None, "own"
    if evaluation.takes_images:
        run = None if is_library(words) else words if isinstance(words, Run) else Run(words)
        # in full: a result's name follows from what it depends on, and `photos` is another folder elsewhere
        images, test, labels = (in_full(one) for one in (images, test, labels))
        source = images_of(run, images, labels)
        if test is not None:
            if labels is not None and not isinstance(labels, str):
                raise UserError("labels for the images of a test set are given by a CSV file, or folders")
            tested = images_of(run, test, labels)
            tested.decoding = source.decoding
        given = labels or (run.setting("labels") if run is not None and images is None else "own")
        given = given if isinstance(given, str) else "given"
    elif any(one is not None for one in (images, test, labels)):
        raise UserError(f"{protocol} judges by images of its own; leave out IMAGES, --test and --labels, give --root")
    with joined():
        result = measure(subject, evaluation, source, tested, labels=given, tell=printed(quiet))
    if rank() == 0:
        try:
            result.write(subject.folder)
        except OSError as error:  # hours may have gone into the numbers
            print(f"the result is not kept: {system_words(error)}", file=sys.stderr)
    return result


def judge(
    subject: Subject,
    evaluation: Evaluation,
    train: Source,
    test: Source | None,
    *,
    labels: str,
    tell: Progress | None = None,
) -> Result:
    """Run a protocol and keep its result in the subject's folder; arguments as those of `measure`."""
    result = measure(subject, evaluation, train, test, labels=labels, tell=tell)
    if rank() == 0:
        result.write(subject.folder)
    return result


def measure(
    subject: Subject,
    evaluation: Evaluation,
    train: Source,
    test: Source | None,
    *,
    labels: str,
    tell: Progress | None = None,
) -> Result:
    """Run a protocol; the result tells everything that it depends on.

    Args:
        subject: the network.
        evaluation: the protocol.
        train: images to fit on, or to be judged themselves.
        test: images to be judged by; its labels are numbered as those of `train`.
        labels: where the labels come from, in the user's word.
        tell: told how far it is.

    Raises:
        UserError: training and test images, or their classes, do not fit together.
    """
    facts = subject.facts
    asked: dict[str, Any] = {
        "data": train.name,
        "test": None if test is None else test.name,
        "labels": labels,
        "network": subject.name,
        "backbone": facts["name"],
        "width": int(facts["width"]),
        "image_size": int(facts["size"]),
        "crop": CROPS[facts.get("crop") or facts["views"]],
        "mean": list(facts["mean"]),
        "std": list(facts["std"]),
        **{key: value for key, value in train.decoding.asked.items() if value is not None},
        "options": evaluation.options,
        "fingerprints": [fingerprint(source) for source in (train, test) if source is not None],
    }
    left_out: dict[str, int] = {}
    if evaluation.takes_images:
        train, test, left_out = kept_apart(train, test)
        if test is not None:
            match_labels(train, test, any_class=evaluation.any_class)
        if tell is not None:
            for words, count in left_out.items():
                if count:
                    print(f"{count} images {LEFT_OUT[words]}")
    metrics, found = evaluation.run(subject, train, test, tell=tell)
    return Result(evaluations.name_of(type(evaluation)), metrics, asked, found | left_out)


LEFT_OUT = {
    "repeated_images": "are listed more than once; each counts once",
    "shared_images": "are test images too, or copies of them; they are left out of the images to fit on",
}
"""what is said of images that `kept_apart` leaves out"""


CROPS = {
    "glyph": "the whole image",
    "whole": "both sides resized, bicubic",
    "photo": "middle 224 / 256 of the shorter side, bicubic",
    "vectors": "none",
}
"""the inference crop of each family of views"""


NO_IMAGES = ArraySource("none", np.empty((0, 1, 1), np.uint8))
"""what a protocol with datasets of its own is given"""


def images_of(run: Run | None, images: Images | None, labels: Labels | None) -> Source:
    """Return the images that the user's words mean; without words those that the run learned from, with its labels."""
    if images is not None:
        return decoded(open_source(images, labels=labels), {} if run is None else run.settings)
    if run is None:
        raise UserError("name the images: gemel evaluate timm:NAME PROTOCOL IMAGES --out FOLDER")
    imported = run.environment.get("imported")
    if imported is not None:
        raise UserError(f"name the images: {run.path} was imported from {imported}, and learned from none of yours")
    labels = run.setting("labels") if labels is None else labels
    return decoded(open_source(run.setting("images"), labels=labels), run.settings)
