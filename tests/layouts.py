"""Tiny data sets in the layouts in which the real ones lie on disks: squares of one colour for each class."""

import json
import pickle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

SIDE = 12
COLOURS = [(230, 20, 20), (20, 200, 40), (30, 40, 220), (220, 220, 30)]


def square(label: int, number: int = 0) -> NDArray[np.uint8]:
    """Pixels of a class's colour, a little different in each image."""
    shade = np.random.default_rng([label, number]).integers(-15, 15, (SIDE, SIDE + number % 3, 3))
    return np.clip(np.array(COLOURS[label]) + shade, 0, 255).astype(np.uint8)


def picture(path: Path, label: int, number: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(square(label, number)).save(path, quality=95)


def text(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def food101(root: Path) -> None:
    names = ["apple_pie", "baby_back_ribs", "waffles"]
    for part, count in (("train", 10), ("test", 4)):
        listed = {name: [f"{name}/{part}{number}" for number in range(count)] for name in reversed(names)}
        for label, name in enumerate(names):
            for number, path in enumerate(listed[name]):
                picture(root / "food-101/images" / f"{path}.jpg", label, number)
        (root / "food-101/meta").mkdir(exist_ok=True)
        (root / "food-101/meta" / f"{part}.json").write_text(json.dumps(listed))


def cifar_arrays(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    labels = np.arange(count) % 3
    shade = np.random.default_rng(seed).integers(0, 15, (count, 3, 32, 32))
    images = np.array(COLOURS)[labels][:, :, None, None] * 0.9 + shade
    return images.astype(np.uint8).reshape(count, -1), labels


def cifar10_binary(root: Path) -> None:
    base = root / "cifar-10-batches-bin"
    base.mkdir(parents=True)
    text(base / "batches.meta.txt", ["airplane", "automobile", "bird", *"defghij"])
    for seed, name in enumerate([*(f"data_batch_{one}" for one in range(1, 6)), "test_batch"]):
        images, labels = cifar_arrays(6, seed)
        (base / f"{name}.bin").write_bytes(np.hstack([labels[:, None].astype(np.uint8), images]).tobytes())


def cifar10(root: Path, protocol: int = 2) -> None:
    base = root / "cifar-10-batches-py"
    base.mkdir(parents=True)
    for seed, name in enumerate([*(f"data_batch_{one}" for one in range(1, 6)), "test_batch"]):
        images, labels = cifar_arrays(6, seed)
        (base / name).write_bytes(
            pickle.dumps({"batch_label": name, "data": images, "labels": labels.tolist()}, protocol=protocol)
        )


def cifar100_binary(root: Path) -> None:
    base = root / "cifar-100-binary"
    base.mkdir(parents=True)
    for seed, (name, count) in enumerate([("train", 30), ("test", 6)]):
        images, labels = cifar_arrays(count, seed)
        heads = np.stack([labels * 0 + 7, labels], 1).astype(np.uint8)  # coarse, fine
        (base / f"{name}.bin").write_bytes(np.hstack([heads, images]).tobytes())


def cifar100(root: Path) -> None:
    base = root / "cifar-100-python"
    base.mkdir(parents=True)
    for seed, (name, count) in enumerate([("train", 30), ("test", 6)]):
        images, labels = cifar_arrays(count, seed)
        table = {"data": images, "fine_labels": labels.tolist(), "coarse_labels": [7] * count}
        (base / name).write_bytes(pickle.dumps(table, protocol=2))


def sun397(root: Path) -> None:
    names = ["/a/abbey", "/b/beach", "/o/outdoor/pool"]
    text(root / "SUN397/ClassName.txt", names)
    for part, count in (("Training", 10), ("Testing", 4)):
        lines = [f"{name}/sun_{part.lower()}{number}.jpg" for name in names for number in range(count)]
        text(root / f"SUN397/{part}_01.txt", lines)
        for place, line in enumerate(lines):
            picture(root / f"SUN397{line}", place // count, place % count)


def cars(root: Path) -> None:
    base = root / "stanford_cars"
    (base / "devkit").mkdir(parents=True)
    savemat(base / "devkit/cars_meta.mat", {"class_names": np.array(["Audi", "BMW", "Fiat"], object)})
    kind = [(name, object) for name in ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")]
    for file, folder, count in (
        ("devkit/cars_train_annos.mat", "cars_train", 24),
        ("cars_test_annos_withlabels.mat", "cars_test", 9),
    ):
        rows = np.array([(1, 1, 9, 9, one % 3 + 1, f"{one:05}.jpg") for one in range(count)], kind)
        savemat(base / file, {"annotations": rows})
        for one in range(count):
            picture(base / folder / f"{one:05}.jpg", one % 3, one)


def aircraft(root: Path) -> None:
    base = root / "fgvc-aircraft-2013b/data"
    names = ["707-320", "A300B4", "DC-9 30"]
    text(base / "variants.txt", names)
    for start, part in ((1000, "train"), (2000, "val"), (3000, "test")):
        text(base / f"images_variant_{part}.txt", [f"{start + one:07} {names[one % 3]}" for one in range(12)])
        for one in range(12):
            picture(base / "images" / f"{start + one:07}.jpg", one % 3, one)


VOC_IMAGES = {  # objects: class, difficult
    "train": [["cat"], ["dog"], ["cat", "dog"], ["person"], ["cat!"], ["dog", "dog!"]],
    "val": [["cat"], ["dog"], ["cat", "dog"], ["person"]],
    "test": [["cat"], ["dog"], ["cat", "dog"], ["person"], ["dog!"]],
}


def voc2007(root: Path) -> None:
    base = root / "VOCdevkit/VOC2007"
    number = 0
    for part, images in VOC_IMAGES.items():
        names: list[str] = []
        for objects in images:
            number += 1
            names.append(f"{number:06}")
            picture(base / "JPEGImages" / f"{names[-1]}.jpg", number % 4, number)
            inner = "".join(
                f"<object><name>{one.rstrip('!')}</name><difficult>{int(one.endswith('!'))}</difficult></object>"
                for one in objects
            )
            text(base / "Annotations" / f"{names[-1]}.xml", [f"<annotation>{inner}</annotation>"])
        text(base / "ImageSets/Main" / f"{part}.txt", names)


def dtd(root: Path) -> None:
    for part in ("train", "val", "test"):
        lines = [f"{name}/{name}_{part}{one}.jpg" for name in ("banded", "dotted", "woven") for one in range(5)]
        text(root / "dtd/dtd/labels" / f"{part}1.txt", lines)
        for place, line in enumerate(lines):
            picture(root / "dtd/dtd/images" / line, place // 5, place)


def pets(root: Path) -> None:
    base = root / "oxford-iiit-pet"
    names = ["Abyssinian", "american_bulldog", "yorkshire_terrier"]
    for part, count in (("trainval", 50), ("test", 4)):
        images = [(f"{name}_{part}{one}", label) for label, name in enumerate(names) for one in range(count)]
        text(
            base / "annotations" / f"{part}.txt", [f"{image} {label + 1} {label % 2 + 1} 1" for image, label in images]
        )
        for place, (image, label) in enumerate(images):
            picture(base / "images" / f"{image}.jpg", label, place)


def caltech101(root: Path) -> None:
    for label, (name, count) in enumerate(
        [("BACKGROUND_Google", 3), ("Faces", 34), ("accordion", 33), ("yin_yang", 31)]
    ):
        for one in range(count):
            picture(root / "caltech101/101_ObjectCategories" / name / f"image_{one:04}.jpg", label, one)


def flowers102(root: Path) -> None:
    base = root / "flowers-102"
    base.mkdir(parents=True)
    savemat(base / "imagelabels.mat", {"labels": np.arange(30) % 3 + 1})
    places = np.arange(1, 31)
    savemat(base / "setid.mat", {"trnid": places[:9], "valid": places[9:18], "tstid": places[18:]})
    for one in places:
        picture(base / "jpg" / f"image_{one:05}.jpg", (one - 1) % 3, int(one))


def folders(root: Path) -> None:
    for part, count in (("train", 10), ("test", 3)):
        for label, name in enumerate(["one", "two"]):
            for one in range(count):
                picture(root / part / name / f"{one}.jpg", label, one)
