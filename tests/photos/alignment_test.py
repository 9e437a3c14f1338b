import io
import tarfile

import cv2
import numpy as np
import pytest
from PIL import Image

from hybrid.photos import alignment, detection


def similarity(scale, degrees, shift):
    angle = np.radians(degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([scale * rotation, shift])


def apply(matrix, points):
    return points @ matrix[:, :2].T + matrix[:, 2]


def smooth_image(height, width):
    """Three functions of place, which every similarity transform of it can be computed from."""
    y, x = np.mgrid[:height, :width] + 0.5
    return np.stack([colour(x, y) for colour in COLOURS], -1).round().astype(np.uint8)


COLOURS = (
    lambda x, y: 128 + 90 * np.sin(x / 41) * np.cos(y / 37),
    lambda x, y: 128 + 90 * np.cos(x / 53 + y / 61),
    lambda x, y: 20 + 0.15 * x + 0.1 * y,
)


@pytest.mark.parametrize('scale', [0.01, 1.0, 30.0])
@pytest.mark.parametrize('degrees', [0, 35, -170])
def test_a_similarity_transform_is_found(scale, degrees):
    truth = similarity(scale, degrees, [12.5, -7])
    source = np.random.default_rng(0).normal(size=(5, 2)) * 50
    found = alignment.similarity_transform(source, apply(truth, source))
    np.testing.assert_allclose(found, truth, atol=1e-9 * max(scale, 1))


def test_the_similarity_transform_is_the_best_one():
    rng = np.random.default_rng(1)
    source, target = rng.normal(size=(2, 5, 2))
    found = alignment.similarity_transform(source, target)
    # The same least squares as a linear system in a, b and the shift.
    ones, zeros = np.ones(5), np.zeros(5)
    system = np.concatenate(
        [
            np.stack([source[:, 0], -source[:, 1], ones, zeros], 1),
            np.stack([source[:, 1], source[:, 0], zeros, ones], 1),
        ]
    )
    a, b, u, v = np.linalg.lstsq(system, target.T.ravel(), rcond=None)[0]
    np.testing.assert_allclose(found, [[a, -b, u], [b, a, v]], atol=1e-12)


def test_equal_landmarks_are_refused():
    with pytest.raises(ValueError, match='in one point'):
        alignment.align_face(smooth_image(20, 20), np.full((5, 2), 3.0), 8)


def test_a_face_in_the_places_of_the_template_stays():
    image = smooth_image(200, 200)
    np.testing.assert_array_equal(alignment.align_face(image, alignment.TEMPLATE * 200, 200), image)


@pytest.mark.parametrize('factor', [2, 3, 5])
def test_shrinking_averages_over_areas(factor):
    size = 40
    image = np.random.default_rng(0).integers(0, 256, (size * factor, size * factor, 3), np.uint8)
    means = image.reshape(size, factor, size, factor, 3).mean((1, 3))
    crop = alignment.align_face(image, alignment.TEMPLATE * size * factor, size)
    assert np.abs(crop - means).max() <= 1


@pytest.mark.parametrize(
    ('scale', 'degrees'), [(1, 0), (1, 20), (0.3, -50), (2.7, 10), (7.5, 75), (2, 180)]
)
def test_a_face_of_any_size_and_tilt_is_brought_upright(scale, degrees):
    size = 64
    image = smooth_image(900, 1000)
    # From the crop to the photograph, in which the middle of the face lies at (500, 450).
    place = similarity(scale, degrees, [0, 0])
    place[:, 2] = [500, 450] - place[:, :2] @ [size / 2, size / 2]
    crop = alignment.align_face(image, apply(place, alignment.TEMPLATE * size), size)
    y, x = np.mgrid[:size, :size] + 0.5
    x, y = apply(place, np.stack([x.ravel(), y.ravel()], 1)).T
    expected = np.stack([colour(x, y) for colour in COLOURS], -1).reshape(size, size, 3)
    assert np.abs(crop - expected).max() < 2.5


def test_beyond_the_photograph_is_black():
    image = np.full((100, 100, 3), 200, np.uint8)
    # The photograph is the lower right quarter of the crop.
    crop = alignment.align_face(image, alignment.TEMPLATE * 200 - 100, 40)
    assert (crop[:19] == 0).all()
    assert (crop[:, :19] == 0).all()
    assert (crop[21:39, 21:39] == 200).all()


def test_a_very_wide_photograph():
    """OpenCV cannot warp an image of more than 32,767 pixels in a row."""
    image = np.zeros((40, 40_000, 3), np.uint8)
    image[:, 39_900:39_940] = smooth_image(40, 40)
    landmarks = alignment.TEMPLATE * 40 + [39_900, 0]
    crop = alignment.align_face(image, landmarks, 40)
    np.testing.assert_array_equal(crop, smooth_image(40, 40))


def test_a_huge_face_takes_little_memory(monkeypatch):
    sides = []
    warp = cv2.warpAffine

    def note(image, matrix, size, **options):
        sides.append(size)
        return warp(image, matrix, size, **options)

    monkeypatch.setattr(cv2, 'warpAffine', note)
    image = np.full((3000, 3000, 3), 90, np.uint8)
    crop = alignment.align_face(image, alignment.TEMPLATE * 3000, 32)
    assert sides == [(512, 512)]
    np.testing.assert_array_equal(crop, np.full((32, 32, 3), 90))


def test_utkface_crops_need_no_alignment(shared_data):
    """The template is where the landmarks of UTKFace are: on average its crops stay as they are."""
    model = shared_data / 'face_detector' / detection.MODEL_FILE
    archive = shared_data / 'utkface' / 'UTKFace.tar.gz'
    if not (model.exists() and archive.exists()):
        pytest.skip('no real data')
    detector = detection.FaceDetector(str(model))
    matrices = []
    with tarfile.open(archive, 'r|gz') as tar:
        for member in tar:
            if member.isfile():
                file = tar.extractfile(member)
                assert file is not None
                image = np.asarray(Image.open(io.BytesIO(file.read())).convert('RGB'))
                faces = detector.detect(image)
                assert len(faces) == 1, member.name
                matrices.append(
                    alignment.similarity_transform(faces[0].landmarks, alignment.TEMPLATE * 200)
                )
            if len(matrices) == 150:
                break
    scale = [np.hypot(m[0, 0], m[1, 0]) for m in matrices]
    degrees = [np.degrees(np.arctan2(m[1, 0], m[0, 0])) for m in matrices]
    shift = [m[:, :2] @ [100, 100] + m[:, 2] - 100 for m in matrices]
    assert abs(np.median(scale) - 1) < 0.02
    assert abs(np.median(degrees)) < 0.7
    assert np.abs(np.median(shift, axis=0)).max() < 1.5
    assert np.percentile(np.abs(degrees), 90) < 7
