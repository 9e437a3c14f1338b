"""What is searched for faces, one after the other: photographs, and the frames of videos."""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from hybrid.photos import videos
from hybrid.photos.detection import Detector
from hybrid.photos.faces import Face, Row, read_faces_or_error
from hybrid.photos.image_files import ImageLike


@dataclasses.dataclass(frozen=True)
class Picture:
    """A file, or a frame of one.

    Attributes:
      image: What to read.
      where: What its rows say of its place: of a frame its `path`, `frame` and `time`.
      error: Why a video ends here; '' where there is something to read.
    """

    image: ImageLike
    where: dict[str, Any] = dataclasses.field(default_factory=dict)
    error: str = ''


def pictures(paths: Iterable[pathlib.Path], config: ConfigDict | None) -> Iterator[Picture]:
    """Yields a picture for each file and, of a video, for each frame, as they are asked for.

    Args:
      paths: The files.
      config: The section `video`; None where videos are not read: reading them says why.
    """
    for path in paths:
        if config is None or not videos.is_video(path):
            yield Picture(path)
            continue
        where = {'path': os.fspath(path)}
        try:
            for frame in videos.read_frames(path, config):
                place = {'frame': frame.number, 'time': frame.seconds}
                yield Picture(frame.pixels, where | place)
        except Exception as error:  # Whatever is wrong with one video, the others get their rows.
            reason = ' '.join(str(error).split()) or type(error).__name__
            yield Picture(path, where, reason)


def read_picture(
    picture: Picture, detector: Detector | None, sizes: Sequence[int]
) -> list[tuple[Row, Face | None]]:
    """Reads the faces of a picture as `faces.read_faces_or_error` does, and says where it is."""
    if picture.error:
        return [(picture.where | {'error': picture.error}, None)]
    found = read_faces_or_error(picture.image, detector, sizes)
    return [(row | picture.where, face) for row, face in found]
