import numpy as np
from PIL import Image

from hybrid.datasets import images
from hybrid.datasets.images import resize
from hybrid.photos import search
from hybrid.photos.faces import format_row, read_faces
from tests.photos import drawn_faces
from tests.random_workdir import face


class Drawn:
    """Finds drawn faces."""

    def detect(self, image):
        return drawn_faces.find(image)


def test_boxes_are_in_pixels_of_the_file_even_if_it_is_read_at_half_its_size(tmp_path, monkeypatch):
    image = np.full((300, 401, 3), 90, np.uint8)
    drawn = drawn_faces.draw(image, (151, 170), 200)
    Image.fromarray(image).save(tmp_path / 'x.jpg', quality=95)
    ((whole, cut),) = read_faces(tmp_path / 'x.jpg', Drawn(), [40])
    monkeypatch.setattr(images, 'WHOLE_PIXELS', 300 * 401 - 1)
    ((half, small),) = read_faces(tmp_path / 'x.jpg', Drawn(), [40])
    for row in (whole, half):
        box = [row[name] for name in ('x', 'y', 'width', 'height')]
        np.testing.assert_allclose(box, drawn.box, atol=4)
        assert row['turn'] == 0
    assert cut is not None
    assert small is not None
    assert np.abs(cut[0].astype(int) - small[0]).mean() < 5
    ((row, _),) = read_faces(tmp_path / 'x.jpg', None, [40])
    assert (row['width'], row['height'], row.get('turn')) == (401, 300, None)


def test_the_turn_is_the_one_that_brings_a_face_upright():
    for degrees, turn in ((0, 0), (40, 0), (-40, 0), (50, 270), (90, 270), (180, 180), (270, 90)):
        landmarks = drawn_faces.draw(np.zeros((300, 300, 3), np.uint8), (150, 150), 90, degrees)[1]

        class Fixed:
            def detect(self, image, landmarks=landmarks):
                return [search.Face(np.array([0, 0, 9, 9]), landmarks, 0.9)]

        ((row, _),) = read_faces(np.zeros((300, 300, 3), np.uint8), Fixed(), [8])
        assert row['turn'] == turn


def test_of_a_crop_that_is_not_square_the_middle_is_seen(tmp_path):
    image = face(5, (64, 48))
    image.save(tmp_path / 'x.png')
    ((row, cuts),) = read_faces(tmp_path / 'x.png', None, [36, 20])
    assert (row['width'], row['height']) == (64, 48)
    assert cuts is not None
    cut, small = cuts
    np.testing.assert_array_equal(small, resize(np.asarray(image), 20))
    np.testing.assert_array_equal(cut, resize(np.asarray(image), 36))


def test_tables_leave_out_what_is_more_than_a_number():
    """Such as a distribution of age, which arrays of Python have."""
    row = {'path': 'a.jpg', 'age': 30.5, 'age_probabilities': np.zeros(101)}
    columns = ('path', 'age', 'error')
    assert format_row(row, '.csv', columns) == 'a.jpg,30.5,\n'
    assert format_row(row, '.csv', columns, for_spreadsheets=True) == 'a.jpg,30.5,\n'
    assert format_row(row, '.jsonl', columns) == '{"path": "a.jpg", "age": 30.5, "error": null}\n'
