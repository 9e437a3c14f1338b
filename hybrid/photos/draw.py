"""Draws boxes with labels on photographs."""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Smaller pictures are enlarged, or nobody could read what is written on them.
_MIN_SIDE = 480
_COLOUR = (255, 190, 40)


def draw_boxes(
    image: np.ndarray,
    boxes: Iterable[tuple[int, int, int, int]],
    labels: Iterable[str],
    *,
    enlarge: bool = True,
    size: tuple[int, int] | None = None,
) -> Image.Image:
    """Draws labelled boxes, in lines and letters that suit the size of picture and box.

    Args:
      image: uint8 [H, W, 3], RGB.
      boxes: Left, top, width and height in pixels.
      labels: One a box.
      enlarge: Whether a small picture is enlarged, by a whole factor.
      size: Width and height of the picture of whose pixels the boxes are; None for this one.

    Returns:
      The picture.
    """
    picture = Image.fromarray(image)
    factor = max(-(-_MIN_SIDE // max(picture.size)), 1) if enlarge else 1
    size = size or picture.size
    if factor > 1:
        larger = picture.width * factor, picture.height * factor
        picture = picture.resize(larger, Image.Resampling.BICUBIC)
    scale = 2 * (picture.width / size[0], picture.height / size[1])
    draw = ImageDraw.Draw(picture)
    longest = max(picture.size)
    line = max(round(longest / 400), 2)
    for box, label in zip(boxes, labels, strict=True):
        left, top, width, height = (round(v * s) for v, s in zip(box, scale, strict=True))
        corners = left, top, left + max(width, 1) - 1, top + max(height, 1) - 1
        draw.rectangle(corners, outline=_COLOUR, width=line)
        # As wide as the box, but neither too small for the picture nor too large.
        points = min(max(width / 7, longest / 70, 11), longest / 25)
        font = ImageFont.load_default(points)
        pad = points / 4
        ink = draw.textbbox((0, 0), label, font=font)
        label_width, label_height = ink[2] - ink[0] + 2 * pad, ink[3] - ink[1] + 2 * pad
        # Above the box; inside it where there is no room.
        x = min(left, max(picture.width - label_width, 0))
        y = top - label_height if top >= label_height else top
        draw.rectangle((x, y, x + label_width, y + label_height), fill=_COLOUR)
        draw.text((x + pad - ink[0], y + pad - ink[1]), label, fill='black', font=font)
    return picture
