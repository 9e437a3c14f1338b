import numpy as np
import pytest
from PIL import ImageDraw

from hybrid.photos import draw


@pytest.mark.parametrize(('size', 'factor'), [((600, 800), 1), ((200, 150), 3), ((900, 300), 1)])
def test_boxes_are_drawn_where_they_are(size, factor):
    image = np.full((*size, 3), 90, np.uint8)
    picture = np.asarray(draw.draw_boxes(image, [(10, 25, 20, 12)], ['x']))
    assert picture.shape == (size[0] * factor, size[1] * factor, 3)
    left, top, right, bottom = 10 * factor, 25 * factor, 30 * factor, 37 * factor
    coloured = (picture != 90).any(-1)
    for x, y in ((left, bottom - 1), (right - 1, bottom - 1)):
        np.testing.assert_array_equal(picture[y, x], draw._COLOUR)
    assert not coloured[bottom:].any()
    assert not coloured[top:bottom, :left].any()


def test_boxes_may_be_of_a_larger_picture():
    image = np.full((600, 800, 3), 90, np.uint8)
    whole = draw.draw_boxes(image, [(10, 25, 20, 12)], ['x'])
    halved = draw.draw_boxes(image, [(20, 49, 40, 24)], ['x'], size=(1600, 1199))
    np.testing.assert_array_equal(np.asarray(whole), np.asarray(halved))


def test_no_faces_leave_the_photograph():
    image = np.random.default_rng(0).integers(0, 256, (500, 300, 3), np.uint8)
    np.testing.assert_array_equal(np.asarray(draw.draw_boxes(image, [], [])), image)


@pytest.mark.parametrize('size', [(40, 30), (200, 200), (600, 800), (3000, 4000), (6000, 8000)])
@pytest.mark.parametrize('place', [(0.0, 0.0), (0.45, 0.45), (0.9, 0.9)])
def test_labels_are_inside_and_readable(monkeypatch, size, place):
    """Letters have 10 pixels or more on any photograph that is looked at 1,000 pixels large."""
    written = []
    text = ImageDraw.ImageDraw.text

    def record(self, at, label, **options):
        box = self.textbbox(at, label, font=options['font'])
        written.append((self.im.size, options['font'].size, box))
        return text(self, at, label, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, 'text', record)
    height, width = size
    box = (int(width * place[0]), int(height * place[1]), width // 10, height // 10)
    draw.draw_boxes(np.zeros((*size, 3), np.uint8), [box], ['104, female 100%'])
    ((picture, points, (left, top, right, bottom)),) = written
    assert points * 1000 / max(picture) >= 10
    assert left >= 0
    assert top >= 0
    assert right <= picture[0]
    assert bottom <= picture[1]
