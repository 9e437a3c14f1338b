"""Reads the frames of video files, and writes videos, by the FFmpeg that is in OpenCV."""

import math
import os
import pathlib
import stat
from collections.abc import Generator
from typing import NamedTuple

import cv2
import numpy as np
from ml_collections import ConfigDict

from hybrid.datasets.images import WHOLE_PIXELS
from hybrid.photos.image_files import VIDEO_EXTENSIONS

# How the error begins that says that a limit of the config ended a video.
CUT = 'cut: '
# FFmpeg would also read lists of other files or of addresses, whatever their names end in. These
# are the bytes, and their place, with which a container of one file begins; nothing else is opened.
_MAGIC = (
    *((4, box) for box in (b'ftyp', b'moov', b'mdat', b'wide', b'free', b'skip')),
    *((8, b'AVI '), (0, b'\x1aE\xdf\xa3'), (0, b'\0\0\1\xba'), (0, b'\0\0\1\xb3')),
)
# And should that not be enough, FFmpeg itself is told so.
_OPTIONS = {
    'OPENCV_FFMPEG_CAPTURE_OPTIONS': (
        'protocol_whitelist;file|format_whitelist;mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,'
        'mpeg,mpegvideo'
    ),
    'OPENCV_FFMPEG_LOGLEVEL': '-8',  # What matters becomes an error.
}
# A container may say that it is longer than its pictures, by what there is of sound.
_SLACK_SECONDS = 0.5


class Frame(NamedTuple):
    """One frame of a video.

    Attributes:
      number: Its place in the video, from 0.
      seconds: When it is shown, from the beginning of the video.
      pixels: uint8 [H, W, 3], RGB, upright.
    """

    number: int
    seconds: float
    pixels: np.ndarray


def is_video(path: str | os.PathLike) -> bool:
    """Whether the name of a file is that of a video."""
    return os.path.splitext(path)[1].lower() in VIDEO_EXTENSIONS


def frame_rate(path: pathlib.Path) -> float:
    """The frames a second of a video; 25 where it does not say. Raises as `read_frames`."""
    return _rate(_open(path))


def read_frames(path: pathlib.Path, config: ConfigDict) -> Generator[Frame]:
    """Reads a video frame by frame, turned as its metadata say.

    Args:
      path: A file on this machine.
      config: The section `video`: which frames, and when to stop.

    Raises:
      ValueError: with the reason in one line, when it is no video; after the frames that could be
        read when it is damaged; or, beginning with `CUT`, after those that the limits allow.
    """
    video = _open(path)
    rate = _rate(video)
    duration = video.get(cv2.CAP_PROP_FRAME_COUNT) / rate
    number, read, end = 0, 0, 0.0
    while video.grab():
        # Some containers do not know the time of every frame.
        seconds = video.get(cv2.CAP_PROP_POS_MSEC) / 1000
        seconds = seconds if seconds >= end or not number else max(end, number / rate)
        if seconds > config.max_seconds:
            raise ValueError(f'{CUT}config.video.max_seconds={config.max_seconds:g}')
        if number % config.every == 0:
            if read == config.max_frames:
                raise ValueError(f'{CUT}config.video.max_frames={config.max_frames}')
            whole, pixels = video.retrieve()
            if not whole:
                break
            yield Frame(number, round(seconds, 3), cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
            read += 1
        number, end = number + 1, seconds
    if not number:
        raise ValueError('a video of which no frame can be decoded')
    if duration - (end + 1 / rate) > _SLACK_SECONDS:
        raise ValueError(
            f'damaged or cut off: it should last {duration:.1f} s, its last readable frame is at '
            f'{end:.1f} s'
        )


def _open(path: pathlib.Path) -> cv2.VideoCapture:
    """Opens a video; raises ValueError for anything but a local file of a known kind."""
    # Not its name as it was given: FFmpeg takes some names for addresses.
    path = pathlib.Path(os.path.realpath(path))
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise ValueError('a folder, not a file' if stat.S_ISDIR(mode) else 'not a regular file')
        with path.open('rb') as file:
            start = file.read(16)
        str(path).encode()
    except FileNotFoundError:
        raise ValueError('no such file, or a link to one') from None
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    except UnicodeEncodeError:
        raise ValueError('OpenCV cannot open a video whose name is no text; rename it') from None
    if not start:
        raise ValueError('the file is empty')
    if not any(start[place : place + len(magic)] == magic for place, magic in _MAGIC):
        raise ValueError(f'not a video in a known format ({", ".join(VIDEO_EXTENSIONS)})')
    for name, value in _OPTIONS.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
    # For good: detection, in other threads, sets it for moments. `Model` does not read videos.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    settings = [cv2.CAP_PROP_HW_ACCELERATION, cv2.VIDEO_ACCELERATION_NONE]
    video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, settings)
    if not video.isOpened():
        raise ValueError('a video that cannot be opened: damaged, cut off, or of an unknown codec')
    width, height = (
        int(video.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    )
    if width * height > WHOLE_PIXELS:
        raise ValueError(f'frames of {width} x {height} pixels, more than {WHOLE_PIXELS:,}')
    return video


def _rate(video: cv2.VideoCapture) -> float:
    rate = video.get(cv2.CAP_PROP_FPS)
    return rate if math.isfinite(rate) and 0 < rate <= 1000 else 25.0


class Writer:
    """Writes an .mp4 without sound; the size is that of the first frame.

    Args:
      path: The file to write.
      rate: Frames a second.
    """

    def __init__(self, path: pathlib.Path, rate: float):
        self._path, self._rate = path, rate
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._written = 0

    def write(self, pixels: np.ndarray) -> None:
        """Adds a frame, uint8 [H, W, 3], RGB; raises ValueError if no video can be written."""
        if self._writer is None:
            self._size = pixels.shape[1], pixels.shape[0]
            self._writer = cv2.VideoWriter(
                os.path.abspath(self._path),
                cv2.CAP_FFMPEG,
                cv2.VideoWriter.fourcc(*'mp4v'),
                self._rate,
                self._size,
            )
            if not self._writer.isOpened():
                raise ValueError('OpenCV cannot write this video')
        if (pixels.shape[1], pixels.shape[0]) != self._size:
            pixels = cv2.resize(pixels, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        self._written += 1

    def close(self) -> None:
        """Ends the video; raises ValueError if it is not whole, of which OpenCV says nothing."""
        if self._writer is None:
            return
        self._writer.release()
        if _open(self._path).get(cv2.CAP_PROP_FRAME_COUNT) != self._written:
            raise ValueError('the video was not written whole; is the disk full?')
