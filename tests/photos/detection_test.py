import threading
from concurrent import futures

import cv2
import numpy as np
import pytest

from hybrid.datasets.synthetic_faces.drawing import draw_face
from hybrid.photos import alignment, detection, image_files
from tests.datasets.drawing_test import PLAIN_CUES, PLAIN_NUISANCES

# Where the eyes and the mouth of the people on the photographs are, read off by eye, in pixels.
OBAMA_AND_BIDEN = [
    {'eyes': [(795, 485), (870, 485)], 'mouth': (825, 575)},
    {'eyes': [(1185, 460), (1270, 445)], 'mouth': (1240, 535)},
    {'eyes': [(1645, 1135), (1705, 1145)], 'mouth': (1680, 1190)},
]
ASTRONAUT = [{'eyes': [(203, 101), (248, 103)], 'mouth': (224, 145)}]


@pytest.fixture(scope='module')
def model(shared_data):
    path = shared_data / 'face_detector' / detection.MODEL_FILE
    if not path.exists():
        pytest.skip(f'no {path}')
    return str(path)


@pytest.fixture(scope='module')
def photos(shared_data):
    names = {'ageitgey_obama_and_biden.jpg': OBAMA_AND_BIDEN, 'skimage_astronaut.png': ASTRONAUT}
    folder = shared_data / 'photos'
    return [(image_files.read_file(folder / name).pixels, people) for name, people in names.items()]


def check(faces, people, scale=1.0):
    assert len(faces) == len(people)
    for face, person in zip(faces, people, strict=True):
        left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks / scale
        width = face.box[2] / scale
        middle = (left_mouth + right_mouth) / 2
        for found, true in (
            *((left_eye, person['eyes'][0]), (right_eye, person['eyes'][1])),
            (middle, person['mouth']),
        ):
            assert np.linalg.norm(found - true) < 0.2 * width
        assert left_eye[0] < right_eye[0]
        assert left_mouth[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < middle[1]
        left, top, width, height = face.box / scale
        assert left < left_mouth[0] < right_mouth[0] < left + width
        assert top < left_eye[1] < middle[1] < top + height
        assert 0.7 < face.score <= 1


def test_every_face_is_found_from_left_to_right(model, photos):
    detector = detection.FaceDetector(model)
    for image, people in photos:
        check(detector.detect(image), people)


@pytest.mark.parametrize('scale', [0.5, 4.0])
def test_boxes_are_in_pixels_of_the_photograph(model, photos, scale):
    image, people = photos[1]
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    check(detection.FaceDetector(model).detect(image), people, scale)


def test_a_face_that_fills_a_large_photograph_is_one_face(model, photos):
    image, people = photos[1]
    cut = image[40:200, 144:304]
    large = cv2.resize(cut, (2400, 2400), interpolation=cv2.INTER_CUBIC)
    (face,) = detection.FaceDetector(model).detect(large)
    moved = [
        {
            'eyes': [(x - 144, y - 40) for x, y in people[0]['eyes']],
            'mouth': (people[0]['mouth'][0] - 144, people[0]['mouth'][1] - 40),
        }
    ]
    check([face], moved, scale=15.0)


def test_no_face(model):
    detector = detection.FaceDetector(model)
    noise = np.random.default_rng(0).integers(0, 256, (300, 500, 3), np.uint8)
    for image in (noise, np.zeros((1, 1, 3), np.uint8), np.zeros((3, 2000, 3), np.uint8)):
        assert detector.detect(image) == []


def test_threads_may_share_a_detector(model, photos):
    detector = detection.FaceDetector(model)
    alone = [detector.detect(image) for image, _ in photos]
    barrier = threading.Barrier(4)

    def search(k):
        barrier.wait(30)
        return [detector.detect(photos[(k + i) % 2][0]) for i in range(4)]

    with futures.ThreadPoolExecutor(4) as pool:
        for k, results in enumerate(pool.map(search, range(4))):
            for i, faces in enumerate(results):
                expected = alone[(k + i) % 2]
                assert len(faces) == len(expected)
                for face, other in zip(faces, expected, strict=True):
                    np.testing.assert_array_equal(face.box, other.box)


def test_a_missing_model_says_where_to_get_it(tmp_path):
    path = tmp_path / 'none.onnx'
    with pytest.raises(FileNotFoundError) as caught:
        detection.FaceDetector(str(path))
    message = str(caught.value)
    for part in (str(path), detection.MODEL_FILE, 'models/face_detection_yunet', 'opencv_zoo'):
        assert part in message
    assert '--config.detect.model=' in message
    assert '\n' not in message


@pytest.mark.parametrize('content', [b'', b'version https://git-lfs.github.com/spec/v1\n'])
def test_a_file_that_is_no_model(tmp_path, content, capfd):
    path = tmp_path / 'model.onnx'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'model\.onnx: OpenCV cannot use it .*232,589') as caught:
        detection.FaceDetector(str(path))
    assert '\n' not in str(caught.value)
    assert capfd.readouterr() == ('', '')  # OpenCV's own log is silent.


def test_settings_are_checked():
    with pytest.raises(ValueError, match=r'config\.detect\.threshold=1\.5'):
        detection.FaceDetector('x', threshold=1.5)
    with pytest.raises(ValueError, match=r'config\.detect\.max_size=8'):
        detection.FaceDetector('x', max_size=8)
    with pytest.raises(ValueError, match=r'config\.detect\.min_face=0'):
        detection.FaceDetector('x', min_face=0)


def drawn_face(side):
    face = draw_face(PLAIN_CUES, PLAIN_NUISANCES, 200)
    return cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize('turn', [0, 90, 180, 270])
def test_a_photograph_on_its_side_gives_the_faces_of_the_upright_one(model, turn):
    upright = np.full((480, 640, 3), 190, np.uint8)
    upright[120:320, 200:400] = drawn_face(200)
    upright[60:180, 480:600] = drawn_face(120)
    turned = np.ascontiguousarray(np.rot90(upright, turn // 90))
    detector = detection.FaceDetector(model)
    expected, found = detector.detect(upright), detector.detect(turned)
    assert [detection.upright_turn(face) for face in expected] == [0, 0]
    assert [detection.upright_turn(face) for face in found] == [turn, turn]

    def cuts(image, faces):
        faces = sorted(faces, key=lambda face: -face.box[2])
        return [alignment.align_face(image, face.landmarks, 64).astype(int) for face in faces]

    for cut, other in zip(cuts(turned, found), cuts(upright, expected), strict=True):
        assert np.abs(cut - other).mean() < 25 < np.abs(np.rot90(cut) - other).mean()
    assert detection.FaceDetector(model, turns=False).detect(upright)[0].score == expected[0].score


def test_a_group_in_a_large_photograph(model):
    photograph = np.full((2400, 3600, 3), 190, np.uint8)
    drawn = []
    for row, side in enumerate((60, 80, 110, 200)):
        for column in range(6):
            x, y = 150 + 570 * column + 40 * row, 150 + 540 * row
            photograph[y : y + side, x : x + side] = drawn_face(side)
            drawn.append((x + side / 2, y + side / 2))
    faces = detection.FaceDetector(model).detect(photograph)
    middles = [tuple(face.box[:2] + face.box[2:] / 2) for face in faces]
    near = [[np.hypot(x - u, y - v) < 20 for x, y in middles] for u, v in drawn]
    assert len(faces) == len(drawn) == sum(map(any, near))
    assert len(detection.FaceDetector(model, min_face=10_000).detect(photograph)) < len(drawn)
