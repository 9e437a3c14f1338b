import itertools

import numpy as np
import pytest

from hybrid.photos import detection, search
from tests.photos import drawn_faces


def photograph(height, width):
    return np.full((height, width, 3), 90, np.uint8)


def check(found, drawn, tolerance=0.05):
    """Each face is found once, at its place, by its own eyes, nose and mouth."""
    drawn = sorted(drawn, key=lambda face: (face.box[0], face.box[1]))
    assert len(found) == len(drawn)
    for face in found:
        distance = [np.abs(face.landmarks - other.landmarks).max() for other in drawn]
        nearest = drawn[int(np.argmin(distance))]
        width = nearest.box[2]
        assert min(distance) < tolerance * width
        np.testing.assert_allclose(face.box, nearest.box, atol=2 * tolerance * width)
    places = [tuple(face.box[:2]) for face in found]
    assert places == sorted(places)


@pytest.fixture
def create(monkeypatch, tmp_path):
    """Creates a FaceDetector that finds drawn faces."""
    monkeypatch.setattr(
        detection.FaceDetector,
        '_find',
        lambda self, image, threshold=None: drawn_faces.find(image, threshold or 0.7),
    )
    (tmp_path / 'model').touch()
    return lambda **settings: detection.FaceDetector(str(tmp_path / 'model'), **settings)


@pytest.mark.parametrize('turn', [0, 90, 180, 270])
@pytest.mark.parametrize('scale', [1.0, 0.5, 0.37])
def test_what_is_found_in_a_turned_picture_is_where_it_is_in_the_picture(turn, scale):
    image = photograph(301, 400)
    drawn = drawn_faces.draw(image, (130.5, 171), 150, -turn)
    (found,) = search.search(image, drawn_faces.find, scale, turn)
    np.testing.assert_allclose(found.landmarks, drawn.landmarks, atol=1.5)
    np.testing.assert_allclose(found.box, drawn.box, atol=6)
    assert detection.upright_turn(found) == turn


@pytest.mark.parametrize('turn', [0, 90, 180, 270])
def test_a_turn_is_exact(turn):
    image = np.random.default_rng(0).integers(0, 256, (5, 8, 3), np.uint8)
    seen = []

    def look(turned):
        seen.append(turned)
        return []

    search.search(image, look, 1, turn)
    np.testing.assert_array_equal(seen[0], np.rot90(image, -turn // 90))


@pytest.mark.parametrize('degrees', range(45, 316, 15))
@pytest.mark.parametrize('width', [40, 700])
def test_a_face_is_brought_upright_from_any_angle(degrees, width):
    side = 3 * width
    image = photograph(side, side)
    drawn = drawn_faces.draw(image, (side / 2, 0.6 * side), width, degrees)
    hasty = search.Face(
        drawn.box + np.array([3, -2, 0, 0]), drawn.box[:2] + drawn_faces.POINTS, 0.8
    )
    found = search.straighten(image, drawn_faces.find, hasty, 0.7)
    assert found.score == 0.9
    np.testing.assert_allclose(found.landmarks, drawn.landmarks, atol=0.05 * width)
    assert search.tilt(found) % 360 == pytest.approx(degrees, abs=4)


def test_an_upright_face_stays_as_it_was_found():
    image = photograph(300, 300)
    face = drawn_faces.draw(image, (150, 150), 100)._replace(score=0.895)
    assert search.straighten(image, drawn_faces.find, face, 0.7) is face
    # Of which the first search was unsure is what the second one says.
    unsure = face._replace(score=0.5)
    assert search.straighten(image, drawn_faces.find, unsure, 0.7).score == 0.9
    # Where the second one finds nothing, or could not look, there is the first.
    nothing = photograph(300, 300)
    assert search.straighten(nothing, drawn_faces.find, unsure, 0.7) is unsure
    outside = face._replace(box=face.box + np.array([1000, 0, 0, 0]))
    assert search.straighten(image, drawn_faces.find, outside, 0.7) is outside


@pytest.mark.parametrize('degrees', [0, 90, 180, 270, 45])
def test_photographs_at_any_turn(create, degrees):
    image = photograph(300, 480)
    drawn = [
        drawn_faces.draw(image, place, width, degrees)
        for place, width in (((80, 130), 90), ((270, 160), 160), ((430, 220), 60))
    ]
    found = create().detect(image)
    check(found, drawn)
    assert {detection.upright_turn(face) for face in found} <= {-degrees % 360, 0, 270}
    hasty = create(turns=False).detect(image)
    # On their head they are found, as if they were upright; on their side they are not.
    assert [detection.upright_turn(face) for face in hasty] == [0] * (0 if degrees % 180 else 3)


def test_one_that_lies_shows_that_others_may(create, monkeypatch):
    """YuNet finds some faces at any angle, and others only upright."""
    image = photograph(250, 350)
    drawn = [drawn_faces.draw(image, (120, 125), 150, 180)]
    drawn += [drawn_faces.draw(image, (300, 125), 30, 180)]
    narrow_only_upright = drawn_faces.find

    def find(self, image, threshold=None):
        faces = narrow_only_upright(image, threshold or 0.7)
        return [face for face in faces if face.box[2] > 50 or face.score != 0.8]

    monkeypatch.setattr(detection.FaceDetector, '_find', find)
    check(create().detect(image), drawn)


def test_what_is_unsure_at_a_second_look_is_no_face(create, monkeypatch):
    image = photograph(300, 300)
    drawn_faces.draw(image, (150, 150), 100)

    def find(self, image, threshold=None):
        faces = drawn_faces.find(image, 0)
        return [face._replace(score=0.6) for face in faces if (threshold or 0.7) <= 0.6]

    monkeypatch.setattr(detection.FaceDetector, '_find', find)
    assert create().detect(image) == []


def crowd(monkeypatch, degrees):
    """A large photograph for small tiles: one face of 550 pixels, and twelve of 36 to 120."""
    monkeypatch.setattr(search, '_TILE', 300)
    monkeypatch.setattr(search, '_TILE_OVERLAP', 130)
    image = photograph(600, 1200)
    drawn = [drawn_faces.draw(image, (300, 290), 550, degrees)]
    for k, width in enumerate((36, 60, 80, 120)):
        for row in range(3):
            x, y = 660 + 150 * k - 9 * row, 90 + 175 * row + 7 * k
            drawn.append(drawn_faces.draw(image, (x, y), width, degrees))
    return image, drawn


@pytest.mark.parametrize('degrees', [0, 90])
def test_small_faces_in_large_photographs(create, monkeypatch, degrees):
    """Faces of all sizes, at the borders of tiles too, are found once and whole."""
    image, drawn = crowd(monkeypatch, degrees)
    check(create(max_size=300).detect(image), drawn)


@pytest.mark.parametrize(('min_face', 'faces'), [(32, 13), (50, 10), (10_000, 4)])
def test_how_small_is_up_to_the_user(create, monkeypatch, min_face, faces):
    image, _ = crowd(monkeypatch, 0)
    assert len(create(max_size=300, min_face=min_face).detect(image)) == faces


def test_tiles_are_searched_where_they_show_more(create, monkeypatch):
    searched = []

    def note(image, find, whole, finest, turn):
        searched.append((whole, finest))
        return []

    monkeypatch.setattr(detection, 'search_tiles', note)
    detector = create(max_size=1000, turns=False)
    for longest, expected in ((1900, []), (2000, [(0.5, 0.75)]), (4000, [(0.25, 0.75)])):
        detector.detect(np.zeros((10, longest, 3), np.uint8))
        assert searched == expected
        searched.clear()
    create(max_size=1000, min_face=24, turns=False).detect(np.zeros((10, 2000, 3), np.uint8))
    assert searched == [(0.5, 1)]


@pytest.mark.parametrize(('length', 'size', 'shared'), [(100, 40, 10), (41, 40, 10), (7, 40.5, 9)])
def test_parts_cover_a_length_and_overlap(length, size, shared):
    parts = search._parts(length, size, shared)
    assert (parts[0][0], parts[-1][1]) == (0, length)
    assert all(end - start <= size + 2 for start, end in parts)
    for (_, end), (start, _) in itertools.pairwise(parts):
        assert end - start >= shared


def test_overlap_is_a_share_of_the_smaller_box():
    large, inside = np.array([0, 0, 10, 10]), np.array([2, 2, 3, 4])
    assert search.overlap(large, inside) == search.overlap(inside, large) == 1
    assert search.overlap(large, np.array([8, 9, 4, 5])) == 2 / 20
    assert search.overlap(large, np.array([11, 0, 4, 5])) == 0
