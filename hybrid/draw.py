"""Draws boxes and predictions on photographs."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Smaller pictures are enlarged, or nobody could read what is written on them.
_MIN_SIDE = 480
_COLOURS = {'female': (255, 170, 40), 'male': (70, 190, 255)}


class Prediction(Protocol):
    """What is drawn of one face: its box in pixels, years, and `female` or `male`."""

    x: int | None
    y: int | None
    width: int | None
    height: int | None
    age: float | None
    gender: str | None
    female_probability: float | None


def label(row: Prediction) -> str:
    """Such as `34, female 97 %`: age in years, the likelier gender and its probability."""
    assert row.age is not None
    assert row.female_probability is not None
    share = row.female_probability if row.gender == 'female' else 1 - row.female_probability
    return f'{row.age:.0f}, {row.gender} {100 * share:.0f} %'


def draw_predictions(image: np.ndarray, rows: Sequence[Prediction]) -> Image.Image:
    """Draws a box and a label for every face.

    Args:
      image: uint8 [H, W, 3], RGB.
      rows: One a face; those without a prediction are passed over.

    Returns:
      The picture, enlarged if it is small.
    """
    picture = Image.fromarray(image)
    factor = max(-(-_MIN_SIDE // max(picture.size)), 1)
    if factor > 1:
        size = picture.width * factor, picture.height * factor
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    longest = max(picture.size)
    line = max(round(longest / 400), 2)
    for row in rows:
        if row.age is None:
            continue
        numbers = (row.x or 0, row.y or 0, row.width or 0, row.height or 0)
        left, top, width, height = (value * factor for value in numbers)
        colour = _COLOURS[row.gender or 'female']
        draw.rectangle((left, top, left + width - 1, top + height - 1), outline=colour, width=line)
        # As wide as the face, but neither too small for the picture nor too large.
        points = min(max(width / 7, longest / 70, 11), longest / 25)
        font = ImageFont.load_default(points)
        text = label(row)
        text_left, text_top, text_right, text_bottom = draw.textbbox((0, 0), text, font=font)
        pad = points / 4
        box_width = text_right - text_left + 2 * pad
        box_height = text_bottom - text_top + 2 * pad
        # Above the box; inside it where there is no room.
        x = min(max(left, 0), max(picture.width - box_width, 0))
        y = top - box_height if top >= box_height else top
        draw.rectangle((x, y, x + box_width, y + box_height), fill=colour)
        draw.text((x + pad - text_left, y + pad - text_top), text, fill='black', font=font)
    return picture
