"""Drawn photographs with several faces, and a detector that knows where these are."""

import io

import numpy as np
from PIL import Image

from hybrid.photos import alignment
from hybrid.photos.detection import Face

# Left, top and side of each face's square on a photograph.
PLACES = ((40, 100, 160), (700, 90, 120), (420, 200, 60))


def head(seed: int, side: int) -> Image.Image:
    """A square of smooth random colours, which stands for a head and looks like no other."""
    blocks = np.random.default_rng(seed).integers(60, 256, (5, 5, 3), np.uint8)
    return Image.fromarray(blocks).resize((side, side), Image.Resampling.BICUBIC)


def photograph(number: int, places=PLACES, size=(960, 360)) -> Image.Image:
    """Dark blocks with a head at each place."""
    blocks = np.random.default_rng(10_000 + number).integers(0, 50, (16, 17, 3), np.uint8)
    image = Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST)
    for k, (left, top, side) in enumerate(places):
        image.paste(head(10 * number + k, side), (left, top))
    return image


def encode(image: Image.Image, kind: str = 'PNG', **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def face(left: float, top: float, side: float) -> Face:
    """What a detector finds of a head: the landmarks lie where `alignment.TEMPLATE` wants them."""
    landmarks = alignment.TEMPLATE * side + [left, top]
    return Face(np.array([left, top, side, side], float), landmarks, 0.9)


class Detector:
    """Finds the same faces on every photograph; none on pictures narrower than 300 pixels."""

    def __init__(self, places=PLACES):
        self.places = places

    def detect(self, image: np.ndarray) -> list[Face]:
        if image.shape[1] < 300:
            return []
        return [face(*place) for place in sorted(self.places)]


def use(monkeypatch, config, folder, places=PLACES) -> None:
    """Makes `Detector` the one of a config."""
    (folder / 'detector.onnx').write_bytes(b'a detector')
    config.detect.model = str(folder / 'detector.onnx')
    monkeypatch.setattr(
        'hybrid.photos.detection.create_detector', lambda settings: Detector(places)
    )
