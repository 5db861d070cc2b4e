"""Views by number: how many, each with its own numbers or kind; plain and strong ones."""

from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from pydantic import ValidationError
from sklearn.datasets import load_digits, load_sample_images

import gemel
from conftest import TINY
from gemel.data.augment import put
from gemel.data.normalise import Normalise
from gemel.data.views import OPERATIONS, WHOLE, Draw, PhotoDraw, PlainDraw, StrongDraw, draw
from gemel.errors import UserError
from gemel.settings.recipes import GlyphViews, PhotoViews
from gemel.settings.schema import convert, mistakes_in
from gemel.settings.views import PhotoKind

PHOTO = np.ascontiguousarray(load_sample_images().images[0][100:300, 100:400])
DRAWS = 3000

chances = st.floats(0, 1)
by_number = {
    "flip": chances,
    "jitter": chances,
    "gray": chances,
    "blur": chances,
    "solarize": chances,
    "strength": st.floats(0, 5),
    "scale": st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(lambda pair: tuple(sorted(pair))),
    "kinds": st.sampled_from(["random", "plain", "whole", "strong"]),
}
one_or_several = {name: item | st.lists(item, min_size=1, max_size=4).map(tuple) for name, item in by_number.items()}


def drawn(views: PhotoViews | GlyphViews, view: int, index: int = 0, *, seed: int = 0, partner: bool = False) -> Draw:
    keys = {"epoch": 0, "height": 200, "width": 300, "size": 64, "partner": partner}
    return draw(views, seed=seed, index=index, view=view, **keys)  # pyright: ignore[reportArgumentType]


def strong(operations: int = 4, **changes: Any) -> list[StrongDraw]:
    views = PhotoViews(global_count=1, kinds="strong", operations=operations, **changes)
    draws = [drawn(views, 0, index) for index in range(DRAWS)]
    return [one for one in draws if isinstance(one, StrongDraw)]


@given(st.fixed_dictionaries(one_or_several), st.integers(1, 5), st.integers(0, 3), st.integers(0, 10**6))
def test_each_view_is_drawn_by_its_own_numbers(values: Any, count: int, local: int, index: int) -> None:
    """View v of a recipe with tuples is view v of the recipe that has v's numbers for all views."""
    views = PhotoViews(global_count=count, local_count=local, **values)
    assert views.count == len(views.sizes(64)) == count + local
    assert views.sizes(64)[:count] == (64,) * count
    for view in range(views.count):
        alone: dict[str, Any] = {
            name: value[min(view, len(value) - 1)] if isinstance(value, tuple) and name != "scale" else value
            for name, value in values.items()
        }
        alone["scale"] = views.scale_of(view)
        plain = PhotoViews(global_count=count, local_count=local, **alone)
        assert drawn(plain, view, index) == drawn(views, view, index)


@given(st.integers(1, 64), st.integers(0, 64))
def test_any_number_of_views(count: int, local: int) -> None:
    assert PhotoViews(global_count=count, local_count=local).sizes(224) == (224,) * count + (96,) * local
    assert GlyphViews(global_count=count).sizes(28) == (28,) * count


def test_the_first_views_are_those_of_a_recipe_with_more() -> None:
    assert drawn(PhotoViews(global_count=1), 0) == drawn(PhotoViews(), 0) == drawn(PhotoViews(global_count=3), 0)
    assert drawn(PhotoViews(global_count=3), 2) == drawn(PhotoViews(global_count=4, blur=(1, 0.1)), 2)


@given(st.fixed_dictionaries(one_or_several))
def test_a_recipe_is_read_back_from_its_own_settings(values: Any) -> None:
    views = PhotoViews(**values)
    written = views.model_dump(mode="json")
    assert PhotoViews.model_validate(written) == views
    assert PhotoViews(**convert(PhotoViews, written, "views")) == views


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ({"scale": "0.2,1"}, (0.2, 1.0)),
        ({"scale": "0.2, 1, 0.05, 0.4"}, ((0.2, 1.0), (0.05, 0.4))),
        ({"scale": [[0.2, 1], [0.05, 0.4]]}, ((0.2, 1.0), (0.05, 0.4))),
        ({"blur": "1,0.1"}, (1.0, 0.1)),
        ({"blur": "[1, 0.1, 0]"}, (1.0, 0.1, 0.0)),
        ({"blur": "0.5"}, 0.5),
        ({"flip": [0.25]}, 0.25),
        ({"strength": 2}, 2.0),
        ({"kinds": "plain,strong"}, ("plain", "strong")),
        ({"kinds": "strong"}, "strong"),
    ],
)
def test_one_value_or_one_for_each_view(text: dict[str, Any], value: object) -> None:
    (name,) = text
    assert mistakes_in(text, PhotoViews.model_fields, str) == []
    assert convert(PhotoViews, text, "views")[name] == value


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"flip": [0.5, 2]}, "views.flip.1 must be less than or equal to 1, not 2"),
        ({"blur": []}, "views.blur: takes one value, or one for each of at most 64 views, not 0"),
        ({"scale": "0.2"}, "views.scale: takes pairs of the smallest and the largest, not 1"),
        ({"scale": [[0.2, 1], [0.4, 0.3]]}, "scale: the smallest, 0.4, is above the largest, 0.3"),
        ({"scale": [0.2, 1.5], "ratio": [2, 1]}, "scale: the largest, 1.5, is above 1.0; ratio: the smallest, 2.0"),
        ({"kinds": ["plain", "stron"]}, "views.kinds.1 must be 'random', 'plain', 'whole' or 'strong', not stron"),
        ({"strength": [1, 6]}, "hue 0.1 times strength 6 is above 0.5"),
        ({"global_count": 0}, "views.global_count must be greater than or equal to 1, not 0"),
    ],
)
def test_wrong_values_by_view(given: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as raised:
        convert(PhotoViews, given, "views")
    assert told in str(raised.value)


def test_glyphs_are_not_strong() -> None:
    with pytest.raises(ValidationError, match="'random' or 'plain'"):
        GlyphViews(kinds="strong")  # pyright: ignore[reportArgumentType]


def test_strength_multiplies_the_colours() -> None:
    views = PhotoViews(global_count=3, jitter=1, strength=(1, 2.5, 0))
    factors = [dict(photo(drawn(views, view)).jitter) for view in range(3)]
    same = [dict(photo(drawn(PhotoViews(jitter=1), view)).jitter) for view in range(3)]
    for name, neutral in {"brightness": 1, "contrast": 1, "saturation": 1, "hue": 0}.items():
        assert factors[0][name] == same[0][name]
        assert factors[1][name] - neutral == pytest.approx(2.5 * (same[1][name] - neutral))
        assert factors[2][name] == neutral


def test_no_factor_is_below_zero() -> None:
    views = PhotoViews(jitter=1, brightness=0.8, strength=2)
    factors = [dict(photo(drawn(views, 0, index)).jitter)["brightness"] for index in range(DRAWS)]
    assert 0 <= min(factors) < 0.01
    assert 2.59 < max(factors) <= 2.6


def photo(one: Draw) -> PhotoDraw:
    assert isinstance(one, PhotoDraw)
    return one


@given(st.integers(1, 400), st.integers(1, 400), st.booleans(), st.integers(4, 64), st.sampled_from(["plain", "whole"]))
def test_inference_crops_of_photos_are_pillows(height: int, width: int, gray: bool, size: int, kind: PhotoKind) -> None:
    shown = np.tile(PHOTO, (2, 2, 1))[:height, :width]
    image = np.ascontiguousarray(shown[..., 0] if gray else shown)
    views = PhotoViews(kinds=("random", kind))
    one = draw(views, seed=1, epoch=2, index=3, view=1, height=height, width=width, size=size)
    assert one == PlainDraw(size, kind == "whole")
    out = np.empty((3, size, size), np.uint8)
    put(image, one, out)
    expected = inference_crop(image, size, whole=kind == "whole")
    planes = np.atleast_3d(expected).transpose(2, 0, 1)
    apart = np.abs(out.astype(int) - planes)
    # torch rounds its weights, and twice otherwise: a pixel here and there is some levels apart, an image is not
    assert apart.mean() < 0.5 if kind == "whole" else not apart.any()


def inference_crop(image: NDArray[np.uint8], size: int, *, whole: bool) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    side = min(height, width) * 224 / 256
    middle = ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
    box = (0, 0, width, height) if whole else middle
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC, box=box))


def test_a_plain_view_of_a_glyph_is_the_whole_image() -> None:
    one = draw(GlyphViews(kinds="plain"), seed=1, epoch=2, index=3, view=1, height=30, width=40, size=20)
    assert one == WHOLE._replace(size=20)


def test_operations_of_strong_views_are_drawn_with_replacement() -> None:
    draws = strong()
    counts = Counter(name for one in draws for name, _ in one.operations)
    expected = 4 * DRAWS / 14
    assert set(counts) == set(OPERATIONS)
    assert len(OPERATIONS) == 14
    assert all(abs(count - expected) < 5 * expected**0.5 for count in counts.values())
    repeated = np.mean([len({name for name, _ in one.operations}) < 4 for one in draws])
    assert abs(repeated - (1 - 13 * 12 * 11 / 14**3)) < 0.04
    for name, (low, high) in OPERATIONS.items():
        strengths = [strength for one in draws for key, strength in one.operations if key == name]
        assert low <= min(strengths) < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < max(strengths) <= high


def test_crop_flip_and_cutout_of_strong_views() -> None:
    draws = strong()
    assert abs(np.mean([one.flip for one in draws]) - 0.5) < 0.04
    assert all(one.side == 175 for one in draws), "7/8 of the shorter side, 200, as at inference"
    lefts, tops = np.array([(one.left, one.top) for one in draws]).T
    assert 0 <= lefts.min() < 1 < 124 < lefts.max() <= 125
    assert 0 <= tops.min() < 0.5 < 24.5 < tops.max() <= 25
    boxes = np.array([one.cutout for one in draws])
    widths = boxes[:, 2] - boxes[:, 0]
    assert set(widths[(boxes[:, 0] > 0) & (boxes[:, 2] < 64)]) == set(range(0, 21, 2)), "length // 2 on each side"
    assert boxes.min() == 0
    assert boxes.max() == 64
    assert all(one.fill == (124, 116, 104) for one in draws)
    assert all(one.cutout[0] == one.cutout[2] for one in strong(cutout=0)[:50])


PILLOW = {
    "identity": lambda image, _: image,
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
    "rotate": lambda image, strength: image.rotate(strength),
    "solarize": lambda image, strength: ImageOps.solarize(image, strength),
    "color": lambda image, strength: ImageEnhance.Color(image).enhance(strength),
    "contrast": lambda image, strength: ImageEnhance.Contrast(image).enhance(strength),
    "brightness": lambda image, strength: ImageEnhance.Brightness(image).enhance(strength),
    "sharpness": lambda image, strength: ImageEnhance.Sharpness(image).enhance(strength),
    "shear_x": lambda image, x: image.transform(image.size, Image.Transform.AFFINE, (1, x, 0, 0, 1, 0)),
    "shear_y": lambda image, x: image.transform(image.size, Image.Transform.AFFINE, (1, 0, 0, x, 1, 0)),
    "translate_x": lambda image, x: image.transform(image.size, Image.Transform.AFFINE, (1, 0, 64 * x, 0, 1, 0)),
    "translate_y": lambda image, x: image.transform(image.size, Image.Transform.AFFINE, (1, 0, 0, 0, 1, 64 * x)),
    "posterize": lambda image, strength: ImageOps.posterize(image, int(strength)),
}
"""the released operations, in Pillow"""


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("name", OPERATIONS)
def test_pixels_of_strong_views(name: str, gray: bool) -> None:
    image = PHOTO[..., 1].copy() if gray else PHOTO
    for strength in np.linspace(*OPERATIONS[name], 7, endpoint=False):
        one = StrongDraw(64, 40.25, 10.5, 175.0, True, ((name, strength),), (5, 50, 15, 64), (124, 116, 104))
        out = np.empty((3, 64, 64), np.uint8)
        put(image, one, out)
        box = (40.25, 10.5, 215.25, 185.5)
        expected = Image.fromarray(image).convert("RGB").resize((64, 64), Image.Resampling.BICUBIC, box=box)
        expected = PILLOW[name](ImageOps.mirror(expected), strength)
        expected.paste((124, 116, 104), (5, 50, 15, 64))
        assert np.array_equal(out.transpose(1, 2, 0), np.asarray(expected))


def test_what_is_cut_out_is_zero_to_the_network() -> None:
    views = PhotoViews(global_count=1, kinds="strong", cutout=1.0)
    (view,) = gemel.views([PHOTO] * 20, {"size": 64, **views.model_dump()})
    floats = Normalise(views.mean, views.std)(view)
    zero = (floats.abs() < 0.01).all(1)
    assert (zero.flatten(1).sum(1) > 0).float().mean() > 0.8
    assert zero.float().mean() < 0.5


@given(st.integers(1, 300), st.integers(1, 300), st.booleans(), st.integers(4, 40), st.integers(0, 10**6))
def test_strong_views_of_any_image(height: int, width: int, gray: bool, size: int, index: int) -> None:
    image = np.full((height, width) if gray else (height, width, 3), 77, np.uint8)
    views = PhotoViews(kinds="strong", operations=index % 17, cutout=(index % 3) / 2)
    one = draw(views, seed=0, epoch=0, index=index, view=0, height=height, width=width, size=size)
    out = np.empty((3, size, size), np.uint8)
    put(image, one, out)
    assert one == draw(views, seed=0, epoch=0, index=index, view=0, height=height, width=width, size=size)


def test_kinds_of_given_images() -> None:
    recipe = {"name": "photo", "size": 32, "global_count": 3, "kinds": ["plain", "strong"], "local_count": 2}
    views = gemel.views([PHOTO, PHOTO[..., 0]], recipe, seed=4, index=[8, 9])
    assert [tuple(view.shape) for view in views] == [(2, 3, 32, 32)] * 3 + [(2, 3, 12, 12)] * 2
    assert np.array_equal(views[0][0].permute(1, 2, 0), inference_crop(PHOTO, 32, whole=False))
    assert not torch.equal(views[1], views[2]), "both strong, drawn apart"
    again = gemel.views([PHOTO[..., 0]], recipe, seed=4, index=[9])
    assert all(torch.equal(one[0], two[1]) for one, two in zip(again, views, strict=True))
    (glyph,) = gemel.views([PHOTO], {"name": "glyph", "size": 20, "global_count": 1, "kinds": "plain"})
    whole = np.empty((3, 20, 20), np.uint8)
    put(PHOTO, WHOLE._replace(size=20), whole)
    assert np.array_equal(glyph[0], whole)


def test_views_of_partners_are_drawn_apart() -> None:
    for views in (PhotoViews(), GlyphViews(), PhotoViews(kinds="strong")):
        keys = product((0, 1), (0, 1), (False, True))
        found = {drawn(views, view, index, partner=partner) for view, index, partner in keys}
        assert len(found) == 8


ONE_VIEW = """'One view of an image, then a plain and a strong one.'
from typing import ClassVar
from gemel.distributed import mean_over_processes
from gemel.methods.base import Method
from gemel.settings.recipes import AdamWOptimizer, PhotoViews, Recipe, Stage

class OneView(Method):
    'Smaller features.'
    recipes: ClassVar = {"mine": Recipe(
        source="tests", views=PhotoViews(global_count=1), optimizer=AdamWOptimizer(), backbone={"name": "convnet"},
        epochs=2, batch_size=64, image_size=16,
        then=Stage(epochs=1, views={"global_count": 2, "kinds": ("plain", "strong")}),
    )}
    stages: ClassVar = ("pretrain", "refine")

    def forward(self, batch, progress):
        return {"loss": mean_over_processes(self.backbone(batch.views[0]).square().mean())}
"""


@pytest.mark.parametrize("named", [None, "glyph"])
def test_glyphs_keep_the_number_and_kinds_of_a_recipes_views(tmp_path: Path, named: str | None) -> None:
    file = tmp_path / "one.py"
    file.write_text(ONE_VIEW)
    (tmp_path / "images").mkdir()
    for number, digit in enumerate(load_digits().images[:20]):
        Image.fromarray((digit * 15).astype(np.uint8)).save(tmp_path / "images" / f"{number}.png")
    asked: dict[str, Any] = {"method": str(file), "epochs": 1, "batch_size": 10, "views": named, **TINY}
    run = gemel.pretrain(tmp_path / "images", out=tmp_path / "run", **asked)
    assert run.settings["views"]["name"] == run.settings["then"]["views"]["name"] == "glyph"
    assert (run.settings["views"]["global_count"], run.settings["views"]["kinds"]) == (1, "random")
    assert run.settings["then"]["views"]["global_count"] == 2
    assert run.settings["then"]["views"]["kinds"] == ["plain", "random"]
