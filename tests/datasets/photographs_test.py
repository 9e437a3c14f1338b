import cv2
import numpy as np
import pytest

from hybrid.datasets import photographs
from tests.two_datasets import cut_otherwise, face


def greys(contents):
    return [photographs.to_grey(content) for content in contents]


def agreement(one, other):
    return photographs.agreement(photographs.sharpened(one), photographs.sharpened(other))


def test_pictures_that_are_turned_shrunk_and_compressed_are_found_among_others():
    ours = greys(face(k) for k in range(20))
    cuts = [(3, 0.95), (-4, 1.05), (2, 0.92), (0, 1)]
    theirs = greys(face(k, seed=1) for k in range(12))
    theirs += greys(cut_otherwise(face(k), *cut) for k, cut in enumerate(cuts))
    described = [np.stack([photographs.describe(g) for g in of]) for of in (ours, theirs)]
    assert described[0].shape == (20, photographs.LENGTH)
    np.testing.assert_allclose(np.linalg.norm(described[0].astype(float), axis=1), 1, atol=2e-3)
    alike = list(photographs.alike(*photographs.whiten(*described)))
    same = [(i, j) for i, j in alike if agreement(ours[i], theirs[j]) >= photographs.SAME]
    assert same == [(k, 12 + k) for k in range(4)]


def test_light_and_colour_do_not_matter():
    image = cv2.imdecode(np.frombuffer(face(3), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    darker = cv2.imencode('.png', (0.6 * image + 20).astype(np.uint8))[1].tobytes()
    one, other = greys([face(3), darker])
    assert agreement(one, other) > 0.99
    assert agreement(one, one) == pytest.approx(1)


def test_pictures_of_nothing_agree_with_nothing():
    blank = np.full((photographs.SIDE, photographs.SIDE), 90, np.uint8)
    assert not photographs.describe(blank).any()
    picture = photographs.to_grey(face(0))
    for one, other in ((blank, blank), (blank, picture), (picture, blank)):
        assert agreement(one, other) < 0.1


def test_what_is_no_image_is_an_error():
    with pytest.raises(ValueError, match='cannot be decoded'):
        photographs.to_grey(b'no image')
