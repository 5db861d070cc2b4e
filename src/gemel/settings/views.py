"""Descriptions of views: of photographs, of glyphs, and of vectors, which have none but themselves."""

from collections.abc import Callable, Mapping
from math import inf
from typing import Annotated, Any, Literal, Self, TypeVar, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetPydanticSchema,
    PlainSerializer,
    model_validator,
)

from gemel.settings.description import ChannelDeviations, ChannelMeans, Description, Ordered, Probability, Side

GlobalCount = Annotated[int, Field(ge=1, le=64)]
_T = TypeVar("_T")


def _values(value: Any) -> Any:
    values = cast("list[Any]", value) if isinstance(value, list | tuple) else [value]
    if not 1 <= len(values) <= 64:
        raise ValueError(f"takes one value, or one for each of at most 64 views, not {len(values)}")
    return values


def _pairs(value: Any) -> Any:
    """Take `0.2, 1, 0.1, 0.4` for two pairs, since the command line knows no nested lists."""
    values = _values(value)
    if any(isinstance(one, list | tuple) for one in values):
        return values
    if len(values) % 2:
        raise ValueError(f"takes pairs of the smallest and the largest, not {len(values)} numbers")
    return [values[i : i + 2] for i in range(0, len(values), 2)]


def _by_view(item: Any, listed: Callable[[Any], Any] = _values) -> GetPydanticSchema:
    """One item for all views, kept as it is, or a tuple with one for each."""
    several = Annotated[
        tuple[item, ...],
        BeforeValidator(listed),
        AfterValidator(lambda values: values[0] if len(values) == 1 else values),
        PlainSerializer(lambda value: value),
    ]

    def one_or_several(schema: Any, handler: Any) -> dict[str, Any]:
        array = handler(schema)
        return {"anyOf": [array["items"], array]}

    return GetPydanticSchema(lambda _, handler: handler.generate_schema(several), one_or_several)


def by_view(value: _T | tuple[_T, ...], view: int) -> _T:
    """Return the value of one view, where the last of several is repeated.

    >>> by_view((1.0, 0.1), 5), by_view(0.5, 5)
    (0.1, 0.5)
    """
    if isinstance(value, tuple):  # asked for every view of every image: no calls
        return value[view if view < len(value) else -1]  # pyright: ignore[reportReturnType]
    return value


Chances = Annotated[float | tuple[float, ...], _by_view(Probability)]
Scales = Annotated[Ordered | tuple[Ordered, ...], _by_view(Ordered, _pairs)]
Strengths = Annotated[float | tuple[float, ...], _by_view(Annotated[float, Field(ge=0.0, le=10.0)])]
PhotoKind = Literal["random", "plain", "whole", "strong"]
GlyphKind = Literal["random", "plain"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""of the papers, of torchvision's weights, and of nearly all files of tensors"""


class PhotoViews(Description):
    """Crop, flip, colour jitter, grey, blur, solarise: the papers' pipelines (defaults: BYOL's pair T, T').

    A setting "by view" is one value for all views, or one for each global view, of which the last is repeated.
    """

    name: Literal["photo"] = "photo"
    global_count: GlobalCount = 2
    """views of the whole image size"""
    kinds: Annotated[PhotoKind | tuple[PhotoKind, ...], _by_view(PhotoKind)] = "random"
    """by view; random: as below; plain: the inference crop; whole: all of the image, both sides resized; strong: flip,
    crop, RandAugment's operations and cutout"""
    scale: Scales = (0.08, 1.0)
    """smallest and largest share of the image's area in a crop; by view"""
    ratio: Ordered = (0.75, 4 / 3)
    """smallest and largest width / height of a crop, drawn log-uniformly"""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    """how a crop is resized, with antialias"""
    flip: Chances = 0.5
    """probability of a horizontal flip; by view"""
    jitter: Chances = 0.8
    """probability of a colour jitter, whose four parts come in random order; by view"""
    brightness: Probability = 0.4
    """brightness is multiplied by 1 ± this"""
    contrast: Probability = 0.4
    """contrast is multiplied by 1 ± this"""
    saturation: Probability = 0.2
    """saturation is multiplied by 1 ± this"""
    hue: Annotated[float, Field(ge=0.0, le=0.5)] = 0.1
    """hue is turned by ± this share of the colour circle"""
    strength: Strengths = 1.0
    """brightness, contrast, saturation and hue are multiplied by this; by view"""
    gray: Chances = 0.2
    """probability of a grey view; by view"""
    gray_first: bool = False
    """grey before the colour jitter, not after it"""
    blur: Chances = (1.0, 0.1)
    """probability of a Gaussian blur; by view"""
    blur_sigma: Ordered = (0.1, 2.0)
    """smallest and largest sigma of the blur, pixels"""
    solarize: Chances = (0.0, 0.2)
    """probability of solarisation, v >= 128 becomes 255 - v; by view"""
    noise: Chances = 0.0
    """probability of noise, before all colours: of a microscope, a detector, a scan; by view"""
    noise_sigma: Ordered = (0.01, 0.05)
    """smallest and largest standard deviation of the noise, as a share of 255"""
    operations: Annotated[int, Field(ge=0, le=16)] = 4
    """operations on a strong view, drawn with replacement from 14"""
    cutout: Probability = 1 / 3
    """longest side of the square cut out of a strong view, as a share of the view's side"""
    local_count: Annotated[int, Field(ge=0, le=64)] = 0
    """small views after the global ones (multi-crop)"""
    local_size: Side | None = None
    """side of a local view, pixels; none: 3/7 of the image size, to a multiple of 4"""
    local_scale: Ordered = (0.05, 0.4)
    """smallest and largest share of the image's area in a local crop"""
    local_blur: Probability = 0.5
    """probability of a Gaussian blur in a local view"""
    local_solarize: Probability = 0.0
    """probability of solarisation in a local view"""
    mean: ChannelMeans = IMAGENET_MEAN
    """subtracted from the channels, as shares of 255"""
    std: ChannelDeviations = IMAGENET_STD
    """the channels are divided by this, as shares of 255"""

    @property
    def count(self) -> int:
        """Number of views of an image: global ones, then local ones."""
        return self.global_count + self.local_count

    def sizes(self, size: int) -> tuple[int, ...]:
        """Return the side of each view in pixels, where that of global ones is `size`: 224 -> 224, 224, 96, 96, ..."""
        local = self.local_size or max(4, 4 * round(size * 3 / 28))
        return (*[size] * self.global_count, *[local] * self.local_count)

    def scale_of(self, view: int) -> Ordered:
        """Return the smallest and largest share of the image's area in a crop of a global view."""
        scale: Any = self.scale
        return by_view(scale, view) if isinstance(scale[0], tuple) else scale

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        pairs = dict.fromkeys(self.scale_of(view) for view in range(len(self.scale)))
        wrong = [line for pair in pairs for line in _pair_mistakes("scale", pair, 1.0)]
        wrong += _pair_mistakes("local_scale", self.local_scale, 1.0)
        wrong += [*_pair_mistakes("ratio", self.ratio), *_pair_mistakes("blur_sigma", self.blur_sigma)]
        wrong += [*_pair_mistakes("noise_sigma", self.noise_sigma, 1.0), *_channel_mistakes(self.mean, self.std)]
        strength = max(self.strength) if isinstance(self.strength, tuple) else self.strength
        if self.hue * strength > 0.5:
            wrong.append(f"hue {self.hue:g} times strength {strength:g} is above 0.5, half of the colour circle")
        return _right(self, wrong)


class GlyphViews(Description):
    """One sampling: rotate, scale, shear, shift, bend; then the weight of the strokes. No flip, no colour."""

    name: Literal["glyph"] = "glyph"
    global_count: GlobalCount = 2
    """views of an image"""
    kinds: Annotated[GlyphKind | tuple[GlyphKind, ...], _by_view(GlyphKind)] = "random"
    """one for all views or one for each, of which the last is repeated; random: as below; plain: the whole image"""
    rotate: Annotated[float, Field(ge=0.0, le=180.0)] = 15.0
    """turned by ± this, degrees"""
    scale: Ordered = (0.8, 1.2)
    """smallest and largest magnification"""
    shear: Annotated[float, Field(ge=0.0, le=2.0)] = 0.2
    """slanted by ± this: x moves by this share of y"""
    shift: Probability = 0.03
    """moved by ± this share of the side, in x and in y"""
    elastic: Annotated[float, Field(ge=0.0, le=0.5)] = 0.025
    """bent: standard deviation of the moves of a 4 x 4 grid, as a share of the side"""
    gamma: Annotated[float, Field(ge=0.0, le=3.0)] = 0.7
    """thin and bold strokes: shares s of the way from background to black or white become s^γ, log γ within ± this"""
    levels: Annotated[float, Field(ge=0.0, le=0.45)] = 0.0
    """background and strokes each moved towards the other by up to this share of the way: greys reveal no class"""
    mean: ChannelMeans = (0.5, 0.5, 0.5)
    """subtracted from the channels, as shares of 255"""
    std: ChannelDeviations = (0.5, 0.5, 0.5)
    """the channels are divided by this, as shares of 255"""

    @property
    def count(self) -> int:
        """Number of views of an image."""
        return self.global_count

    def sizes(self, size: int) -> tuple[int, ...]:
        """Return the side of each view in pixels."""
        return (size,) * self.global_count

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        return _right(self, [*_pair_mistakes("scale", self.scale), *_channel_mistakes(self.mean, self.std)])


class VectorViews(Description):
    """Of frozen features: an image's own vector, and those of images that are near it, others in each epoch."""

    name: Literal["vectors"] = "vectors"
    global_count: GlobalCount = 2
    """views of an image: its own vector, and the others each a neighbour's"""
    neighbours: Annotated[int, Field(ge=0, le=1000)] = 10
    """nearest vectors among which a neighbour is drawn, fewer where classes are small; 0: an image's own alone"""
    components: Annotated[int, Field(ge=1, le=65_536)] | None = 64
    """principal components of the vectors that heads see, and that tell who is near, at most: one for 4 vectors"""
    whitening: Annotated[float, Field(ge=0, le=1)] = 0.5
    """power of its standard deviation by which a component is divided; 1: all count alike"""
    mean: ChannelMeans = IMAGENET_MEAN
    """subtracted from the channels of the images that the network sees, as shares of 255"""
    std: ChannelDeviations = IMAGENET_STD
    """the channels are divided by this, as shares of 255"""

    @property
    def count(self) -> int:
        """Number of views of an image."""
        return self.global_count

    def sizes(self, size: int) -> tuple[int, ...]:
        """Return the side of the images that the network sees, for each view."""
        return (size,) * self.global_count


Views = PhotoViews | GlyphViews | VectorViews


def for_other_family(views: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the views of the other family keep of these: their number and kinds; glyphs have no strong ones.

    >>> for_other_family({"name": "photo", "global_count": 2, "kinds": ("plain", "strong"), "flip": 0.5})
    {'global_count': 2, 'kinds': ['plain', 'random']}
    """
    kept = {key: views[key] for key in ("global_count", "kinds") if key in views}
    if "kinds" in kept:
        kept["kinds"] = ["random" if kind == "strong" else kind for kind in _values(kept["kinds"])]
    return kept


IMAGE_VIEWS: dict[str, type[PhotoViews | GlyphViews]] = {"photo": PhotoViews, "glyph": GlyphViews}
VIEWS: dict[str, type[Views]] = {**IMAGE_VIEWS, "vectors": VectorViews}


def _pair_mistakes(name: str, pair: Ordered, limit: float = inf) -> list[str]:
    low, high = pair
    wrong = [f"{name}: the smallest, {low}, is above the largest, {high}"] if low > high else []
    return [*wrong, f"{name}: the largest, {high}, is above {limit}"] if high > limit else wrong


def _channel_mistakes(mean: tuple[float, ...], std: tuple[float, ...]) -> list[str]:
    differ = len(mean) != len(std)
    return [f"mean has {len(mean)} numbers and std {len(std)}; give one of each for every channel"] if differ else []


def _right(description: _T, mistakes: list[str]) -> _T:
    if mistakes:
        raise ValueError("; ".join(mistakes))
    return description
