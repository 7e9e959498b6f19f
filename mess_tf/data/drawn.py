"""A data set drawn by ourselves: shapes on textures, from easy to hard; no files.

Every image has a difficulty in 0..1, drawn evenly. Easy: a few large shapes in their
class's colour on a calm ground, which a few layers can tell apart. Hard: many small
and some large shapes, low in contrast, with a texture of the ground, among clutter,
under noise and blur. Up to six in ten of them have any colour; there the outline alone
tells the class, and an outline is only seen by a network that sees the whole shape.
Image and difficulty depend on (seed, split, index) alone.
"""

from __future__ import annotations

import zlib

import cv2
import numpy as np

from mess_tf.core.errors import MessError
from mess_tf.data.sources import BY_IMAGE, IGNORE_LABEL, Sample, group_names

CLASSES = ("background", "disc", "box", "triangle", "ring", "star")
PALETTE = np.array(
    [[40, 44, 52], [224, 78, 72], [70, 140, 224], [92, 186, 98], [240, 188, 60],
     [168, 100, 214]],
    np.uint8,
)  # fmt: skip

SMALLEST_SIDE = 32
_SHAPES = len(CLASSES) - 1
_RING_HOLE = 0.55
_STAR_DENT = 0.42
# cv2.fillPoly takes fixed-point coordinates: this many bits after the point.
_SHIFT = 4


class DrawnSource:
    """One split of the drawn data set; a ``Source``.

    Args:
        split: any name; another split is another set of images.
        count: images in it.
        size: (height, width) in pixels.
        seed: another seed is another data set.

    Raises:
        MessError: no images, or sides below ``SMALLEST_SIDE``.
    """

    classes = CLASSES
    ignore_label = IGNORE_LABEL
    palette = PALETTE

    def __init__(
        self, split: str, *, count: int, size: tuple[int, int], seed: int
    ) -> None:
        if count < 1:
            raise MessError(f"The split {split!r} has {count} images; use 1 or more.")
        if min(size) < SMALLEST_SIDE:
            raise MessError(
                f"Drawn images of {size[0]}x{size[1]} are too small; the sides must be"
                f" {SMALLEST_SIDE} or more."
            )
        self.split = split
        self.size = (int(size[0]), int(size[1]))
        self.seed = seed
        self.names = tuple(f"{split}_{i:05d}" for i in range(count))
        self.groups = group_names(self.names, BY_IMAGE, split)

    def __len__(self) -> int:
        return len(self.names)

    def difficulty(self, index: int) -> float:
        """How hard the image is, 0 (easy) to 1 (hard)."""
        return float(self._rng(index).random())

    def load(self, index: int) -> Sample:
        """Draws one image; see ``Source.load``."""
        rng = self._rng(index)
        return draw(rng, *self.size, difficulty=float(rng.random()))

    def _rng(self, index: int) -> np.random.Generator:
        # crc32, because Python's hash of a text differs from process to process.
        key = (zlib.crc32(self.split.encode()), index)
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))


def open_drawn(
    split: str,
    *,
    count: int,
    size: int | tuple[int, int] = 128,
    seed: int = 0,
) -> DrawnSource:
    """Opens a split of the drawn data set; see ``DrawnSource``.

    ``size`` is (height, width) in pixels, or one number for both.
    """
    sides = (size, size) if isinstance(size, int) else size
    return DrawnSource(split, count=count, size=sides, seed=seed)


def draw(
    rng: np.random.Generator, height: int, width: int, difficulty: float
) -> Sample:
    """Draws one image of the given difficulty (0..1)."""
    ids, kinds, colours = _place_shapes(rng, height, width, difficulty)
    classes = np.concatenate([[0], kinds + 1]).astype(np.uint8)
    labels = classes[ids]
    texture = _texture(rng, height, width)
    # On hard images the texture runs through the shapes as through the ground.
    amplitude = np.concatenate(
        [
            [10 + 38 * difficulty * rng.random()],
            48 * difficulty * rng.random(len(kinds)),
        ]
    ).astype(np.float32)
    image = np.take(colours, ids, axis=0)
    image += _three(amplitude[ids] * texture)
    _draw_clutter(rng, image, ids, difficulty)
    image *= _three(_light(rng, height, width, difficulty))
    sigma = 0.5 + 0.9 * difficulty * rng.random()
    image = cv2.GaussianBlur(image, (0, 0), sigma)
    noise = rng.standard_normal(image.shape, np.float32)
    noise *= np.float32(2 + 24 * difficulty * rng.random())
    image += noise
    return Sample(np.clip(image, 0, 255).astype(np.uint8), labels)


def _place_shapes(
    rng: np.random.Generator, height: int, width: int, difficulty: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which shape every pixel shows.

    Returns:
        uint8 array of shape (height, width): 0 = ground, k = shape k (1-based);
        int array of shape (shapes,): kind of each shape, 0-based;
        float32 array of shape (shapes + 1, 3): colour of ground and shapes.
    """
    side = min(height, width)
    count = 2 + round(rng.random() * (1 + 10 * difficulty))
    kinds = rng.integers(0, _SHAPES, count)
    # Radii spread evenly over octaves: from large only to everything, mostly small.
    largest = 0.27 - 0.05 * difficulty
    smallest = 0.20 - 0.155 * difficulty
    radii = side * smallest * (largest / smallest) ** rng.random(count)
    order = np.argsort(-radii)  # the small ones lie on top and stay visible
    kinds, radii = kinds[order], radii[order]
    centres = rng.random((count, 2)) * (width, height)
    angles = rng.random(count) * 2 * np.pi
    stretch = 1 + 0.35 * difficulty * (rng.random(count) - 0.5)
    ids = np.zeros((height, width), np.uint8)
    for k in range(count):
        outlines = _outlines(int(kinds[k]), radii[k], angles[k], stretch[k])
        points = [
            np.round((o + centres[k] - 0.5) * (1 << _SHIFT)).astype(np.int32)
            for o in outlines
        ]
        cv2.fillPoly(ids, points, k + 1, shift=_SHIFT)
    return ids, kinds, _colours(rng, kinds, difficulty)


def _outlines(
    kind: int, radius: float, angle: float, stretch: float
) -> list[np.ndarray]:
    """Contours of a shape about the origin, (x, y) in pixels; a ring has two."""
    name = CLASSES[kind + 1]
    if name in ("disc", "ring"):
        corners, dents = 28, None
    elif name == "star":
        corners, dents = 10, _STAR_DENT
    else:
        corners, dents = {"box": 4, "triangle": 3}[name], None
    turn = angle + np.arange(corners) * (2 * np.pi / corners)
    reach = np.full(corners, radius)
    if dents is not None:
        reach[1::2] *= dents
    # Stretched along the image's axes: area stays, and all kinds keep their look.
    points = np.stack([np.cos(turn) * stretch, np.sin(turn) / stretch], axis=1)
    outer = points * reach[:, None]
    return [outer, outer * _RING_HOLE] if name == "ring" else [outer]


def _colours(
    rng: np.random.Generator, kinds: np.ndarray, difficulty: float
) -> np.ndarray:
    """float32 array of shape (shapes + 1, 3): a ground and the shapes upon it.

    A shape's colour is its class's on easy images and often any on hard ones, where
    it also lies close to the ground's.
    """
    count = len(kinds)
    # Grey on easy images, so that no class's colour is also the ground's.
    ground = 60 + 130 * rng.random() + 110 * difficulty * (rng.random(3) - 0.5)
    telling = rng.random(count) > difficulty * 0.6
    of_class = PALETTE[kinds + 1] + 18 * (rng.random((count, 3)) - 0.5)
    direction = rng.standard_normal((count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    contrast = 130 - 85 * difficulty * rng.random(count)
    foreign = ground + direction * contrast[:, None]
    shapes = np.where(telling[:, None], of_class, foreign)
    return np.clip(np.vstack([ground, shapes]), 8, 247).astype(np.float32)


def _texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """float32 array of shape (height, width), about -1..1: blotches and stripes."""
    cells = int(rng.integers(4, 24))
    coarse = rng.standard_normal((cells, cells), np.float32) * np.float32(0.6)
    blotches = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    angle = rng.random() * np.pi
    pitch = 2 * np.pi / rng.uniform(4, 14)
    rows = np.arange(height, dtype=np.float32) * np.float32(np.sin(angle) * pitch)
    cols = np.arange(width, dtype=np.float32) * np.float32(np.cos(angle) * pitch)
    stripes = np.sin(rows[:, None] + cols)
    share = np.float32(rng.random())
    mixed: np.ndarray = share * blotches + (1 - share) * stripes
    return mixed


def _light(
    rng: np.random.Generator, height: int, width: int, difficulty: float
) -> np.ndarray:
    """float32 array of shape (height, width): a ramp of light, about 1."""
    slope = (0.1 + 0.6 * difficulty) * (rng.random(2) - 0.5)
    rows = np.linspace(-slope[0], slope[0], height, dtype=np.float32)
    cols = np.linspace(-slope[1], slope[1], width, dtype=np.float32)
    return np.float32(1) + rows[:, None] + cols


def _draw_clutter(
    rng: np.random.Generator, image: np.ndarray, ids: np.ndarray, difficulty: float
) -> None:
    """Draws open lines and arcs on the ground, in place; they belong to no class.

    They run behind the shapes, whose labels stay true.
    """
    count = round(rng.random() * 26 * difficulty)
    if not count:
        return
    height, width = ids.shape
    side = min(height, width)
    behind = image.copy()
    starts = rng.random((count, 2)) * (width, height)
    lengths = side * rng.uniform(0.05, 0.35, count)
    angles = rng.random(count) * 2 * np.pi
    colours = rng.uniform(20, 235, (count, 3))
    curved = rng.random(count) < 0.5
    thickness = rng.integers(1, 4, count)
    for k in range(count):
        centre = (int(starts[k, 0]), int(starts[k, 1]))
        colour = tuple(float(c) for c in colours[k])
        if curved[k]:
            radius = max(2, int(lengths[k] / 2))
            turn = float(np.degrees(angles[k]))
            cv2.ellipse(
                behind,
                centre,
                (radius, radius),
                turn,
                0,
                130,
                colour,
                int(thickness[k]),
            )
        else:
            end = (
                int(starts[k, 0] + lengths[k] * np.cos(angles[k])),
                int(starts[k, 1] + lengths[k] * np.sin(angles[k])),
            )
            cv2.line(behind, centre, end, colour, int(thickness[k]))
    cv2.copyTo(behind, (ids == 0).astype(np.uint8), image)


def _three(plane: np.ndarray) -> np.ndarray:
    """A plane as all three channels; far faster than broadcasting over them."""
    return cv2.merge((plane, plane, plane))
