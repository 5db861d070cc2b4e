"""Datasets whose labels and splits stand in MATLAB files: Stanford Cars and Oxford Flowers."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from gemel.data.downstream.parts import Described, Downstream, Layout, draw_share, files, folder_of, malformed
from gemel.errors import UserError


def variables(described: Layout, file: Path, *keys: str) -> list[Any]:
    """Return variables of a file.

    Raises:
        UserError: it is not a MATLAB file, or lacks these variables.
    """
    try:
        found = loadmat(file, squeeze_me=True)
        return [found[key] for key in keys]
    except (OSError, ValueError, NotImplementedError, TypeError, MatReadError) as error:
        raise UserError(f"{described.title}: {file} is not a MATLAB file ({error}); {described.origin}") from error
    except KeyError as error:
        raise UserError(f"{described.title}: {file} has no variable {error}; {described.origin}") from error


def _cars(described: Described, root: Path, seed: int) -> Downstream:
    tests = "cars_test_annos_withlabels.mat"
    needed = ["devkit/cars_meta.mat", "devkit/cars_train_annos.mat", tests, "cars_train", "cars_test"]
    base = folder_of(described, root, ["stanford_cars"], needed)
    (meta,) = variables(described, base / needed[0], "class_names")
    names = [str(name) for name in np.atleast_1d(meta)]
    parts: list[list[tuple[str, int]]] = []
    for file, folder in ((needed[1], "cars_train"), (tests, "cars_test")):
        (rows,) = variables(described, base / file, "annotations")
        if not {"fname", "class"} <= set(rows.dtype.names or ()):
            raise malformed(described, base / file, rows.dtype.names)
        listed = [(f"{folder}/{row['fname']}", int(row["class"]) - 1) for row in np.atleast_1d(rows)]
        if any(not 0 <= label < len(names) for _, label in listed):
            raise malformed(described, base / file, "a class that cars_meta.mat lacks")
        parts.append(listed)
    train, test = (files(described, base, listed, names) for listed in parts)
    fitted, chosen = draw_share(len(train), 1_650 / 8_144, seed)
    rule = f"1,650 / 8,144 of train at random, seed {seed}"
    return Downstream(described, names, train.subset(fitted), train.subset(chosen), test, rule)


def _flowers(described: Described, root: Path, seed: int) -> Downstream:
    del seed  # the split is official
    base = folder_of(described, root, ["flowers-102"], ["setid.mat", "imagelabels.mat", "jpg"])
    (labels,) = variables(described, base / "imagelabels.mat", "labels")
    parts = [np.atleast_1d(part) for part in variables(described, base / "setid.mat", "trnid", "valid", "tstid")]
    labels = np.atleast_1d(labels)
    if labels.dtype.kind not in "ui" or labels.min() < 1:
        raise malformed(described, base / "imagelabels.mat", f"labels {labels.dtype}")
    strangers = [int(one) for part in parts for one in part if not 1 <= one <= len(labels)]
    if strangers:
        raise malformed(described, base / "setid.mat", f"image {strangers[0]} of {len(labels)}")
    names = [str(number + 1) for number in range(int(labels.max()))]
    train, val, test = (
        files(described, base, [(f"jpg/image_{one:05d}.jpg", int(labels[one - 1]) - 1) for one in part.tolist()], names)
        for part in parts
    )
    return Downstream(described, names, train, val, test, "official")


SETS = (
    Described(
        "cars", "Stanford Cars", 196, "top1",
        "stanford_cars/devkit/cars_meta.mat, devkit/cars_train_annos.mat, cars_test_annos_withlabels.mat, "
        "cars_train/*.jpg, cars_test/*.jpg",
        "The authors' host is gone; arrange a copy so (or sort it into train/CLASS and test/CLASS for --data folders).",
        (6_494, 1_650, 8_041), _cars,
    ),
    Described(
        "flowers102", "Flowers-102", 102, "mean_per_class",
        "flowers-102/setid.mat, imagelabels.mat, jpg/image_00001.jpg ...",
        "Get 102flowers.tgz, imagelabels.mat and setid.mat of https://www.robots.ox.ac.uk/~vgg/data/flowers/102/.",
        (1_020, 1_020, 6_149), _flowers,
    ),
)  # fmt: skip
