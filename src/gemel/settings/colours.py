"""Colours as a user names them."""

from typing import Annotated

from pydantic import AfterValidator

Rgb = tuple[int, int, int]

COLOURS: dict[str, Rgb] = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 128, 128)}


def rgb_of(text: str) -> Rgb:
    """Return the colour of `white`, `black`, `grey` or `r,g,b`.

    Raises:
        ValueError: another word, or a number outside 0 to 255.

    >>> rgb_of("grey"), rgb_of("0, 10,255")
    ((128, 128, 128), (0, 10, 255))
    """
    parts = [part.strip() for part in text.split(",")]
    if text in COLOURS:
        return COLOURS[text]
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and int(part) <= 255 for part in parts):
        raise ValueError(f"must be {', '.join(COLOURS)} or three numbers from 0 to 255 such as 250,250,240")
    red, green, blue = map(int, parts)
    return red, green, blue


def _checked(text: str) -> str:
    rgb_of(text)
    return text


Colour = Annotated[str, AfterValidator(_checked)]
"""text that `rgb_of` reads"""
