import os
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from hybrid.default_config import get_config
from hybrid.photos import image_files, videos

SIZE = (64, 48)


def frame(number):
    """A picture whose upper half tells its number by its brightness; the left side is blue."""
    pixels = np.full((SIZE[1], SIZE[0], 3), 10 + 10 * number, np.uint8)
    pixels[SIZE[1] // 2 :] = 0
    pixels[SIZE[1] // 2 :, : SIZE[0] // 2, 2] = 250
    return pixels


def write(path, count=20, codec='mp4v', rate=10, size=SIZE):
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), rate, size)
    assert writer.isOpened()
    for number in range(count):
        writer.write(cv2.cvtColor(cv2.resize(frame(number), size), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    return write(tmp_path_factory.mktemp('video') / 'a.mp4')


def limits(**changes):
    config = get_config().video
    config.update(changes)
    return config


def read(path, **changes):
    """The frames, and the error at the end."""
    frames: list[videos.Frame] = []
    try:
        frames.extend(videos.read_frames(path, limits(**changes)))
    except ValueError as error:
        return frames, str(error)
    return frames, ''


@pytest.mark.parametrize(
    'name', ['x.mp4', 'x.m4v', 'x.MOV', 'x.3gp', 'x.avi', 'x.mkv', 'x%03d.mp4']
)
def test_every_container_gives_its_frames_and_their_times(tmp_path, name):
    frames, error = read(write(tmp_path / name))
    assert error == ''
    assert [frame.number for frame in frames] == list(range(20))
    assert [frame.seconds for frame in frames] == [number / 10 for number in range(20)]
    for number, found in enumerate(frames):
        difference = np.abs(found.pixels.astype(int) - frame(number))
        assert np.median(difference) <= 6
        assert difference[30:, :28, 2].max() < 60  # What is blue is blue.
    assert videos.is_video(name)
    assert name.lower().endswith(image_files.VIDEO_EXTENSIONS)


def test_of_so_many_frames_one_is_read_and_limits_end_a_video(video):
    frames, error = read(video, every=7)
    assert [(frame.number, frame.seconds) for frame in frames] == [(0, 0), (7, 0.7), (14, 1.4)]
    assert error == ''
    frames, error = read(video, every=7, max_frames=2)
    assert [frame.number for frame in frames] == [0, 7]
    assert error == 'cut: config.video.max_frames=2'
    assert read(video, max_frames=20)[1] == ''
    frames, error = read(video, max_seconds=0.5)
    assert [frame.number for frame in frames] == list(range(6))
    assert error == 'cut: config.video.max_seconds=0.5'


def test_a_video_that_was_filmed_on_its_side_comes_out_upright(video, tmp_path):
    content = bytearray(video.read_bytes())
    # The matrix in the track's header: a quarter turn clockwise to show it.
    place = content.index(b'tkhd') + 4 + 4 + 20 + 16
    assert struct.unpack('>9i', content[place : place + 36])[:2] == (1 << 16, 0)
    turned = struct.pack('>9i', 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    content[place : place + 36] = turned
    (tmp_path / 'turned.mp4').write_bytes(content)
    frames, error = read(tmp_path / 'turned.mp4', every=10)
    assert error == ''
    expected, _ = read(video, every=10)
    for found, one in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(found.pixels, np.rot90(one.pixels, -1))


def test_damaged_videos_say_so_after_the_frames_that_can_be_read(tmp_path):
    whole = write(tmp_path / 'a.mkv').read_bytes()
    (tmp_path / 'cut.mkv').write_bytes(whole[: len(whole) * 6 // 10])
    frames, error = read(tmp_path / 'cut.mkv')
    assert 5 < len(frames) < 15
    assert error == (
        'damaged or cut off: it should last 2.0 s, its last readable frame is at '
        f'{frames[-1].seconds:.1f} s'
    )
    whole = write(tmp_path / 'a.mp4').read_bytes()
    (tmp_path / 'cut.mp4').write_bytes(whole[:-100])
    (tmp_path / 'header.avi').write_bytes(b'RIFF\0\0\0\0AVI ' + bytes(50))
    for name in ('cut.mp4', 'header.avi'):
        frames, error = read(tmp_path / name)
        assert frames == []
        assert error in (
            'a video that cannot be opened: damaged, cut off, or of an unknown codec',
            'a video of which no frame can be decoded',
        )


def test_what_is_no_single_local_video_is_not_opened(video, tmp_path, monkeypatch):
    (tmp_path / 'hls.mp4').write_text(f'#EXTM3U\n#EXTINF:2,\n{video}\n#EXT-X-ENDLIST\n')
    (tmp_path / 'list.mp4').write_text(f"ffconcat version 1.0\nfile '{video}'\n")
    (tmp_path / 'empty.mp4').touch()
    Image.new('RGB', (4, 4)).save(tmp_path / 'picture.png')
    (tmp_path / 'picture.png').rename(tmp_path / 'picture.mp4')
    (tmp_path / 'folder.mp4').mkdir()
    (tmp_path / 'broken.mp4').symlink_to('nothing')
    os.mkfifo(tmp_path / 'pipe.mp4')
    reasons = {
        'hls.mp4': 'not a video in a known format (.mp4, ',
        'list.mp4': 'not a video in a known format (.mp4, ',
        'picture.mp4': 'not a video in a known format (.mp4, ',
        'empty.mp4': 'the file is empty',
        'folder.mp4': 'a folder, not a file',
        'broken.mp4': 'no such file, or a link to one',
        'pipe.mp4': 'not a regular file',
        os.fsdecode(b'\xff.mp4'): 'no such file, or a link to one',
    }
    for name, reason in reasons.items():
        frames, error = read(tmp_path / name)
        assert (frames, error[: len(reason)]) == ([], reason), name
    # Without a look at the first bytes FFmpeg reads a list only if it is not told what it may.
    monkeypatch.setattr(videos, '_MAGIC', ((0, b''),))
    assert read(tmp_path / 'list.mp4')[0] == []
    monkeypatch.setattr(videos, '_OPTIONS', {'OPENCV_FFMPEG_CAPTURE_OPTIONS': 'safe;0'})
    assert len(read(tmp_path / 'list.mp4')[0]) == 20


def test_a_name_that_is_no_text(video, tmp_path):
    path = tmp_path / os.fsdecode(b'\xff.mp4')
    path.write_bytes(video.read_bytes())
    assert read(path) == ([], 'OpenCV cannot open a video whose name is no text; rename it')


def test_frames_that_are_too_large(video, monkeypatch):
    monkeypatch.setattr(videos, 'WHOLE_PIXELS', 3000)
    assert read(video) == ([], 'frames of 64 x 48 pixels, more than 3,000')


def test_writing(tmp_path):
    writer = videos.Writer(tmp_path / 'new.mp4', 12.5)
    for number in range(5):
        writer.write(frame(number))
    writer.write(cv2.resize(frame(5), (100, 20)))
    writer.close()
    frames, error = read(tmp_path / 'new.mp4')
    assert (len(frames), error) == (6, '')
    assert {frame.pixels.shape for frame in frames} == {(48, 64, 3)}
    assert videos.frame_rate(tmp_path / 'new.mp4') == 12.5
    for number in range(5):
        assert np.median(np.abs(frames[number].pixels.astype(int) - frame(number))) <= 6

    writer = videos.Writer(tmp_path / 'none' / 'new.mp4', 12.5)
    with pytest.raises(ValueError, match='cannot write this video'):
        writer.write(frame(0))
