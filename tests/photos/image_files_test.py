import io
import os
import pathlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from hybrid.datasets import images
from hybrid.photos import image_files


def save(image, path, **options):
    image.save(path, **options)
    return path


def pixels(height=5, width=4, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ('mode', 'value', 'expected', 'name'),
    [
        ('RGB', (200, 30, 7), (200, 30, 7), 'x.png'),
        ('L', 77, (77, 77, 77), 'x.png'),
        ('1', 1, (255, 255, 255), 'x.png'),
        ('RGBA', (200, 30, 7, 255), (200, 30, 7), 'x.png'),
        ('RGBA', (200, 30, 7, 0), (255, 255, 255), 'x.webp'),  # What is transparent is white.
        ('RGBA', (200, 0, 100, 51), (244, 204, 224), 'x.png'),  # A fifth of it, four of white.
        ('LA', (100, 0), (255, 255, 255), 'x.png'),
        ('CMYK', (0, 255, 255, 0), (255, 0, 0), 'x.tif'),
        ('I;16', 0, (0, 0, 0), 'x.png'),
        ('I;16', 25700, (100, 100, 100), 'x.png'),
        ('I;16', 65535, (255, 255, 255), 'x.tif'),
        ('I', 25700, (100, 100, 100), 'x.tif'),
    ],
)
def test_every_colour_mode_becomes_rgb(tmp_path, mode, value, expected, name):
    options = {'lossless': True} if name.endswith('webp') else {}
    path = save(Image.new(mode, (4, 5), value), tmp_path / name, **options)
    image = image_files.read_file(path).pixels
    assert (image.shape, image.dtype) == ((5, 4, 3), np.uint8)
    np.testing.assert_array_equal(image, np.broadcast_to(expected, (5, 4, 3)))


def test_a_palette_with_a_transparent_colour(tmp_path):
    image = Image.new('P', (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    path = save(image, tmp_path / 'x.png', transparency=1)
    np.testing.assert_array_equal(
        image_files.read_file(path).pixels, [[[10, 20, 30], [255, 255, 255]]]
    )


@pytest.mark.parametrize('name', ['x.jpg', 'x.png', 'x.tif', 'x.webp'])
@pytest.mark.parametrize(
    ('orientation', 'store'),
    [  # How a camera that is held so stores the upright picture, by the EXIF standard.
        (1, lambda x: x),
        (2, lambda x: x[:, ::-1]),
        (3, lambda x: x[::-1, ::-1]),
        (4, lambda x: x[::-1]),
        (5, lambda x: x.swapaxes(0, 1)),
        (6, lambda x: np.rot90(x, 1)),
        (7, lambda x: x[::-1, ::-1].swapaxes(0, 1)),
        (8, lambda x: np.rot90(x, -1)),
        (99, lambda x: x),
    ],
)
def test_exif_orientation(tmp_path, name, orientation, store):
    upright = np.kron(pixels(3, 2), np.ones((16, 16, 1), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, dict] = {
        'x.webp': {'lossless': True},
        'x.jpg': {'quality': 95, 'subsampling': 0},
    }
    stored = Image.fromarray(np.ascontiguousarray(store(upright)))
    path = save(stored, tmp_path / name, exif=exif, **options.get(name, {}))
    image = image_files.read_file(path).pixels
    assert image.shape == (48, 32, 3)
    difference = np.abs(image.astype(int) - upright)
    assert difference.max() <= (12 if name.endswith('jpg') else 0)


def test_damaged_exif_leaves_the_pixels(tmp_path):
    path = save(Image.new('RGB', (4, 5), 'white'), tmp_path / 'x.jpg', exif=b'Exif\0\0nonsense')
    assert (image_files.read_file(path).pixels == 255).all()


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new('RGB', (4, 5), colour) for colour in ('red', 'blue', 'green')]
    for name in ('x.gif', 'x.tif', 'x.webp', 'x.png'):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        np.testing.assert_array_equal(
            image_files.read_file(tmp_path / name).pixels, np.broadcast_to((255, 0, 0), (5, 4, 3))
        )


def png_header(width, height):
    def chunk(kind, data):
        return (
            struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
        )

    header = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + header + chunk(b'IDAT', zlib.compress(b'\0' * 100))


@pytest.mark.parametrize('size', [(16_001, 16_000), (60_000, 60_000)])
def test_too_many_pixels_are_refused_before_decoding(tmp_path, monkeypatch, size):
    path = tmp_path / 'x.png'
    path.write_bytes(png_header(*size))
    monkeypatch.setattr(ImageFile.ImageFile, 'load', lambda self: pytest.fail('decoded'))
    with pytest.raises(ValueError, match='more than the 256,000,000'):
        image_files.read_file(path)


@pytest.mark.parametrize('size', [(8192, 6144), (12_000, 9_000), (16_320, 12_240)])
def test_photographs_of_phones_are_not_too_large(size):
    """Pillow warns of more than 89 million pixels, and refuses more than 179 million."""
    with images.open_image(io.BytesIO(png_header(*size))) as image:
        assert image.size == size
        assert size[0] * size[1] < images.MAX_PIXELS


def test_what_is_no_image_says_why(tmp_path):
    jpeg = save(Image.fromarray(pixels(64, 64)), tmp_path / 'whole.jpg').read_bytes()
    png = save(Image.fromarray(pixels(64, 64)), tmp_path / 'whole.png').read_bytes()
    save(Image.new('F', (4, 5), 0.5), tmp_path / 'float.tif')
    save(Image.new('I', (4, 5), 70_000), tmp_path / 'deep.tif')
    contents = {
        'empty.jpg': b'',
        'text.jpg': b'this is no image at all',
        'truncated.jpg': jpeg[: len(jpeg) // 2],
        'truncated.png': png[: len(png) // 2],
        'header.jpg': jpeg[:30],
        'postscript.jpg': b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n',
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / 'folder.jpg').mkdir()
    (tmp_path / 'broken.jpg').symlink_to(tmp_path / 'nothing')
    (tmp_path / 'loop.jpg').symlink_to(tmp_path / 'loop.jpg')
    os.mkfifo(tmp_path / 'pipe.jpg')
    reasons = {
        'empty.jpg': 'the file is empty',
        'text.jpg': r'not an image in a known format \(JPEG, PNG, ',
        'truncated.jpg': 'cannot be decoded: .*truncated',
        'truncated.png': 'cannot be decoded: .*truncated',
        'header.jpg': 'cannot be decoded: ',
        'postscript.jpg': 'not an image in a known format',
        'folder.jpg': 'a folder, not a file',
        'broken.jpg': 'no such file, or a link to one',
        'loop.jpg': 'Too many levels of symbolic links',
        'pipe.jpg': 'not a regular file',
        'float.tif': 'floating-point grey',
        'deep.tif': r'values outside 0\.\.65535',
    }
    for name, reason in reasons.items():
        with pytest.raises(ValueError, match=reason) as caught:
            image_files.read_file(tmp_path / name)
        assert '\n' not in str(caught.value)


def test_a_file_whose_name_begins_with_a_tilde(tmp_path, monkeypatch):
    save(Image.new('RGB', (4, 5)), tmp_path / '~x.png')
    monkeypatch.chdir(tmp_path)
    assert image_files.read('~x.png').width == 4
    monkeypatch.setenv('HOME', str(tmp_path))
    assert image_files.read('~/~x.png').width == 4


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = save(Image.new('RGB', (4, 5)), tmp_path / 'x.png')

    def refuse(*args, **kwargs):
        raise PermissionError(13, 'Permission denied', str(path))

    monkeypatch.setattr(pathlib.Path, 'open', refuse)
    with pytest.raises(ValueError, match=r'^Permission denied$'):
        image_files.read_file(path)


def test_folders_are_searched(tmp_path):
    for name in ('b.jpg', 'a/2.PNG', 'a/10.webp', 'notes.txt', 'a/x', '.hidden.jpg', '.git/c.jpg'):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / 'folder.jpg').mkdir()
    (tmp_path / 'folder.jpg' / 'inside.gif').touch()
    (tmp_path / 'drawn').mkdir()
    (tmp_path / 'drawn' / 'b.jpg').touch()
    (tmp_path / 'link').symlink_to(tmp_path / 'a')
    found, skipped = image_files.find_images(tmp_path, leave_out=tmp_path / 'drawn')
    names = [str(path.relative_to(tmp_path)) for path in found]
    assert names == ['a/10.webp', 'a/2.PNG', 'b.jpg', 'folder.jpg', 'folder.jpg/inside.gif']
    assert skipped == 2
    # A file that is named is tried, whatever it is called.
    assert image_files.find_images(tmp_path / 'notes.txt') == ([tmp_path / 'notes.txt'], 0)


def found_names(root, **options):
    return [str(path.relative_to(root)) for path in image_files.find_images(root, **options)[0]]


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_linked_folders_and_files_are_searched_once(tmp_path, caplog):
    root, disk = tmp_path / 'photos', tmp_path / 'disk'
    touch(root, 'here.jpg', 'own/own.jpg')
    touch(disk, '2023/a.jpg', '2023/deep/b.jpg', 'single.jpg', '.hidden/c.jpg')
    (root / '2023').symlink_to(disk / '2023')
    (root / 'again').symlink_to(disk / '2023')  # A second way to the same folder.
    (root / 'a_first').symlink_to('own')  # A folder that is searched in its own place.
    (root / 'linked.jpg').symlink_to(disk / 'single.jpg')
    (root / 'here_too.jpg').symlink_to('here.jpg')  # Its name is in the table that it is joined to.
    (disk / '2023' / 'deep' / 'up').symlink_to(root)  # A loop by way of another disk.
    (root / 'own' / 'self').symlink_to('.')
    caplog.set_level('INFO', 'hybrid')
    assert found_names(root) == [
        *('2023/a.jpg', '2023/deep/b.jpg', 'here.jpg', 'here_too.jpg', 'linked.jpg'),
        'own/own.jpg',
    ]
    told = [record.getMessage().split(': ')[0] for record in caplog.records]
    assert told == [str(root / name) for name in ('a_first', 'again', 'own/self', '2023/deep/up')]
    assert 'it leads to a folder that is searched anyway' in caplog.text
    # The root may be a link, and have nothing but links in it.
    (tmp_path / 'only').mkdir()
    (tmp_path / 'only' / 'all').symlink_to(disk)
    (tmp_path / 'link').symlink_to('only')
    assert found_names(tmp_path / 'link') == [
        *('all/2023/a.jpg', 'all/2023/deep/b.jpg', 'all/2023/deep/up/here.jpg'),
        *('all/2023/deep/up/here_too.jpg', 'all/2023/deep/up/linked.jpg'),
        *('all/2023/deep/up/own/own.jpg', 'all/single.jpg'),
    ]


def test_links_to_nothing_are_listed_and_links_to_drawings_are_not(tmp_path, caplog):
    root, disk = tmp_path / 'photos', tmp_path / 'disk'
    touch(root, 'a.jpg', 'drawn/a.jpg', 'drawn/old/b.jpg')
    touch(disk, '2023/c.jpg')
    (root / 'unplugged').symlink_to(tmp_path / 'no disk')
    (root / '.gone').symlink_to(tmp_path / 'no disk')
    (root / 'latest.jpg').symlink_to('drawn/a.jpg')
    (root / 'old').symlink_to('drawn/old')
    (root / 'by another way').symlink_to('drawn')
    assert found_names(root, leave_out=root / 'drawn') == ['a.jpg', 'unplugged']
    with pytest.raises(ValueError, match='no such file, or a link to one'):
        image_files.read_file(root / 'unplugged')
    (root / 'by another way').unlink()
    # Drawings that go to another disk may not hide in silence what lies there.
    (root / 'elsewhere').symlink_to(disk / '2023')
    caplog.set_level('INFO', 'hybrid')
    assert found_names(root / 'elsewhere') == ['c.jpg']
    names = found_names(root, leave_out=disk)
    assert names == ['a.jpg', 'drawn/a.jpg', 'drawn/old/b.jpg', 'latest.jpg', 'unplugged']
    assert 'elsewhere: passed over, it leads to a folder that holds drawings' in caplog.text


def test_videos_are_listed_where_they_are_asked_for(tmp_path):
    touch(tmp_path, 'a.jpg', 'b.MP4', 'c.txt')
    assert found_names(tmp_path) == ['a.jpg']
    extensions = image_files.EXTENSIONS + image_files.VIDEO_EXTENSIONS
    assert image_files.find_images(tmp_path, None, extensions) == (
        [tmp_path / 'a.jpg', tmp_path / 'b.MP4'],
        1,
    )
    (tmp_path / 'b.MP4').write_bytes(b'video')
    with pytest.raises(ValueError, match='a video, whose frames --mode=predict reads with'):
        image_files.read_file(tmp_path / 'b.MP4')


def test_a_folder_that_cannot_be_listed_is_reported(tmp_path, monkeypatch):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a' / '1.jpg').touch()
    (tmp_path / 'closed').mkdir()
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith('closed'):
            raise PermissionError(13, 'Permission denied', os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    found, _ = image_files.find_images(tmp_path)
    assert found == [tmp_path / 'a' / '1.jpg', tmp_path / 'closed']
    with pytest.raises(ValueError, match='Permission denied'):
        image_files.read_file(tmp_path / 'closed')
