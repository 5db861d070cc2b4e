"""Description: plain typed values that say what to build, without torch, and the ranges that many of them share.

A field's default, range and meaning are written once, with the field: flags, YAML, help and documents are made of them.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

Count = Annotated[int, Field(gt=0, le=1_000_000)]
AtLeastTwo = Annotated[int, Field(ge=2, le=1_000_000)]
Widths = Annotated[tuple[Count, ...], Field(min_length=1, max_length=100)]
HeadCount = Annotated[int, Field(gt=0, le=1000)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Side = Annotated[int, Field(ge=4, le=4096)]
Ordered = tuple[PositiveFloat, PositiveFloat]
Colour = tuple[Probability, Probability, Probability]
ChannelMeans = Annotated[tuple[Probability, ...], Field(min_length=1, max_length=32)]
ChannelDeviations = Annotated[tuple[PositiveFloat, ...], Field(min_length=1, max_length=32)]


class Description(BaseModel):
    """Values that say what to build; frozen, and a name that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
