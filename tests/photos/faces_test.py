import numpy as np

from hybrid.datasets.images import resize
from hybrid.photos.faces import read_faces
from tests.random_workdir import face


def test_of_a_crop_that_is_not_square_the_middle_is_seen(tmp_path):
    image = face(5, (64, 48))
    image.save(tmp_path / 'x.png')
    ((row, cuts),) = read_faces(tmp_path / 'x.png', None, [36, 20])
    assert (row['width'], row['height']) == (64, 48)
    assert cuts is not None
    cut, small = cuts
    np.testing.assert_array_equal(small, resize(np.asarray(image), 20))
    np.testing.assert_array_equal(cut, resize(np.asarray(image), 36))
