"""The images that people give from Python: one or many, as paths, Pillow images or arrays."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from PIL import Image

# A path; a Pillow image; or uint8 [H, W], [H, W, 1], [H, W, 3] (RGB) or [H, W, 4] (RGBA), as a
# NumPy array or what can be seen as one.
ImageLike = str | os.PathLike | Image.Image | np.ndarray
_KINDS = 'a path, a Pillow image or an array'


def file_name(image: ImageLike) -> str | None:
    """The path of an image that is a file; None for pixels."""
    return os.fspath(image) if isinstance(image, str | os.PathLike) else None


def check_kind(image: Any) -> None:
    """Raises TypeError for what is no `ImageLike`."""
    if not isinstance(image, str | os.PathLike | Image.Image) and not hasattr(image, '__array__'):
        hint = ''
        if _is_content(image):
            opened = 'image' if hasattr(image, 'read') else 'io.BytesIO(image)'
            hint = f': give PIL.Image.open({opened})'
        raise TypeError(f'{type(image).__name__} is not {_KINDS}{hint}')


def _is_content(image: Any) -> bool:
    """Whether it is what an image file holds, or such a file that is open."""
    return isinstance(image, bytes | bytearray | memoryview) or hasattr(image, 'read')


def check_array(image: np.ndarray) -> np.ndarray:
    """An array as uint8 [H, W, C], of 1, 3 or 4 channels; raises ValueError if it is none."""
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8:
        raise ValueError(f'an array of {pixels.dtype}; images are uint8, from 0 to 255')
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or not pixels.size:
        raise ValueError(
            f'an array of shape {np.shape(image)}; an image is [H, W], [H, W, 3] or [H, W, 4]'
        )
    return pixels


@contextlib.contextmanager
def naming(place: int, image: ImageLike) -> Iterator[None]:
    """Says in an error which of the images it is about."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise type(error)(f'{file_name(image) or f"image {place}"}: {error}') from error


def several(images: ImageLike | Iterable[ImageLike]) -> Iterable[ImageLike]:
    """A list of one for one image; the images of an array or a collection; else an iterator."""
    if isinstance(images, str | os.PathLike | Image.Image) or _is_content(images):
        return [images]  # type: ignore[list-item]  # `check_kind` refuses content
    if hasattr(images, '__array__'):
        array = np.asarray(images)
        # Of images [N, H, W, C], or of paths; else one image [H, W] or [H, W, C].
        many = array.ndim == 4 or array.dtype.kind in 'OU'
        return list(np.atleast_1d(array)) if many else [array]
    if not isinstance(images, Iterable):
        raise TypeError(f'{type(images).__name__} is not {_KINDS}, and no collection of them')
    return images


def numbered(images: Iterable[ImageLike]) -> Iterator[tuple[int, ImageLike]]:
    """Numbers images, which are read later; raises TypeError for what is no image."""
    for place, image in enumerate(images):
        with naming(place, image):
            check_kind(image)
        if isinstance(image, Image.Image):
            # Here, in one thread: the same image may be there twice. What is wrong is told later.
            with contextlib.suppress(Exception):
                image.load()
        yield place, image
