"""What a drawn face looks like: what age and gender do to it, and what they do not.

`Cues` depend on the labels, `Nuisances` never see them: pose, light, colour and ornament are
independent of age and gender by construction.
"""

import dataclasses

import numpy as np

GENDERS = ('male', 'female')
MIN_AGE, MAX_AGE = 1, 90

# How far a cue may be off its age, in years (standard deviation). Every cue draws its own error, so
# that a single one tells little and all of them together tell a few years.
_AGEING_SPREAD = 7.0
_CHILDHOOD_SPREAD = 0.15  # as a share of the age


_Colour = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Cues:
    """The visible effect of age and gender; each in [0, 1], from absent to strong."""

    childhood: float  # proportions: low and large eyes, small round jaw; 1 is an infant
    hair_volume: float
    hair_grey: float
    hairline_recession: float
    forehead_lines: float
    crows_feet: float
    nasolabial_folds: float
    eye_bags: float
    sagging: float
    age_spots: float
    nose_length: float
    eye_opening: float
    lip_fullness: float
    lip_redness: float
    brow_thickness: float
    brow_arch: float
    lashes: float
    jaw_squareness: float
    neck_width: float
    hair_length: float
    beard: float
    moustache: float
    earrings: float


@dataclasses.dataclass(frozen=True)
class Nuisances:
    """What varies whoever is drawn; lengths in half heads, angles in radians, colours RGB."""

    rotation: float
    shift: tuple[float, float]
    scale: float
    aspect: float
    yaw: float
    gaze: float
    smile: float
    brow_raise: float
    skin: _Colour
    hair: _Colour
    silver: float  # how bright the hair is once it is grey, 0..255
    iris: _Colour
    clothes: _Colour
    background: tuple[_Colour, _Colour]
    fringe: bool
    hat: bool
    glasses: bool
    accessory: _Colour
    brightness: float
    light_colour: _Colour
    light_gradient: tuple[float, float]
    blur: float
    noise: float
    jpeg_quality: int
    texture_seed: int


def _ramp(value: float, start: float, end: float) -> float:
    """Rises from 0 at `start` to 1 at `end`, in years."""
    return float(min(max((value - start) / (end - start), 0.0), 1.0))


def _share(value: float) -> float:
    return _ramp(value, 0.0, 1.0)


def sample_cues(rng: np.random.Generator, age: float, gender: int) -> Cues:
    """Draws the cues of one face.

    Args:
      rng: generator; the labels do not change how far it is advanced: equal seeds give faces
        that differ by their labels only.
      age: years.
      gender: index into `GENDERS`.

    Returns:
      The cues, each with an error of its own.
    """
    ageing = iter(age + _AGEING_SPREAD * rng.standard_normal(12))
    childhood = iter(age * np.exp(_CHILDHOOD_SPREAD * rng.standard_normal(3)))
    z = iter(rng.standard_normal(9))
    beard_style, moustache_style, makeup, dyed, earrings = rng.random(5)

    sign = 1.0 if GENDERS[gender] == 'male' else -1.0
    is_male = sign > 0
    grown = 0.7 + 0.3 * _ramp(age, 8, 18)  # how much of the adult difference is there
    puberty = _ramp(age + rng.standard_normal(), 14, 20)
    hair_volume = _ramp(next(childhood), -1.5, 4)
    grey = _ramp(next(ageing), 32, 78)
    recession = _ramp(next(ageing), 24, 85)
    return Cues(
        childhood=1 - _ramp(next(childhood), 0, 18),
        hair_volume=hair_volume,
        hair_grey=grey * (0.25 if dyed < 0.15 else 1.0),
        hairline_recession=_share(recession * (1.0 if is_male else 0.4)),
        forehead_lines=_ramp(next(ageing), 22, 80),
        crows_feet=_ramp(next(ageing), 28, 80),
        nasolabial_folds=_ramp(next(ageing), 15, 75),
        eye_bags=_ramp(next(ageing), 30, 85),
        sagging=_ramp(next(ageing), 35, 90),
        age_spots=_ramp(next(ageing), 50, 90),
        nose_length=_ramp(next(ageing), 0, 95),
        eye_opening=1 - _ramp(next(ageing), 15, 95),
        lip_fullness=_share(
            0.55 - 0.25 * sign * grown + 0.08 * next(z) - 0.3 * _ramp(next(ageing), 30, 90)
        ),
        lip_redness=_share(0.35 - 0.2 * sign * grown + 0.1 * next(z) + 0.3 * (makeup - 0.5)),
        brow_thickness=_share(0.5 + 0.3 * sign * grown + 0.13 * next(z)),
        brow_arch=_share(0.5 - 0.3 * sign * grown + 0.15 * next(z)),
        lashes=_share(0.45 - 0.35 * sign * grown + 0.15 * next(z)),
        jaw_squareness=_share(0.5 + 0.3 * sign * grown + 0.15 * next(z)),
        neck_width=_share(0.5 + 0.3 * sign * grown + 0.15 * next(z)),
        hair_length=min(_share(0.45 - 0.35 * sign + 0.2 * next(z)), 0.4 + _ramp(age, 1, 6)),
        beard=puberty * _share(beard_style * 2 - 0.6) if is_male else 0.0,
        moustache=puberty * _share(moustache_style * 2 - 0.8) if is_male else 0.0,
        earrings=float(earrings < (0.05 if is_male else 0.6)),
    )


_SKINS = ((255, 224, 200), (232, 184, 150), (190, 134, 98), (130, 84, 58))
_HAIRS = (
    (28, 22, 20),
    (70, 44, 28),
    (120, 76, 42),
    (160, 74, 36),
    (214, 176, 110),
    (232, 220, 196),
)
_IRISES = ((60, 36, 20), (110, 74, 40), (70, 110, 70), (80, 120, 170), (120, 130, 140))


def _between(rng: np.random.Generator, palette: tuple[_Colour, ...]) -> _Colour:
    """A colour between two neighbours of the palette, with a little variation."""
    low, share = divmod(rng.uniform(0, len(palette) - 1), 1)
    pair = zip(palette[int(low)], palette[int(low) + 1], rng.normal(0, 6, 3).tolist(), strict=True)
    red, green, blue = (min(max(a + (b - a) * share + error, 0), 255) for a, b, error in pair)
    return red, green, blue


def _colour(rng: np.random.Generator) -> _Colour:
    red, green, blue = rng.uniform(20, 235, 3).tolist()
    return red, green, blue


def sample_nuisances(rng: np.random.Generator) -> Nuisances:
    """Draws pose, light, colours and ornament of one face, independent of its labels."""
    light_angle = rng.uniform(0, 2 * np.pi)
    light = rng.uniform(0, 0.35)
    return Nuisances(
        rotation=float(np.deg2rad(rng.uniform(-15, 15))),
        shift=tuple(rng.uniform(-0.12, 0.12, 2).tolist()),
        scale=rng.uniform(0.33, 0.40),
        aspect=rng.uniform(0.94, 1.06),
        yaw=rng.uniform(-0.1, 0.1),
        gaze=rng.uniform(-1, 1),
        smile=rng.uniform(-0.3, 1),
        brow_raise=rng.uniform(-0.02, 0.05),
        skin=_between(rng, _SKINS),
        hair=_between(rng, _HAIRS),
        silver=rng.uniform(120, 215),
        iris=_between(rng, _IRISES),
        clothes=_colour(rng),
        background=(_colour(rng), _colour(rng)),
        fringe=bool(rng.random() < 0.15),
        hat=bool(rng.random() < 0.1),
        glasses=bool(rng.random() < 0.25),
        accessory=_colour(rng),
        brightness=rng.uniform(0.6, 1.15),
        light_colour=tuple(rng.uniform(0.9, 1.1, 3).tolist()),
        light_gradient=(float(light * np.cos(light_angle)), float(light * np.sin(light_angle))),
        blur=rng.uniform(0, 0.7),
        noise=rng.uniform(1, 7),
        jpeg_quality=int(rng.integers(70, 96)),
        texture_seed=int(rng.integers(2**63)),
    )
