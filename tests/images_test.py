import io

import numpy as np
import pytest
from PIL import Image, ImageFile
from utkface_archive import jpeg

from hybrid.datasets import images


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
