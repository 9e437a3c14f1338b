"""The folder of `--draw`: a picture for each photograph and a video for each video, with boxes."""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
from ml_collections import ConfigDict

from hybrid import files
from hybrid.photos import draw, image_files, videos
from hybrid.photos.faces import NO_FACE, Row

# The file that marks a folder of drawings, whose pictures may be replaced by new ones.
MARK = '.drawings'


def names(paths: Sequence[pathlib.Path], root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Names each drawing as its file in `root`, with .jpg or .mp4 added where it needs that."""
    taken: dict[pathlib.Path, str] = {}
    for path in paths:
        name = path.relative_to(root)
        kinds = ('.mp4',) if videos.is_video(path) else ('.jpg', '.jpeg', '.png')
        while name.suffix.lower() not in kinds or name in taken:
            name = name.with_name(name.name + kinds[0])
        taken[name] = str(path)
    return {path: name for name, path in taken.items()}


class Drawings:
    """Draws the faces of files as their rows come.

    Args:
      folder: Where the drawings go: a new or an empty folder, or one of earlier drawings.
      paths: The files.
      root: The folder that they lie in.
      config: The section `video`.

    Attributes:
      targets: The drawing of each file.

    Raises:
      ValueError: when the folder holds anything but drawings, or a drawing would take the place of
        one of the files, or of one elsewhere.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        paths: Sequence[pathlib.Path],
        root: pathlib.Path,
        config: ConfigDict,
    ):
        mark = folder / MARK
        there = files.visible(folder)
        if there and not mark.exists():
            raise ValueError(
                f'--draw={folder} holds files, such as {there[0]}, and no {MARK}, which marks a '
                'folder of drawings: name a new or an empty folder, or make that file if all that '
                'is there may be replaced'
            )
        self._mark = mark
        self._config = config
        self.targets = {path: folder / name for path, name in names(paths, root).items()}
        sources = {os.path.realpath(path) for path in paths}
        inside = os.path.join(os.path.realpath(folder), '')
        for target in self.targets.values():
            real = os.path.realpath(target)
            if real in sources:
                raise ValueError(f'--draw={folder}: {target} is one of the files of --input')
            if not real.startswith(inside):
                raise ValueError(f'--draw={folder}: {target} is a link that leads out of it')

    def begin(self, path: str) -> 'Drawing':
        """Begins the drawing of one file."""
        target = self.targets[path]
        with contextlib.suppress(OSError):  # Drawing says what is wrong.
            self._mark.parent.mkdir(parents=True, exist_ok=True)
            self._mark.touch()
        if videos.is_video(path):
            return VideoDrawing(pathlib.Path(path), target, self._config)
        return Drawing(pathlib.Path(path), target)


class Drawing:
    """Draws one photograph or crop.

    Args:
      path: The file. It is read again, since to keep photographs could take any amount of memory.
      target: The .jpg or .png to write; its folder is made.

    Attributes:
      target: As given.
      problem: Why it could not be drawn; '' as long as it could.
    """

    def __init__(self, path: pathlib.Path, target: pathlib.Path):
        self._path = path
        self.target = target
        self.problem = ''

    def add(self, rows: Sequence[Row]) -> None:
        """Draws all faces, of a video those of the next frame, given their rows."""
        first = rows[0]
        is_unread = first.get('error', NO_FACE) != NO_FACE and not {'face', 'frame'} & first.keys()
        if self.problem or is_unread:
            return
        with self._keeping_problems():
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self._draw(rows)

    def close(self) -> None:
        """Ends it."""

    def _draw(self, rows: Sequence[Row]) -> None:
        image, width, height = image_files.read_file(self._path)
        drawn = draw.draw_boxes(image, *_boxes_and_labels(rows), size=(width, height))
        drawn.save(self.target, quality=92)

    @contextlib.contextmanager
    def _keeping_problems(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # The rows matter more.
            self.problem = self.problem or ' '.join(str(error).split())


class VideoDrawing(Drawing):
    """Draws those frames of a video that were read, in its size and at its pace, without its sound.

    Args:
      path: The file; it is read again, a frame at a time.
      target: The .mp4 to write; its folder is made.
      config: The section `video`.
    """

    def __init__(self, path: pathlib.Path, target: pathlib.Path, config: ConfigDict):
        super().__init__(path, target)
        self._every = config.every
        self._frames = videos.read_frames(path, config)
        self._writer: videos.Writer | None = None

    def _draw(self, rows: Sequence[Row]) -> None:
        if self._writer is None:
            rate = videos.frame_rate(self._path) / self._every
            self._writer = videos.Writer(self.target, rate)
        frame = next(self._frames, None)
        if frame is None or frame.number != rows[0]['frame']:
            raise ValueError('the video has changed meanwhile')
        boxes, labels = _boxes_and_labels(rows)
        picture = draw.draw_boxes(frame.pixels, boxes, labels, enlarge=False)
        self._writer.write(np.asarray(picture))

    def close(self) -> None:
        """Ends the video."""
        self._frames.close()
        if self._writer is not None:
            with self._keeping_problems():
                self._writer.close()


def _boxes_and_labels(rows: Sequence[Row]) -> tuple[list[tuple[int, int, int, int]], list[str]]:
    boxes, labels = [], []
    for row in rows:
        age, gender = row.get('age'), row.get('gender')
        if 'face' not in row or (age is None and gender is None):
            continue
        words = [] if age is None else [f'{age:.0f}']
        if gender is not None:
            female = row['female_probability']
            if gender == 'unsure':
                words.append(f'unsure (female {female:.0%})')
            else:
                words.append(f'{gender} {1 - female if gender == "male" else female:.0%}')
        boxes.append((row['x'], row['y'], row['width'], row['height']))
        labels.append(', '.join(words))
    return boxes, labels
