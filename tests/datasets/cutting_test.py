import io

import numpy as np
import pytest
from PIL import Image

from hybrid.datasets import cutting, near_duplicates
from hybrid.datasets.cutting import SquareCutter, check_faces, overlap
from hybrid.datasets.image_sources import RefusedError
from hybrid.datasets.spool import Spool
from tests.photographs import PLACES, encode, head, photograph


def test_the_square_around_a_box_is_cut_and_black_beyond_the_picture():
    image = np.random.default_rng(0).integers(1, 256, (50, 80, 3)).astype(np.uint8)
    cut, beyond, none = SquareCutter(0.0, 64)(image, [(10, 20, 16, 16), (-4, 40, 20, 10), None])
    assert isinstance(cut, np.ndarray)
    assert isinstance(beyond, np.ndarray)
    np.testing.assert_array_equal(cut, image[20:36, 10:26])
    # 20 wide and 10 high: the square goes from (-4, 35) to (16, 55).
    np.testing.assert_array_equal(beyond[:15, 4:], image[35:50, :16])
    assert not beyond[15:].any()
    assert not beyond[:, :4].any()
    assert isinstance(none, RefusedError)
    assert none.reason == 'no_box'
    (wide,) = SquareCutter(0.25, 64)(image, [(20, 10, 20, 20)])
    np.testing.assert_array_equal(wide, image[5:35, 15:45])
    (small,) = SquareCutter(0.0, 10)(image, [(20, 10, 20, 20)])
    blocks = image[10:30, 20:40].reshape(10, 2, 10, 2, 3).mean((1, 3))
    assert isinstance(small, np.ndarray)
    assert np.abs(small - blocks).max() <= 1


def test_each_box_is_cut_or_has_a_reason_and_the_picture_is_hashed():
    photo = photograph(3)
    boxes = [
        *((x, y, side, side) for x, y, side in PLACES),
        (5, 5, 20, 7),
        (910, 0, 120, 100),
        (2000, 0, 100, 100),
        None,
    ]
    checked, photo_hash = check_faces(encode(photo), boxes, SquareCutter(0.0, 224), min_side=16)
    for k, (image, (_, _, side)) in enumerate(zip(checked, PLACES, strict=False)):
        shown = np.asarray(Image.open(io.BytesIO(image.jpeg)), np.int64)
        assert np.abs(shown - np.asarray(head(30 + k, side))).mean() < 2
    assert [image.refused for image in checked[3:]] == [
        *('too_small', 'box_outside_picture', 'box_outside_picture', 'no_box')
    ]
    assert checked[4].detail == 'x=910, y=0, width=120, height=100 of 960x360'
    np.testing.assert_array_equal(photo_hash, near_duplicates.difference_hash(photo))


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (b'', 'empty_file'),
        (b'no image', 'unreadable_image'),
        (encode(Image.new('RGB', (300, 12))), 'too_small'),
        (encode(Image.new('1', (16_000, 16_001))), 'too_many_pixels'),
        (encode(Image.new('RGB', (300, 300))), 'one_colour'),
    ],
)
def test_what_is_wrong_with_a_picture_is_wrong_with_all_its_faces(content, reason):
    boxes = [(10, 10, 50, 50), (100, 100, 50, 50)]
    checked, _ = check_faces(content, boxes, SquareCutter(0.0, 64), min_side=16)
    assert [image.refused for image in checked] == [reason] * 2


def test_overlap_is_of_the_area_that_both_cover():
    assert overlap((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert overlap((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(50 / 150)
    assert overlap((0, 0, 10, 10), (20, 0, 10, 10)) == 0


def test_a_builder_that_aligns_needs_what_aligns():
    with pytest.raises(ValueError, match='align=True: only a detector can align faces'):
        cutting.aligner(None, 224)


def test_a_spool_gives_back_what_was_added(tmp_path):
    spool = Spool(tmp_path)
    places = [spool.add(content) for content in (b'one', b'', b'three')]
    assert [spool.read(place) for place in reversed(places)] == [b'three', b'', b'one']
    spool.close()
    assert not list(tmp_path.iterdir())
