"""Two tables of drawn faces that have some photographs in common, as face_csv/a and face_csv/b."""

import pathlib

import cv2
import numpy as np

from hybrid import datasets
from hybrid.datasets.synthetic_faces import synthetic_faces_dataset_builder as drawn
from tests.datasets.face_csv_test import write_faces

# What a training on both has to do without: dataset, split, id, reason, and for which other one.
LEFT_OUT = [
    ('face_csv/a', 'train', 'a40.jpg', 'bytes', 'face_csv/b', 'test', 'b20.jpg'),
    ('face_csv/a', 'train', 'a41.jpg', 'photograph', 'face_csv/b', 'validation', 'b15.jpg'),
    ('face_csv/a', 'validation', 'a42.jpg', 'near_duplicate', 'face_csv/b', 'test', 'b21.jpg'),
    ('face_csv/b', 'train', 'b0.jpg', 'group', 'face_csv/b', 'train', 'b40.jpg'),
    ('face_csv/b', 'train', 'b40.jpg', 'photograph', 'face_csv/a', 'test', 'a26.jpg'),
    ('face_csv/b', 'validation', 'b42.jpg', 'photograph', 'face_csv/a', 'test', 'a27.jpg'),
]


def face(number: int, seed: int = 0) -> bytes:
    """A drawn face of 64 pixels as a JPEG; others of the same seed are others."""
    config = drawn.SyntheticFacesConfig(name='drawn', image_size=64, seed=seed)
    return drawn.make_example(config, 'train', number)['image'].getvalue()


def decoded(content: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


def cut_otherwise(content: bytes, angle: float = 3, scale: float = 0.95) -> bytes:
    """The same picture turned, shrunk and moved a little, at 40 pixels."""
    image = decoded(content)
    side = len(image)
    moved = np.array([[0, 0, side / 32]] * 2)
    turned = cv2.getRotationMatrix2D((side / 2, side / 2), angle, scale) + moved
    image = cv2.warpAffine(image, turned, (side, side), borderMode=cv2.BORDER_REPLICATE)
    image = cv2.resize(image, (40, 40), interpolation=cv2.INTER_AREA)
    return cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


def compressed(content: bytes) -> bytes:
    """The same picture as another file."""
    image = decoded(content)
    return cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1].tobytes()


def prepare(folder: pathlib.Path) -> pathlib.Path:
    """Prepares both in a new data_dir: 23, 7 and 7 examples of a; 17, 6 and 6 of b.

    Of a ages are exact and genders known; of b ages are ranges and genders are not known.
    """
    a, b = [face(k) for k in range(32)], [face(k, seed=1) for k in range(25)]
    splits = [*['train'] * 20, *['validation'] * 6, *['test'] * 6]
    of_a = [
        (image, f'a{k}.jpg', 20 + k, 'mf'[k % 2], splits[k], f'a{k}') for k, image in enumerate(a)
    ]
    of_a += [
        (b[20], 'a40.jpg', 30, 'm', 'train', 'a40'),
        (cut_otherwise(b[15]), 'a41.jpg', 31, 'f', 'train', 'a41'),
        (compressed(b[21]), 'a42.jpg', 32, 'm', 'validation', 'a42'),
        # In training, and in the test, of both: that does no harm.
        (b[1], 'a43.jpg', 33, 'f', 'train', 'a43'),
        (b[22], 'a44.jpg', 34, 'm', 'test', 'a44'),
    ]
    splits = [*['train'] * 15, *['validation'] * 5, *['test'] * 5]
    of_b = [
        (image, f'b{k}.jpg', f'{20 + k}-{29 + k}', '', splits[k], 'p' if k == 0 else f'b{k}')
        for k, image in enumerate(b)
    ]
    of_b += [
        (cut_otherwise(a[26]), 'b40.jpg', '40-49', '', 'train', 'p'),
        (a[1], 'b41.jpg', '41-50', '', 'train', 'b41'),
        (cut_otherwise(a[27], -3), 'b42.jpg', '42-51', '', 'validation', 'b42'),
        (face(100), 'b43.jpg', '43-52', '', 'test', 'a0'),  # The group of somebody else in a.
    ]
    for name, rows in (('a', of_a), ('b', of_b)):
        manual_dir = write_faces(folder / name, rows, 'path,age,gender,split,group')
        builder = datasets.create_builder(f'face_csv/{name}', str(folder / 'data'))
        datasets.prepare(builder, str(manual_dir))
    return folder / 'data'
