"""One drawn face: every cue is visible where it belongs, pose and light move the pixels."""

import dataclasses

import numpy as np
import pytest

from hybrid.datasets.synthetic_faces.appearance import Cues, Nuisances, sample_cues
from hybrid.datasets.synthetic_faces.drawing import draw_face

MALE, FEMALE = 0, 1

# A young man's face without anything on it, so that each cue can be switched on alone.
PLAIN_CUES = Cues(
    **{field.name: 0.0 for field in dataclasses.fields(Cues)}  # type: ignore[arg-type]
    | {'hair_volume': 1.0, 'eye_opening': 1.0, 'brow_thickness': 0.5, 'lip_fullness': 0.5}
    | {'jaw_squareness': 0.5, 'neck_width': 0.5, 'nose_length': 0.4, 'hair_length': 0.1}
)
# Upright, in the middle, evenly lit and without noise: 1 face unit is 0.35 * 96 = 33.6 pixels.
PLAIN_NUISANCES = Nuisances(
    rotation=0.0,
    shift=(0.0, 0.0),
    scale=0.35,
    aspect=1.0,
    yaw=0.0,
    gaze=0.0,
    smile=0.0,
    brow_raise=0.0,
    skin=(220.0, 170.0, 140.0),
    hair=(60.0, 30.0, 10.0),
    silver=200.0,
    iris=(60.0, 90.0, 160.0),
    clothes=(20.0, 40.0, 200.0),
    background=((30.0, 160.0, 60.0), (30.0, 160.0, 60.0)),
    fringe=False,
    hat=False,
    glasses=False,
    accessory=(200.0, 0.0, 200.0),
    brightness=1.0,
    light_colour=(1.0, 1.0, 1.0),
    light_gradient=(0.0, 0.0),
    blur=0.0,
    noise=0.0,
    jpeg_quality=95,
    texture_seed=1,
)


def draw_plain(**cues: float) -> np.ndarray:
    return draw_face(dataclasses.replace(PLAIN_CUES, **cues), PLAIN_NUISANCES, 96)


def change(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.abs(image.astype(int) - other.astype(int)).max(-1)


@pytest.mark.parametrize('name', [field.name for field in dataclasses.fields(Cues)])
def test_every_cue_is_visible_alone(name):
    without, full = draw_plain(**{name: 0.0}), draw_plain(**{name: 1.0})
    visible = (change(without, full) > 25).sum()
    assert visible >= 20, f'{name} changes {visible} pixels of 96 x 96'
    half = draw_plain(**{name: 0.5})
    if name != 'earrings':  # there or not
        assert (change(half, full) > 12).sum() >= 8


@pytest.mark.parametrize(
    ('name', 'top', 'bottom', 'left', 'right'),  # in face units
    [
        ('forehead_lines', -0.85, -0.15, -0.6, 0.6),
        ('crows_feet', -0.3, 0.3, -0.8, 0.8),
        ('nasolabial_folds', 0.2, 0.9, -0.5, 0.5),
        ('eye_bags', 0.0, 0.4, -0.6, 0.6),
        ('hair_grey', -1.3, 0.5, -1.0, 1.0),
        ('beard', 0.1, 1.2, -0.8, 0.8),
        ('moustache', 0.2, 0.8, -0.4, 0.4),
        ('lip_redness', 0.2, 0.9, -0.4, 0.4),
        ('brow_thickness', -0.4, 0.0, -0.7, 0.7),
    ],
)
def test_cue_changes_its_own_region(name, top, bottom, left, right):
    changed = change(draw_plain(**{name: 0.0}), draw_plain(**{name: 1.0})) > 2
    rows, columns = (np.nonzero(changed.any(axis))[0] for axis in (1, 0))
    to_face = lambda pixel: (pixel + 0.5 - 48) / (0.35 * 96)  # noqa: E731
    assert to_face(rows.min()) >= top
    assert to_face(rows.max()) <= bottom
    assert to_face(columns.min()) >= left
    assert to_face(columns.max()) <= right


def test_childhood_lowers_the_eyes_and_widens_them():
    def eyes(image):
        face = image[:70].astype(int)  # below are the clothes, blue as well
        iris = (face[..., 2] > face[..., 0] + 40).nonzero()
        return iris[0].mean(), len(iris[0])

    adult_row, adult_area = eyes(draw_plain(childhood=0.0))
    child_row, child_area = eyes(draw_plain(childhood=1.0))
    assert adult_row == pytest.approx(47.5, abs=1.0)
    assert child_row - adult_row == pytest.approx(0.22 * 0.35 * 96, abs=1.0)
    assert child_area > 1.3 * adult_area


def test_pose_light_and_colour_move_the_pixels():
    plain = draw_plain()

    def redraw(**nuisances):
        return draw_face(PLAIN_CUES, dataclasses.replace(PLAIN_NUISANCES, **nuisances), 96)

    shifted = redraw(shift=(10 / 33.6, 5 / 33.6))
    assert change(shifted[45:75, 30:70], plain[40:70, 20:60]).max() <= 12
    dark = redraw(brightness=0.5)
    np.testing.assert_allclose(dark, plain * 0.5, atol=1)
    quarter = redraw(rotation=np.pi / 2)  # clockwise on the screen
    inner = slice(24, 72)
    assert (change(quarter, np.rot90(plain, -1))[inner, inner] > 30).mean() < 0.02
    assert (change(quarter, np.rot90(plain, 1))[inner, inner] > 30).mean() > 0.1
    light = redraw(light_gradient=(0.3, 0.0))
    assert light[40:56, :10].mean() < 0.8 * plain[40:56, :10].mean()
    assert redraw(noise=6.0).astype(float).std() > plain.std()


def test_age_and_gender_change_the_face_when_nothing_else_does():
    rng = np.random.default_rng(5)
    seeds = rng.integers(2**32, size=40)

    def mean_face(age, gender):
        faces = [
            draw_face(sample_cues(np.random.default_rng(seed), age, gender), PLAIN_NUISANCES, 96)
            for seed in seeds
        ]
        return np.mean(faces, 0)

    man, woman, old_man = mean_face(30, MALE), mean_face(30, FEMALE), mean_face(80, MALE)

    def pixel(image, x, y):
        return image[round(48 + y * 33.6), round(48 + x * 33.6)]

    # Hair beside the neck: the woman's is brown, behind the man's is green background.
    assert pixel(man, 0.75, 0.75)[1] > 130
    assert pixel(woman, 0.75, 0.75)[1] < 70
    # Lips are redder.
    redness = lambda image: np.ptp(image[60:76, 40:57].mean((0, 1)))  # noqa: E731
    assert redness(woman) > redness(man) + 5
    # A forehead full of lines is rougher than a smooth one.
    forehead = lambda image: np.abs(np.diff(image[22:37, 42:54].mean((1, 2)))).mean()  # noqa: E731
    assert forehead(old_man) > 2 * forehead(man)
    # Hair at the temple has turned grey.
    assert pixel(old_man, 0.78, -0.25).mean() > pixel(man, 0.78, -0.25).mean() + 30
