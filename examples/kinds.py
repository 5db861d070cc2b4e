"""A folder of small images in eight kinds, to see what TWIST finds in images that are not digits.

python examples/kinds.py glyphs kinds
gemel pretrain kinds --classes 8
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.floating]
Random = np.random.Generator

LETTERS = "ABEKRSX&"


def glyph(letter: str, random: Random) -> Image.Image:
    """Grey PNG: a letter of any size, weight, turn, slant and place, dark on light."""
    side = int(random.integers(40, 60))
    ink, paper = int(random.integers(0, 60)), int(random.integers(225, 256))
    image = Image.new("L", (side, side), paper)
    font = ImageFont.load_default(size=side * float(random.uniform(0.5, 0.8)))
    place = tuple(side / 2 + random.uniform(-0.08, 0.08, 2) * side)
    bold = int(random.integers(0, 3))
    ImageDraw.Draw(image).text(place, letter, ink, font, anchor="mm", stroke_width=bold)
    angle, slant = np.radians(random.uniform(-15, 15)), random.uniform(-0.25, 0.25)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ [[1, slant], [0, 1]]
    shift = side / 2 - turn @ [side / 2, side / 2]
    matrix = (*turn[0], shift[0], *turn[1], shift[1])
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=paper)


def smooth(side: int, width: float, random: Random) -> Pixels:
    """Noise without detail finer than `width` pixels."""
    waves = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    kept = np.fft.rfft2(random.standard_normal((side, side))) * np.exp(-((waves * width) ** 2))
    return np.fft.irfft2(kept, (side, side))


def cells(x: Pixels, y: Pixels, _: Random) -> Pixels:
    """Distance from the centre of the unit cell that a place is in."""
    return np.hypot(x - np.round(x), y - np.round(y))


TEXTURES: dict[str, Callable[[Pixels, Pixels, Random], Pixels]] = {
    "stripes": lambda x, y, _: np.sin(2 * np.pi * x) > 0,
    "checks": lambda x, y, _: np.sin(np.pi * x) * np.sin(np.pi * y) > 0,
    "dots": lambda x, y, random: cells(x, y, random) < random.uniform(0.2, 0.3),
    "rings": lambda x, y, random: (cells(x, y, random) > 0.22) & (cells(x, y, random) < 0.38),
    "grid": lambda x, y, random: np.minimum(abs(x - np.round(x)), abs(y - np.round(y))) < random.uniform(0.06, 0.12),
    "waves": lambda x, y, _: np.sin(2 * np.pi * (x + 0.3 * np.sin(2 * np.pi * y / 1.5))) > 0,
    "grain": lambda x, y, random: smooth(len(x), random.uniform(1, 2), random) > 0,
    "clouds": lambda x, y, random: smooth(len(x), random.uniform(10, 16), random),
}


def texture(name: str, random: Random) -> Image.Image:
    """Colour JPEG: a pattern of any scale, place, turn and pair of colours, with some noise."""
    side = int(random.integers(56, 80))
    period, angle = random.uniform(9, 16), random.uniform(-0.5, 0.5)
    rows, columns = np.mgrid[:side, :side] / period
    x = rows * np.sin(angle) + columns * np.cos(angle) + random.uniform(0, 9)
    y = rows * np.cos(angle) - columns * np.sin(angle) + random.uniform(0, 9)
    found = TEXTURES[name](x, y, random).astype(float)
    found = (found - found.min()) / (found.max() - found.min())
    dark, light = random.uniform(0, 110, 3), random.uniform(140, 255, 3)
    colours = dark + found[..., None] * (light - dark) + 6 * random.standard_normal((side, side, 3))
    return Image.fromarray(colours.clip(0, 255).astype(np.uint8))


def write(what: str, folder: Path, count: int) -> None:
    """Write `count` images; their kind is the name of the folder that they lie in, which gemel does not read."""
    glyphs = what == "glyphs"
    kinds = dict(zip("abekrsx+", LETTERS, strict=True)) if glyphs else {name: name for name in TEXTURES}
    for number in range(count):
        place, random = list(kinds)[number % len(kinds)], np.random.default_rng(number)
        path = folder / place / f"{number:04}.{'png' if glyphs else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        (glyph if glyphs else texture)(kinds[place], random).save(path)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or sys.argv[1] not in ("glyphs", "textures"):
        sys.exit("python examples/kinds.py glyphs|textures FOLDER [COUNT]")
    write(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) == 4 else 400)
