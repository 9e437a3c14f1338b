import numpy as np
import pytest

from hybrid.runs import face_rows
from hybrid.runs.predictor import Predictor

SIZE = {'width': 3, 'height': 3}


class Fake(Predictor):
    """Predicts four faces at a time, by a function of images [B, R, R, 3] for each model."""

    def __init__(self, function):
        self.most, self.function, self.face_sizes = 4, function, [2, 3]
        self.known_faces = {}
        self.unsure_below = 0.5

    def __call__(self, faces):
        return self.function(faces)


@pytest.mark.parametrize('count', [0, 1, 3, 4, 5, 12])
def test_batches_are_whole_and_the_order_stays(count):
    batches = []

    def predictor(images):
        ages, genders = images
        batches.append(len(ages))
        return {
            'predicted_age': ages[:, 0, 0, 0] + np.float32(0.1),
            'female_probability': genders[:, 2, 2, 1] / np.float32(100),
        }

    faces: list = []
    for k in range(count):
        images = tuple(np.full((size, size, 3), 5 * k, np.uint8) for size in (2, 3))
        faces.append(({'path': f'{k}', 'face': 0} | SIZE, images))
        faces.append(({'path': f'{k} bad', 'error': 'bad'}, None))
    rows = list(face_rows.predict_rows(iter(faces), Fake(predictor)))
    assert [row['path'] for row in rows] == [x for k in range(count) for x in (f'{k}', f'{k} bad')]
    assert [row.get('age') for row in rows[::2]] == [round(5 * k + 0.1, 1) for k in range(count)]
    assert [row.get('female_probability') for row in rows[::2]] == [k / 20 for k in range(count)]
    genders = ['female' if k > 10 else 'male' for k in range(count)]
    assert [row['gender'] for row in rows[::2]] == genders
    assert batches == [4] * (count // 4) + [count % 4] * (count % 4 > 0)


def test_rows_without_a_face_are_not_held_back():
    faces = iter([({'path': 'bad', 'error': 'bad'}, None)] * 3)
    rows = face_rows.predict_rows(faces, Fake(lambda images: pytest.fail('predicted')))
    assert next(rows)['path'] == 'bad'
    assert len(list(faces)) == 2


@pytest.mark.parametrize('share', [0.1, 0.5, 1])
def test_going_on_after_any_row_puts_every_face_in_its_place(share):
    def predictor(images):
        place = np.arange(len(images[0]))
        return {
            'predicted_age': place + images[0][:, 0, 0, 0] / 100,
            'female_probability': 0 * place,
        }

    def found(first):
        rng = np.random.default_rng(0)
        for k in range(100):
            face = tuple(np.full((size, size, 3), k, np.uint8) for size in (2, 3))
            is_face = rng.random() < share
            if k >= first:
                yield {'path': str(k)} | SIZE, face if is_face else None

    rows = list(face_rows.predict_placed_rows(found(0), Fake(predictor)))
    assert {int(row['age']) for row, _ in rows if 'age' in row} == {0, 1, 2, 3}
    # Rows wait for a batch to fill, but not for ever.
    assert max(waiting for _, (_, waiting) in rows) == {0.1: 16, 0.5: 13, 1: 4}[share]
    for k, (_, place) in enumerate(rows):
        rest = list(face_rows.predict_placed_rows(found(k + 1), Fake(predictor), place))
        assert rest == rows[k + 1 :]


def test_a_gender_that_is_not_likely_enough_is_not_named():
    probability = np.array([0.3, 0.7, 0.71], np.float32)
    predictor = Fake(lambda images: {'female_probability': probability})
    predictor.unsure_below = 0.705
    faces = [({'path': str(k)} | SIZE, (np.zeros((2, 2, 3), np.uint8),)) for k in range(3)]
    genders = [row['gender'] for row in face_rows.predict_rows(faces, predictor)]
    assert genders == ['unsure', 'unsure', 'female']


def test_predictions_are_shown_in_a_line_and_say_what_else_there_is():
    rows = [
        {'path': '', 'image': k, 'face': 0, 'age': 20.0 + k, 'gender': 'male'}
        | {'female_probability': 0.25, 'age_width': 3.0}
        for k in range(4)
    ]
    predicted = {'predicted_age': (), 'female_probability': (), 'age_width': ()}
    found = face_rows.Predictions.from_rows([*rows, {'image': 4, 'error': 'no face'}], predicted)
    assert repr(found) == (
        '<Predictions: 20.0 years male (0.25 female), 21.0 years male (0.25 female), '
        '22.0 years male (0.25 female), and 1 more, errors: 1>'
    )
    assert repr(face_rows.Predictions.from_rows([], predicted)) == '<Predictions: no face>'
    some = [rows[0] | {'age': None}, rows[1] | {'female_probability': None, 'gender': ''}]
    some.append({'image': 2, 'face': 0})
    assert repr(face_rows.Predictions.from_rows(some, predicted)) == (
        '<Predictions: male (0.25 female), 21.0 years, no prediction>'
    )
    assert {'age', 'age_width', 'to_rows'} <= set(dir(found))
    assert [row['image'] for row in found.to_rows()] == [0, 1, 2, 3, 4]


def test_a_table_of_an_export_is_one_too(tmp_path):
    for head, is_one in (
        ('path,age,gender,female_probability,age_high\n', True),
        ('path,age,gender\n', False),
        ('', True),
    ):
        (tmp_path / 'x.csv').write_text(head)
        assert face_rows.is_table(tmp_path / 'x.csv') == is_one


def test_a_prediction_that_is_not_finite_is_an_error():
    columns = {
        'predicted_age': np.array([np.nan, 30]),
        'female_probability': np.array([0.5, 0.7]),
    }
    faces = [({'path': str(k)} | SIZE, (np.zeros((2, 2, 3), np.uint8),)) for k in range(2)]
    first, second = face_rows.predict_rows(faces, Fake(lambda images: columns))
    same = SIZE | {'unusual': ''}
    assert first == {'path': '0', 'error': 'the model predicts no finite number'} | same
    assert second == {'path': '1', 'age': 30, 'female_probability': 0.7, 'gender': 'female'} | same
