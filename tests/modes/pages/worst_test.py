import io

import cv2
import numpy as np
from PIL import Image

from hybrid.data.parts import Part
from hybrid.default_config import get_config
from hybrid.modes import suspects
from hybrid.modes.pages import worst
from hybrid.modes.pages.run_record import Evaluation
from hybrid.scores import plots
from hybrid.scores.suspects import Suspect
from tests.datasets.face_csv_test import write_faces
from tests.utkface_archive import prepare


def test_faces_of_16_bits_a_channel_are_shown_in_their_colours(tmp_path, monkeypatch):
    rgb = np.full((48, 48, 3), (30000, 40000, 50000), np.uint16)
    rgb[:16] = 8000
    content = cv2.imencode('.png', rgb[..., ::-1])[1].tobytes()
    folder = write_faces(
        tmp_path / 'mine', [(content, 'deep.png', 30, 'm', 'test')], 'path,age,gender,split'
    )
    builder = prepare(folder, tmp_path / 'data', 'face_csv')
    name = builder.info.full_name

    data = get_config().data
    data.dataset, data.data_dir = 'face_csv', str(tmp_path / 'data')
    evaluation = Evaluation(tmp_path, name, 'test', True, {}, {})
    faces = worst.read_faces(evaluation, ['deep.png', 'none.png'], [data])
    assert faces is not None
    assert list(faces) == ['deep.png']
    shown = np.asarray(Image.open(io.BytesIO(faces['deep.png'])), float)
    assert np.abs(shown - rgb / 257).mean() < 2

    drawn = []
    monkeypatch.setattr(plots, 'draw_faces', lambda images, *_: drawn.extend(images))
    part = Part('face_csv', builder, {'test': {'id': np.array(['deep.png'])}}, {})
    suspects.write([Suspect('deep.png', 'age', '30', '60', 5.0)], part, tmp_path)
    (image,) = drawn
    np.testing.assert_allclose(image, rgb / 257, atol=1)
