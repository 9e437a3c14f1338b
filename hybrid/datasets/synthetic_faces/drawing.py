"""Draws one face, part by part, in the coordinates of `canvas.Canvas`."""

import cv2
import numpy as np

from hybrid.datasets.synthetic_faces.appearance import Cues, Nuisances
from hybrid.datasets.synthetic_faces.canvas import Canvas, photograph

_SUPERSAMPLING = 2
_HALF_TURN = np.linspace(0, np.pi, 17)
_UPPER_HALF = np.stack([-np.cos(_HALF_TURN), -np.sin(_HALF_TURN)], 1)  # left to right
_LOWER_HALF = np.cos(_HALF_TURN), np.sin(_HALF_TURN)  # right to left
_FULL_TURN = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_FULL_TURN), np.sin(_FULL_TURN)], 1)
_ARC = np.stack([np.linspace(-1, 1, 9), 1 - np.linspace(-1, 1, 9) ** 2], 1)
_SIDES = np.array([[[-1.0, 1.0]], [[1.0, 1.0]]])

_WHITE = np.array([245.0, 242.0, 238.0])
_BLACK = np.array([15.0, 15.0, 15.0])
_BLUSH = np.array([225.0, 95.0, 95.0])
_LIP_RED = np.array([185.0, 40.0, 60.0])
_GOLD = np.array([240.0, 205.0, 90.0])


def _mix(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    return a + (b - a) * share


def _ellipse(x: float, y: float, half_width: float, half_height: float) -> np.ndarray:
    return _CIRCLE * (half_width, half_height) + (x, y)


def _arc(half: float, y: float, bend: float) -> np.ndarray:
    """A shallow arc from (-half, y) to (half, y) whose middle is `bend` lower; [9, 2]."""
    return _ARC * (half, bend) + (0, y)


def _pair(shape: np.ndarray, x: float = 0.0, y: float = 0.0) -> np.ndarray:
    """The shape [P, 2], moved by (x, y), and its mirror image on the other side; [2, P, 2]."""
    return (shape + np.array([x, y])) * _SIDES


class _Face:
    """The parts of one face, drawn from back to front."""

    def __init__(self, cues: Cues, nuisances: Nuisances, size: int, rng: np.random.Generator):
        self.cues, self.nuisances, self.rng = cues, nuisances, rng
        self.canvas = Canvas(size, nuisances)
        child = cues.childhood
        self.half_width = 0.74 + 0.06 * child
        self.chin = 0.98 - 0.2 * child + 0.04 * cues.sagging
        self.eye_y = 0.22 * child
        self.eye_x = 0.31
        self.nose_y = self.eye_y + 0.22 + 0.2 * cues.nose_length
        self.mouth_y = self.nose_y + 0.55 * (self.chin - self.nose_y) - 0.07
        self.turn = np.array([nuisances.yaw, 0.0])  # the features move, the head's outline does not
        self.skin = np.asarray(nuisances.skin)
        self.silver = np.full(3, nuisances.silver)
        self.hair = _mix(np.asarray(nuisances.hair), self.silver, 0.9 * cues.hair_grey)
        self.bald = max(0.0, cues.hairline_recession - 0.45) / 0.55
        self.crown = 1.0 + 0.16 * cues.hair_volume * (1 - self.bald)

    def shade(self, share: float) -> np.ndarray:
        """Skin in shadow: the colour of folds and lines."""
        return self.skin * (1 - share)

    def draw(self) -> np.ndarray:
        self.background()
        self.back_hair()
        self.neck_and_clothes()
        self.head()
        self.skin_of_age()
        self.beard()
        self.mouth()
        self.nose()
        self.eyes()
        self.brows()
        self.front_hair()
        self.ornaments()
        return self.canvas.image

    def background(self) -> None:
        first, second = (np.asarray(colour) for colour in self.nuisances.background)
        self.canvas.fill(first)
        for _ in range(3):
            centre, radii = self.rng.uniform(-1.8, 1.8, 2), self.rng.uniform(0.2, 1.2, 2)
            self.canvas.polygons(_ellipse(*centre, *radii), _mix(first, second, self.rng.random()))

    def back_hair(self) -> None:
        length = self.cues.hair_length
        outer = self.half_width * 1.04 + 0.1 * self.cues.hair_volume
        end = -0.05 + 1.4 * length
        top = _UPPER_HALF * (outer, self.crown)
        if self.bald > 0.3:  # nothing above the bare crown but at the sides
            top = np.array([[-outer, -0.35], [-0.6, -0.5], [0.6, -0.5], [outer, -0.35]])
        flare = outer * (1.0 + 0.1 * length)
        bottom = np.array([[flare, end * 0.7], [flare * 0.85, end], [-flare * 0.85, end]])
        self.canvas.polygons(np.concatenate([top, bottom, [[-flare, end * 0.7]]]), self.hair * 0.82)

    def neck_and_clothes(self) -> None:
        half = 0.26 + 0.22 * self.cues.neck_width - 0.06 * self.cues.childhood
        shoulder = 1.0 + 0.25 * self.cues.neck_width - 0.25 * self.cues.childhood
        neck = np.array([[-half, 0.4], [half, 0.4], [half * 1.1, 1.5], [-half * 1.1, 1.5]])
        self.canvas.polygons(neck, self.shade(0.22))
        top = self.chin + 0.3
        clothes = np.array([[-half, top], [0, top + 0.15], [half, top], [shoulder, top + 0.3]])
        ends = np.array([[shoulder + 0.3, 3.5], [-shoulder - 0.3, 3.5], [-shoulder, top + 0.3]])
        self.canvas.polygons(np.concatenate([clothes, ends]), np.asarray(self.nuisances.clothes))

    def outline(self) -> np.ndarray:
        """The head from the left temple over the crown and round the chin; [N, 2]."""
        upper = _UPPER_HALF * (self.half_width, 1.0)
        cos, sin = _LOWER_HALF
        squareness = 1.05 - 0.55 * self.cues.jaw_squareness
        x = self.half_width * np.sign(cos) * np.abs(cos) ** squareness
        x *= 1 + 0.16 * self.cues.sagging * np.exp(-(((sin - 0.8) / 0.15) ** 2))
        return np.concatenate([upper, np.stack([x, self.chin * sin], 1)[1:-1]])

    def head(self) -> None:
        covered = self.cues.hair_length > 0.45
        if not covered:
            ear = _ellipse(self.half_width, self.eye_y + 0.1, 0.1, 0.19)
            self.canvas.polygons(_pair(ear), self.shade(0.1))
        self.canvas.polygons(self.outline(), self.skin)
        if covered:
            lock = _ellipse(self.half_width * 1.02, 0.1, 0.12, 0.5)
            self.canvas.polygons(_pair(lock), self.hair * 0.9)

    def skin_of_age(self) -> None:
        cues, canvas, eye_y, turn = self.cues, self.canvas, self.eye_y, self.turn
        if cues.childhood > 0.3:  # rosy cheeks
            blush = _ellipse(0.42, eye_y + 0.3, 0.13, 0.1)
            canvas.polygons(_pair(blush) + turn, _mix(self.skin, _BLUSH, 0.3 * cues.childhood))
        places = self.rng.uniform([-0.55, -0.7], [0.55, 0.5], (7, 2))
        for x, y in places[: round(7 * cues.age_spots)]:
            canvas.polygons(_ellipse(x, y, 0.035, 0.03), self.shade(0.3))
        for index in range(4):  # each line appears after the one below it, and deepens
            depth = min(max(cues.forehead_lines * 4 - index, 0.0), 1.0)
            if depth > 0:
                line = _arc(0.28 + 0.14 * depth, eye_y - 0.34 - 0.1 * index, -0.04)
                canvas.lines(line + turn, self.shade(0.4 * depth), 0.03)
        if cues.crows_feet > 0:
            x, reach = self.eye_x + 0.19, 0.06 + 0.12 * cues.crows_feet
            ends = [np.array([[x, eye_y], [x + reach, eye_y + reach * k]]) for k in (-0.6, 0, 0.6)]
            feet = np.concatenate([_pair(end) for end in ends])
            canvas.lines(feet + turn, self.shade(0.45 * cues.crows_feet), 0.025)
        if cues.nasolabial_folds > 0:  # from the wing of the nose to the corner of the mouth
            start = np.array([0.16, self.nose_y - 0.04])
            down = self.mouth_y - self.nose_y
            way = np.array([[0, 0], [0.13, down / 2], [0.18, down + 0.1]])
            fold = start + cues.nasolabial_folds * way
            canvas.lines(_pair(fold) + turn, self.shade(0.45 * cues.nasolabial_folds), 0.035)
        if cues.sagging > 0.15:  # from the corner of the mouth down
            y = self.mouth_y + 0.07
            line = np.array([[0.27, y], [0.32, y + 0.2 * cues.sagging]])
            canvas.lines(_pair(line) + turn, self.shade(0.4 * cues.sagging), 0.03)
        if cues.eye_bags > 0:
            bags = _pair(_arc(0.14, 0.13, 0.08), self.eye_x, eye_y) + turn
            canvas.polygons(bags, self.shade(0.22 * cues.eye_bags))
            canvas.lines(bags, self.shade(0.42 * cues.eye_bags), 0.025)

    def beard(self) -> None:
        if self.cues.beard > 0.05:
            side = self.half_width * 0.98
            inner = np.array([[-0.35, self.mouth_y - 0.1], [0.35, self.mouth_y - 0.1]])
            lower = self.outline()[18:-1]
            lower = lower[lower[:, 1] > 0.2]
            points = np.concatenate([lower, [[-side, 0.25]], inner, [[side, 0.25]]])
            self.canvas.polygons(
                points, _mix(self.skin, self.hair * 0.9, 0.35 + 0.5 * self.cues.beard)
            )
            lips = _ellipse(0, self.mouth_y + 0.02, 0.3, 0.13)
            self.canvas.polygons(lips + self.turn, self.shade(0.05))
        if self.cues.moustache > 0.05:
            y = (self.nose_y + self.mouth_y) / 2 + 0.03
            upper, lower = _arc(0.24, y + 0.05, -0.1), _arc(-0.24, y + 0.05, 0.0)
            colour = _mix(self.skin, self.hair * 0.85, 0.4 + 0.6 * self.cues.moustache)
            self.canvas.polygons(np.concatenate([upper, lower]) + self.turn, colour)

    def mouth(self) -> None:
        fullness, smile = self.cues.lip_fullness, self.nuisances.smile
        half = 0.2 + 0.05 * max(smile, 0) - 0.03 * self.cues.childhood
        colour = _mix(self.shade(0.22), _LIP_RED, self.cues.lip_redness)
        middle = _arc(half, self.mouth_y - 0.06 * smile, 0.09 * smile)
        upper = _arc(half, self.mouth_y - 0.06 * smile, 0.09 * smile - 0.02 - 0.1 * fullness)
        lower = _arc(half, self.mouth_y - 0.06 * smile, 0.09 * smile + 0.03 + 0.14 * fullness)
        self.canvas.polygons(np.concatenate([upper, lower[::-1]]) + self.turn, colour)
        self.canvas.lines(middle + self.turn, colour * 0.5, 0.025)

    def nose(self) -> None:
        width = 0.1 + 0.05 * self.cues.nose_length
        y = self.nose_y
        bridge = np.array([[0.05, self.eye_y + 0.02], [0.07 - self.nuisances.yaw, y]])
        tip = np.array([[-width, y - 0.03], [-0.04, y + 0.03], [0.04, y + 0.03], [width, y - 0.03]])
        self.canvas.lines(bridge + self.turn, self.shade(0.3), 0.03)
        self.canvas.lines(tip + self.turn, self.shade(0.3), 0.03)

    def eyes(self) -> None:
        cues, canvas = self.cues, self.canvas
        width = 0.15 + 0.05 * cues.childhood
        height = 0.045 + 0.06 * cues.eye_opening + 0.03 * cues.childhood
        place = self.eye_x, self.eye_y
        canvas.polygons(_pair(_CIRCLE * (width, height), *place) + self.turn, _WHITE)
        iris = _CIRCLE * (0.075 + 0.025 * cues.childhood)
        iris[:, 1] = np.clip(iris[:, 1], -height, height)  # the lids cover the rest
        look = np.array([self.nuisances.yaw + 0.035 * self.nuisances.gaze, 0])
        canvas.polygons(_pair(iris, *place) + look, np.asarray(self.nuisances.iris))
        canvas.polygons(_pair(iris * 0.5, *place) + look, _BLACK)
        lids = _pair(_arc(width, 0, -height * 1.05), *place) + self.turn
        canvas.lines(lids, self.shade(0.5 + 0.35 * cues.lashes), 0.02 + 0.035 * cues.lashes)
        if cues.lashes > 0.35:
            reach = 0.12 * cues.lashes
            lash = np.array([[width * 0.9, -0.02], [width + reach, -0.02 - reach]])
            canvas.lines(_pair(lash, *place) + self.turn, _BLACK, 0.03)

    def brows(self) -> None:
        cues = self.cues
        y = self.eye_y - 0.2 - 0.05 * cues.brow_arch - self.nuisances.brow_raise
        arch = 0.1 * cues.brow_arch
        brow = np.array([[-0.16, 0.03], [0.04, -arch], [0.18, 0.06 - 0.5 * arch]])
        colour = _mix(np.asarray(self.nuisances.hair) * 0.6, self.silver, 0.7 * cues.hair_grey)
        brows = _pair(brow, self.eye_x, y) + self.turn
        self.canvas.lines(brows, colour, 0.02 + 0.075 * cues.brow_thickness)

    def front_hair(self) -> None:
        cues = self.cues
        half_width = self.half_width
        outer = _UPPER_HALF * (half_width * 1.03 + 0.05 * cues.hair_volume, self.crown)
        # The hairline: flat across the forehead, first receding at the temples, then everywhere.
        u = np.linspace(1, -1, 17)
        height = 0.62 - 0.1 * cues.childhood + 0.5 * cues.hairline_recession
        if self.nuisances.fringe and cues.hairline_recession < 0.4:
            height = 0.4 - self.eye_y * 0.6
        temples = 0.5 * cues.hairline_recession * np.exp(-(((np.abs(u) - 0.6) / 0.2) ** 2))
        line = height * (1 - u**6) ** 0.5 + temples
        head = np.sqrt(1 - (u * 0.999) ** 2)
        inner = np.stack([u * half_width, -np.minimum(line, head)], 1)
        order = self.rng.permutation(np.arange(2, 15))[:8]
        order = order[(line < head)[16 - order]]
        if self.bald < 0.95:
            self.canvas.polygons(np.concatenate([outer, inner]), self.hair)
            strands = np.stack([outer[order], inner[16 - order]], 1)
            lighter = _mix(self.hair * 1.1, _WHITE, 0.6 * cues.hair_grey)
            for colour, some in ((self.hair * 0.8, strands[::2]), (lighter, strands[1::2])):
                if len(some):
                    self.canvas.lines(some, colour, 0.02)

    def ornaments(self) -> None:
        colour = np.asarray(self.nuisances.accessory)
        if self.cues.earrings:
            earring = _ellipse(self.half_width + 0.03, self.eye_y + 0.36, 0.06, 0.07)
            self.canvas.polygons(_pair(earring), _GOLD)
        if self.nuisances.glasses:
            rims = _pair(_ellipse(self.eye_x, self.eye_y + 0.02, 0.23, 0.19)) + self.turn
            self.canvas.lines(rims, colour * 0.6, 0.04, closed=True)
            bridge = np.array([[-0.08, self.eye_y], [0.08, self.eye_y]])
            self.canvas.lines(bridge + self.turn, colour * 0.6, 0.04)
        if self.nuisances.hat:
            half = self.half_width + 0.1
            hat = _arc(half, -0.62, -0.75)
            self.canvas.polygons(hat, colour)
            brim = np.array(
                [[-half - 0.1, -0.66], [half + 0.1, -0.66], [half, -0.54], [-half, -0.54]]
            )
            self.canvas.polygons(brim, colour * 0.7)


def draw_face(cues: Cues, nuisances: Nuisances, image_size: int) -> np.ndarray:
    """Draws one face.

    Args:
      cues: what age and gender do to it.
      nuisances: everything else; `nuisances.texture_seed` decides background, spots and noise.
      image_size: side S of the image in pixels.

    Returns:
      RGB image, uint8 `[S, S, 3]`; the same arguments always give the same pixels.
    """
    rng = np.random.default_rng(nuisances.texture_seed)
    large = _Face(cues, nuisances, image_size * _SUPERSAMPLING, rng).draw()
    image = cv2.resize(large, (image_size, image_size), interpolation=cv2.INTER_AREA)
    return photograph(image, nuisances, rng)
