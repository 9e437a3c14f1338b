import cv2
import numpy as np

from hybrid.photos import quality
from hybrid.photos.alignment import TEMPLATE

FRONTAL = 100 * TEMPLATE


def face(seed=0):
    """A picture of 64 x 64 pixels with coarse and fine details, some bright and some dark."""
    rng = np.random.default_rng(seed)
    picture = np.full((64, 64, 3), 0.0)
    for side, height in ((4, 60), (8, 30), (16, 15), (32, 8), (64, 4)):
        coarse = rng.normal(0, height, (side, side, 3))
        picture += cv2.resize(coarse, (64, 64), interpolation=cv2.INTER_CUBIC)
    return np.clip(picture + rng.uniform(90, 160), 0, 255).astype(np.uint8)


KNOWN = quality.ranges([quality.measure(face(seed)) for seed in range(40)])


def unusual(picture, width=64, landmarks=FRONTAL):
    return quality.unusual(picture, KNOWN, width, landmarks)


def test_measures_by_hand():
    halves = np.zeros((8, 8, 3), np.uint8)
    halves[:, 4:] = 200
    measured = quality.measure(halves)
    assert (measured['brightness'], measured['contrast']) == (100, 100)
    flat = quality.measure(np.full((8, 8, 3), 7, np.uint8))
    assert flat == {'brightness': 7, 'contrast': 0, 'sharpness': 0}


def test_sharpness_falls_with_blur_and_does_not_depend_on_size():
    values = [
        quality.measure(cv2.GaussianBlur(face(7), (0, 0), sigma))['sharpness']
        for sigma in (0.5, 1, 2, 4)
    ]
    assert values == sorted(values, reverse=True)
    assert values[0] - values[-1] > 1
    larger = cv2.resize(face(7), (128, 128), interpolation=cv2.INTER_CUBIC)
    difference = quality.measure(larger)['sharpness'] - quality.measure(face(7))['sharpness']
    assert abs(difference) < 0.2


def test_ranges_hold_99_of_100():
    measured = [{'brightness': float(value)} for value in range(1001)]
    assert quality.ranges(measured) == {'brightness': [5.0, 995.0]}
    assert quality.ranges([]) == {}


def test_what_is_far_from_the_training_is_named():
    assert unusual(face(99)) == []
    assert 'dark' in unusual(face(99) // 6)
    assert 'flat' in unusual(face(99) // 12 + 100)
    assert 'overexposed' in unusual(np.minimum(face(99), 135) + 120)
    assert unusual(cv2.GaussianBlur(face(99), (0, 0), 2)) == ['blurred']
    noise = np.random.default_rng(0).normal(0, 25, (64, 64, 3))
    sharp = np.clip(face(99) + noise, 0, 255).astype(np.uint8)
    assert unusual(sharp) == ['sharper than in training']
    assert unusual(face(99), width=21) == ['tiny']
    assert unusual(face(99), width=22) == []
    # Of a run that began before there were ranges, only what needs none is known.
    assert quality.unusual(face(99) // 6, {}, 10, None) == ['tiny']


def test_a_head_that_looks_away_is_named_however_it_is_tilted():
    landmarks = FRONTAL.copy()
    landmarks[2] = landmarks[0] + [2, 20]
    assert unusual(face(99), landmarks=landmarks) == ['turned away']
    assert unusual(face(99), landmarks=landmarks[:, ::-1] * [1, -1]) == ['turned away']
    assert unusual(face(99), landmarks=FRONTAL[:, ::-1] * [1, -1]) == []
    assert unusual(face(99), landmarks=None) == []
