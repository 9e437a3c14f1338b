import io

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFile, ImageOps

from hybrid.datasets import images
from tests.utkface_archive import jpeg


def test_a_plain_jpeg_is_kept_byte_for_byte_and_others_become_rgb():
    assert images.check_image(jpeg(0)).jpeg == jpeg(0)
    for mode in ('L', 'CMYK'):
        content = jpeg(0, mode)
        converted = Image.open(io.BytesIO(images.check_image(content).jpeg))
        assert (converted.format, converted.mode, converted.size) == ('JPEG', 'RGB', (51, 48))
        expected = np.asarray(Image.open(io.BytesIO(content)).convert('RGB')).astype(int)
        assert np.abs(np.asarray(converted).astype(int) - expected).mean() < 4


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (b'', 'empty_file'),
        (b'no image', 'unreadable_image'),
        (jpeg(0)[:-100], 'unreadable_image'),
        (jpeg(0)[:60], 'unreadable_image'),
    ],
)
def test_unusable_images_have_a_reason(content, reason):
    assert images.check_image(content).refused == reason


def test_size_is_limited_by_the_header_before_decoding(monkeypatch):
    content = jpeg(0)
    monkeypatch.setattr(images, 'MAX_PIXELS', 51 * 48 - 1)
    monkeypatch.setattr(ImageFile.ImageFile, 'load', lambda self: pytest.fail('decoded'))
    checked = images.check_image(content)
    assert (checked.refused, checked.detail) == ('too_many_pixels', '51x48')


def encode(image: Image.Image, kind: str = 'JPEG', **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_small_and_one_coloured_images_are_refused_if_asked_for():
    assert images.check_image(jpeg(0), min_side=48).jpeg == jpeg(0)
    checked = images.check_image(jpeg(0), min_side=49)
    assert (checked.refused, checked.detail) == ('too_small', '51x48')
    for mode, colour in (('RGB', (10, 200, 30)), ('L', 0)):
        flat = encode(Image.new(mode, (20, 20), colour))
        assert images.check_image(flat).refused == ''
        assert images.check_image(flat, one_colour=False).refused == 'one_colour'
    dot = Image.new('RGB', (20, 20), 'white')
    dot.paste('black', (0, 0, 4, 4))
    assert images.check_image(encode(dot), one_colour=False).refused == ''


def test_other_formats_are_read_if_asked_for_and_turned_as_exif_says():
    picture = Image.open(io.BytesIO(jpeg(0)))
    bmp = encode(picture, 'BMP')
    assert images.check_image(bmp).refused == 'unreadable_image'
    pixels = np.asarray(
        Image.open(io.BytesIO(images.check_image(bmp, formats=images.FORMATS).jpeg))
    )
    assert np.abs(pixels.astype(int) - np.asarray(picture)).mean() < 4
    for orientation in (1, 2, 6):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        content = encode(picture, exif=exif)
        checked = images.check_image(content)
        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
        assert (checked.jpeg == content) == (orientation == 1)
        found = np.asarray(Image.open(io.BytesIO(checked.jpeg)))
        assert found.shape == np.asarray(expected).shape
        assert np.abs(found.astype(int) - np.asarray(expected)).mean() < 4
