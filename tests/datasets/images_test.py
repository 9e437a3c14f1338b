import io
import time
from concurrent import futures

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
    assert checked.refused == 'too_many_pixels'
    assert checked.detail == '51 x 48 pixels, more than the 2,447 that are read'


# A smooth picture: shrunk and compressed it differs little from itself.
y, x = np.mgrid[:60, :81]
SMOOTH = np.stack([x * 3, y * 4, 128 + 60 * np.sin(x / 30 + y / 20)], -1).astype(np.uint8)
HALF = np.asarray(Image.fromarray(SMOOTH).reduce(2))


@pytest.mark.parametrize(
    ('kind', 'mode'),
    [
        *(('JPEG', 'RGB'), ('JPEG', 'L'), ('JPEG', 'CMYK'), ('MPO', 'RGB'), ('PNG', 'RGB')),
        *(('PNG', 'L'), ('PNG', 'P'), ('PNG', '1'), ('PNG', 'LA'), ('PNG', 'RGBA')),
        *(('PNG', 'I;16'), ('TIFF', 'I'), ('TIFF', 'CMYK'), ('WEBP', 'RGB'), ('JPEG2000', 'RGB')),
    ],
)
def test_large_images_are_read_at_half_their_size(monkeypatch, kind, mode):
    image = Image.fromarray(SMOOTH)
    if mode[0] == 'I':
        grey = np.asarray(image.convert('L')).astype({'I': np.int32, 'I;16': np.uint16}[mode])
        image = Image.fromarray(grey * 257)
    else:
        image = image.convert(mode)
    assert image.mode == mode
    options = {'MPO': {'save_all': True, 'append_images': [image]}}
    content = encode(image, kind, **options.get(kind, {}))
    monkeypatch.setattr(images, 'WHOLE_PIXELS', 60 * 81 - 1)
    if kind not in ('TIFF', 'WEBP'):  # Which look at Pillow's limit on their own.
        monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 30 * 41)
    with images.open_image(io.BytesIO(content)) as opened:
        assert opened.format == kind
        pixels, *size = images.decode(opened)
    assert (pixels.shape, size) == ((30, 41, 3), [81, 60])
    expected = HALF if mode in ('RGB', 'CMYK', 'RGBA') else Image.fromarray(HALF).convert('L')
    expected = np.asarray(expected if mode != 'P' else Image.fromarray(HALF)).astype(int)
    difference = np.abs(pixels - expected.reshape(30, 41, -1))
    assert difference.mean() < (30 if mode in 'P1' else 3)
    checked = images.check_image(content, formats=images.FORMATS)
    assert Image.open(io.BytesIO(checked.jpeg)).size == (41, 30)


@pytest.mark.parametrize('kind', ['JPEG', 'TIFF'])
@pytest.mark.parametrize('orientation', [1, 6])
def test_the_size_of_a_large_image_is_that_of_the_upright_one(monkeypatch, kind, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    content = encode(Image.fromarray(SMOOTH), kind, exif=exif)
    whole = images.decode(images.open_image(io.BytesIO(content)))
    monkeypatch.setattr(images, 'WHOLE_PIXELS', 1000)
    half = images.decode(images.open_image(io.BytesIO(content)))
    assert whole[1:] == half[1:] == whole.pixels.shape[1::-1]
    expected = np.asarray(Image.fromarray(whole.pixels).reduce(2)).astype(int)
    assert np.abs(half.pixels - expected).mean() < 3


def test_large_images_are_decoded_one_at_a_time(monkeypatch):
    content = encode(Image.fromarray(SMOOTH), 'PNG')
    monkeypatch.setattr(images, 'WHOLE_PIXELS', 1000)
    inside, most = [], []

    def halve(image):
        inside.append(image)
        most.append(len(inside))
        time.sleep(0.01)
        inside.pop()
        return image

    monkeypatch.setattr(images, '_halve', halve)
    with futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: images.check_image(content), range(4)))
    assert most == [1] * 4


def test_heic_is_read_upright_or_says_what_it_needs(monkeypatch):
    head = b'\0\0\0\x18ftypheic\0\0\0\0mif1heic'
    with monkeypatch.context() as without:
        without.delitem(Image.OPEN, 'HEIF', raising=False)
        refused = images.check_image(head, formats=[f for f in images.FORMATS if f != 'HEIF'])
        assert refused.refused == 'unreadable_image'
        assert refused.detail.endswith("needs pillow-heif: pip install -e '.[heic]'")
    pytest.importorskip('pillow_heif')
    assert 'HEIF: ' in images.check_image(head, formats=images.FORMATS).detail
    exif = Image.Exif()
    for orientation in (1, 6, 8):
        exif[ExifTags.Base.Orientation] = orientation
        content = encode(Image.fromarray(SMOOTH), 'HEIF', exif=exif.tobytes(), quality=95)
        turned = encode(Image.fromarray(SMOOTH), 'PNG', exif=exif)
        expected, found = (
            images.decode(images.open_image(io.BytesIO(c))) for c in (turned, content)
        )
        assert found[1:] == expected[1:]
        assert np.abs(found.pixels.astype(int) - expected.pixels).mean() < 3
        assert images.check_image(content, formats=images.FORMATS).jpeg[:2] == b'\xff\xd8'


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
