"""What is taken of a file of several pages."""

from typing import Literal, get_args

Pages = Literal["first", "channels", "max"]
"""first: the first page; channels: each page is a channel, or several; max: the brightest value over all pages"""

PAGES: tuple[Pages, ...] = get_args(Pages)
