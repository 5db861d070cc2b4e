"""Boxes and masks of nuclei in StarDist's fluorescence image: learned in its upper half, judged in the lower one.

    pip download --no-deps stardist==0.9.2 && unzip stardist-*.whl 'stardist/data/images/*'
    python benchmarks/nuclei.py stardist/data/images [--steps 100] [--picture docs/pictures/nuclei.jpg]

The image has 16 bits, of which its values up to 235 fill the lower byte alone: they are scaled to 255 first.
"""

import argparse
import base64
import io
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import gemel
from gemel.metrics.dense import coco

SIDE = 128
STRIDE = 32
LEAST = 16
"""pixels of a nucleus in a tile, of those that its edge cuts"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--network", default="timm:resnet18")
    parser.add_argument("--out", type=Path, default=Path("runs/nuclei"))
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    root = options.out / "set"
    if not (root / "val.json").is_file():  # written once: an interrupted fit goes on with the same files
        write(options.images, root)
    result = gemel.evaluate(
        options.network, "detection", data="boxes", root=root, recipe="small", steps=options.steps, network="random",
        out=options.out, quiet=False,
    )  # fmt: skip
    for name in ("trained_images", "judged_images", "seconds"):
        print(f"{name:16} {result.settings[name]}")
    for name, value in result.metrics.items():
        print(f"{name:16} {value:.3f}")
    if options.picture:
        shown(options.out / str(result.settings["predictions"]) / "pictures.json", options.picture)


def write(images: Path, root: Path) -> None:
    """Write the halves as tiles: of the upper one 65 that overlap, of the lower one 8 that don't."""
    values, nuclei = (np.array(Image.open(images / f"{name}2d.tif")) for name in ("img", "mask"))
    grey = (values * (255 / values.max())).round().astype(np.uint8)
    half = len(grey) // 2
    corners = {
        "train": [(y, x) for y in range(0, half - SIDE + 1, STRIDE) for x in range(0, half * 2 - SIDE + 1, STRIDE)],
        "val": [(y, x) for y in range(half, 2 * half, SIDE) for x in range(0, 2 * half, SIDE)],
    }
    for part, places in corners.items():
        (root / part).mkdir(parents=True, exist_ok=True)
        tree = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "nucleus"}]}
        for number, (top, left) in enumerate(places):
            place = np.s_[top : top + SIDE, left : left + SIDE]
            Image.fromarray(grey[place]).save(root / part / f"{number:03}.png")
            tree["images"].append({"id": number, "file_name": f"{number:03}.png", "height": SIDE, "width": SIDE})
            tree["annotations"] += annotations(nuclei[place], number, len(tree["annotations"]))
        (root / f"{part}.json").write_text(json.dumps(tree), encoding="utf-8")


def annotations(nuclei: NDArray[np.uint16], image: int, first: int) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for number in np.unique(nuclei[nuclei > 0]):
        mask = nuclei == number
        if mask.sum() < LEAST:
            continue
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x, y = int(columns[0]), int(rows[0])
        found.append({
            "id": first + len(found) + 1, "image_id": image, "category_id": 1, "iscrowd": 0, "area": int(mask.sum()),
            "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y], "segmentation": coco.encode(mask),
        })  # fmt: skip
    return found


def shown(pictures: Path, out: Path, side: int = 256) -> None:
    """Write the truth above what was found, of a few tiles side by side."""
    rows = json.loads(pictures.read_text(encoding="utf-8"))[:4]
    sheet = Image.new("RGB", (side * len(rows), side * 2))
    for column, row in enumerate(rows):
        for line, key in enumerate(("truth", "found")):
            data = base64.b64decode(row[key].partition(",")[2])
            sheet.paste(Image.open(io.BytesIO(data)).resize((side, side)), (column * side, line * side))
    sheet.save(out, quality=88)


if __name__ == "__main__":
    main()
