"""Datasets of image files whose splits stand in text files or folders."""

import json
from pathlib import Path
from typing import Any

from gemel.data.downstream.parts import (
    Described,
    Downstream,
    draw_each,
    draw_share,
    files,
    folder_of,
    lines_of,
    malformed,
)
from gemel.data.listing import SUFFIXES
from gemel.errors import UserError


def _food101(described: Described, root: Path, seed: int) -> Downstream:
    base = folder_of(described, root, ["food-101"], ["meta/train.json", "meta/test.json", "images"])
    parts: list[Any] = []
    for part in ("train", "test"):
        file = base / "meta" / f"{part}.json"
        try:
            parts.append(json.loads(file.read_text(encoding="utf-8")))
        except ValueError as error:
            raise malformed(described, file, str(error)) from error
        if not isinstance(parts[-1], dict):
            raise malformed(described, file, type(parts[-1]).__name__)
    names: list[str] = sorted(parts[0])
    listed = [
        [(f"images/{path}.jpg", names.index(name)) for name in sorted(part) for path in part[name]] for part in parts
    ]
    train = files(described, base, listed[0], names)
    fitted, chosen = draw_share(len(train), 0.1, seed)
    test = files(described, base, listed[1], names)
    return Downstream(
        described, names, train.subset(fitted), train.subset(chosen), test, f"10 % of train at random, seed {seed}"
    )


def _sun397(described: Described, root: Path, seed: int) -> Downstream:
    base = folder_of(described, root, ["SUN397"], ["ClassName.txt", "Training_01.txt", "Testing_01.txt"])
    names = lines_of(described, base / "ClassName.txt")  # "/a/abbey"
    label = {name: number for number, name in enumerate(names)}
    parts: list[list[tuple[str, int]]] = []
    for part in ("Training_01.txt", "Testing_01.txt"):
        listed: list[tuple[str, int]] = []
        for line in lines_of(described, base / part):  # "/a/abbey/sun_aaa.jpg"
            name = line.rpartition("/")[0]
            if name not in label:
                raise malformed(described, base / part, line)
            listed.append((line.lstrip("/"), label[name]))
        parts.append(listed)
    shown = [name[3:] for name in names]
    train, test = (files(described, base, listed, shown) for listed in parts)
    assert train.labels is not None
    fitted, chosen, _ = draw_each(train.labels, seed, lambda count: (count - round(count / 5), round(count / 5)))
    rule = f"a fifth of each class of train (10 of 50) at random, seed {seed}"
    return Downstream(described, shown, train.subset(fitted), train.subset(chosen), test, rule)


def _aircraft(described: Described, root: Path, seed: int) -> Downstream:
    del seed  # the split is official
    needed = ["data/variants.txt", *(f"data/images_variant_{part}.txt" for part in ("train", "val", "test"))]
    base = folder_of(described, root, ["fgvc-aircraft-2013b"], needed)
    names = lines_of(described, base / "data/variants.txt")
    label = {name: number for number, name in enumerate(names)}
    parts: list[list[tuple[str, int]]] = []
    for file in needed[1:]:
        listed: list[tuple[str, int]] = []
        for line in lines_of(described, base / file):  # "0056978 707-320"
            image, _, name = line.partition(" ")
            if name not in label:
                raise malformed(described, base / file, line)
            listed.append((f"data/images/{image}.jpg", label[name]))
        parts.append(listed)
    train, val, test = (files(described, base, listed, names) for listed in parts)
    return Downstream(described, names, train, val, test, "official")


def _dtd(described: Described, root: Path, seed: int) -> Downstream:
    del seed  # the split is official
    needed = [f"labels/{part}1.txt" for part in ("train", "val", "test")]
    base = folder_of(described, root, ["dtd/dtd", "dtd"], [*needed, "images"])
    parts = [lines_of(described, base / file) for file in needed]  # "banded/banded_0002.jpg"
    names = sorted({line.partition("/")[0] for lines in parts for line in lines})
    train, val, test = (
        files(described, base, [(f"images/{line}", names.index(line.partition("/")[0])) for line in lines], names)
        for lines in parts
    )
    return Downstream(described, names, train, val, test, "official")


def _pets(described: Described, root: Path, seed: int) -> Downstream:
    needed = ["annotations/trainval.txt", "annotations/test.txt", "images"]
    base = folder_of(described, root, ["oxford-iiit-pet"], needed)
    names: dict[int, str] = {}
    parts: list[list[tuple[str, int]]] = []
    for file in needed[:2]:
        listed: list[tuple[str, int]] = []
        for line in lines_of(described, base / file):  # "Abyssinian_100 1 1 1"
            words = line.split()
            if len(words) != 4 or not words[1].isdecimal() or words[1] == "0":
                raise malformed(described, base / file, line)
            listed.append((f"images/{words[0]}.jpg", int(words[1]) - 1))
            names.setdefault(int(words[1]) - 1, words[0].rpartition("_")[0])
        parts.append(listed)
    shown = [names.get(number, str(number + 1)) for number in range(max(names, default=-1) + 1)]
    train, test = (files(described, base, listed, shown) for listed in parts)
    assert train.labels is not None
    fitted, chosen, _ = draw_each(train.labels, seed, lambda count: (count - min(20, count // 2), min(20, count // 2)))
    rule = f"20 of each class of trainval (at most half) at random, seed {seed}"
    return Downstream(described, shown, train.subset(fitted), train.subset(chosen), test, rule)


def _caltech101(described: Described, root: Path, seed: int) -> Downstream:
    inner = "101_ObjectCategories"
    base = root if root.name == inner else folder_of(described, root, ["caltech101", "caltech-101"], [inner]) / inner
    names = sorted(path.name for path in base.iterdir() if path.is_dir() and path.name != "BACKGROUND_Google")
    listed = [
        (f"{name}/{path.name}", number)
        for number, name in enumerate(names)
        for path in sorted((base / name).iterdir())
        if _is_image(path)
    ]
    few = [name for number, name in enumerate(names) if sum(label == number for _, label in listed) < 3]
    if not listed or few:
        raise UserError(
            f"Caltech-101 in {base}: {'classes ' + ', '.join(few[:5]) + ' have' if few else 'there are'} fewer than 3 "
            f"images; expected {described.layout}. {described.origin}"
        )
    whole = files(described, base, listed, names)
    assert whole.labels is not None

    def counts(images: int) -> tuple[int, int]:
        fitted = min(30, images - 1)
        chosen = max(1, fitted // 6)
        return fitted - chosen, chosen

    train, val, test = (whole.subset(indices) for indices in draw_each(whole.labels, seed, counts))
    rule = f"5 of the 30 of each class drawn to fit on, without BACKGROUND_Google, seed {seed}"
    return Downstream(described, names, train, val, test, rule)


def _folders(described: Described, root: Path, seed: int) -> Downstream:
    base = folder_of(described, root, [described.name], ["train", "test"])
    has_val = (base / "val").is_dir()
    names = sorted(path.name for path in (base / "train").iterdir() if path.is_dir())
    strangers = [
        path
        for part in ("val", "test")
        if (base / part).is_dir()
        for path in (base / part).iterdir()
        if path.is_dir() and path.name not in names
    ]
    if strangers:
        raise UserError(f"{strangers[0]} is a class that {base / 'train'} lacks; give the parts the same folders")
    train, *rest = (
        files(
            described,
            base,
            [
                (f"{part}/{name}/{path.name}", number)
                for number, name in enumerate(names)
                if (base / part / name).is_dir()
                for path in sorted((base / part / name).iterdir())
                if _is_image(path)
            ],
            names,
        )
        for part in ("train", *(["val"] if has_val else []), "test")
    )
    if has_val:
        return Downstream(described, names, train, rest[0], rest[1], "the folder val")
    fitted, chosen = draw_share(len(train), 0.2, seed)
    rule = f"a fifth of train at random, seed {seed}"
    return Downstream(described, names, train.subset(fitted), train.subset(chosen), rest[0], rule)


def _is_image(path: Path) -> bool:
    return path.name.lower().encode().rpartition(b".")[2] in SUFFIXES and not path.name.startswith(".")


_FOLDERS = "train/CLASS/*.jpg, test/CLASS/*.jpg and, if there is one, val/CLASS/*.jpg"

SETS = (
    Described(
        "food101", "Food-101", 101, "top1", "food-101/meta/train.json, meta/test.json, images/CLASS/*.jpg",
        "Unpack food-101.tar.gz of https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/.",
        (68_175, 7_575, 25_250), _food101,
    ),
    Described(
        "sun397", "SUN397", 397, "top1",
        "SUN397/ClassName.txt, Training_01.txt, Testing_01.txt (of Partitions.zip), a/abbey/sun_*.jpg",
        "Get SUN397.tar.gz and Partitions.zip of https://vision.princeton.edu/projects/2010/SUN/.",
        (15_880, 3_970, 19_850), _sun397,
    ),
    Described(
        "aircraft", "FGVC Aircraft", 100, "mean_per_class",
        "fgvc-aircraft-2013b/data/variants.txt, images_variant_{train,val,test}.txt, images/*.jpg",
        "Unpack fgvc-aircraft-2013b.tar.gz of https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/.",
        (3_334, 3_333, 3_333), _aircraft,
    ),
    Described(
        "dtd", "DTD", 47, "top1", "dtd/labels/train1.txt, val1.txt, test1.txt, images/CLASS/*.jpg",
        "Unpack dtd-r1.0.1.tar.gz of https://www.robots.ox.ac.uk/~vgg/data/dtd/.",
        (1_880, 1_880, 1_880), _dtd,
    ),
    Described(
        "pets", "Oxford Pets", 37, "mean_per_class",
        "oxford-iiit-pet/annotations/trainval.txt, test.txt, images/*.jpg",
        "Unpack images.tar.gz and annotations.tar.gz of https://www.robots.ox.ac.uk/~vgg/data/pets/.",
        (2_940, 740, 3_669), _pets,
    ),
    Described(
        "caltech101", "Caltech-101", 101, "mean_per_class", "caltech101/101_ObjectCategories/CLASS/*.jpg",
        "Unpack 101_ObjectCategories.tar.gz of https://data.caltech.edu/records/mzrjq-6wc02.",
        (2_550, 510, 6_084), _caltech101,
    ),
    Described("folders", "Folders", 0, "top1", _FOLDERS, "Any images sorted into such folders.", (0, 0, 0), _folders),
    Described(
        "places205", "Places-205", 205, "top1", _FOLDERS,
        "Sort the images of http://places.csail.mit.edu/ by its lists train_places205.csv and val_places205.csv.",
        (2_448_873, 0, 20_500), _folders,
    ),
    Described(
        "inat18", "iNaturalist 2018", 8_142, "top1", _FOLDERS,
        "Sort the images of https://github.com/visipedia/inat_comp/tree/master/2018 by train2018.json, val2018.json.",
        (437_513, 0, 24_426), _folders,
    ),
)  # fmt: skip
