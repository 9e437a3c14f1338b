import hashlib

import numpy as np
import pytest

from hybrid import default_config
from hybrid.datasets.image_sources import RefusedError
from hybrid.photos import alignment, detection, image_files
from hybrid.photos.aligner import Aligner
from hybrid.photos.faces import read_faces
from tests import photographs
from tests.photographs import PLACES, Detector, face, photograph


@pytest.fixture
def config(monkeypatch, tmp_path):
    config = default_config.get_config()
    photographs.use(monkeypatch, config, tmp_path)
    return config


def aligned(image, place, size=64):
    return alignment.align_face(image, face(*place).landmarks, size)


def test_each_box_gets_the_face_that_overlaps_it_most(config):
    image = np.asarray(photograph(1))
    large, middle, small = PLACES
    boxes = [
        (700, 80, 150, 150),  # loose, by hand
        (60, 120, 120, 120),  # tight
        (420, 200, 60, 60),
        (30, 90, 170, 170),  # the same face again: the nearer box has it
        (200, 10, 100, 100),
        (400, 150, 300, 200),  # a whole person
    ]
    cuts = Aligner(config.detect, 64)(image, boxes)
    for cut, place in ((cuts[0], middle), (cuts[2], small), (cuts[3], large)):
        np.testing.assert_array_equal(cut, aligned(image, place))
    for k in (1, 4, 5):
        cut = cuts[k]
        assert isinstance(cut, RefusedError)
        assert (cut.reason, cut.detail) == ('no_face', 'the detector finds 3 elsewhere')


def test_without_a_box_the_central_face_is_meant_if_it_is_not_small(config):
    image = np.asarray(photograph(1))
    # (420, 200) is the most central, and less than half as wide as the widest.
    (cut,) = Aligner(config.detect, 64)(image, [None])
    np.testing.assert_array_equal(cut, aligned(image, PLACES[1]))
    # The face of a line with a box is not that of a line without.
    boxed, other = Aligner(config.detect, 64)(image, [(700, 90, 120, 120), None])
    np.testing.assert_array_equal(boxed, aligned(image, PLACES[1]))
    np.testing.assert_array_equal(other, aligned(image, PLACES[0]))
    (none,) = Aligner(config.detect, 64)(image[:, :200], [None])
    assert isinstance(none, RefusedError)
    assert (none.reason, none.detail) == ('no_face', 'the detector finds none')


def test_the_record_says_what_aligned(config):
    config.detect.threshold = 0.8
    assert Aligner(config.detect, 96).geometry == {
        'geometry': 'aligned',
        'template': 1,
        'size': 96,
        'detector_sha256': hashlib.sha256(b'a detector').hexdigest(),
        'threshold': 0.8,
        'max_size': 1280,
        'min_face': 32,
        'turns': True,
    }


def test_real_faces_in_boxes_are_what_detection_sees(shared_data):
    config = default_config.get_config().detect
    config.model = str(shared_data / 'face_detector' / detection.MODEL_FILE)
    image = image_files.read_file(shared_data / 'photos/ageitgey_obama_and_biden.jpg').pixels
    found = read_faces(image, detection.create_detector(config), (112,))
    boxes = [tuple(row[name] for name in ('x', 'y', 'width', 'height')) for row, _ in found]
    cuts = Aligner(config, 112)(image, [*reversed(boxes), (10, 10, 90, 90)])
    for cut, (_, faces) in zip(cuts, reversed(found), strict=False):
        assert faces is not None
        np.testing.assert_array_equal(cut, faces[0])
    assert isinstance(cuts[3], RefusedError)


def test_the_detector_of_these_tests_lies_where_the_template_is():
    image = np.asarray(photograph(1))
    (found,) = [face for face in Detector().detect(image) if face.box[0] == 40]
    np.testing.assert_array_equal(
        alignment.align_face(image, found.landmarks, 160), image[100:260, 40:200]
    )
