"""The supplement's augmentation: rescale, crop, flip; and images for evaluation.

A *warp* says where a crop lies. The image is first brought to ``scaled`` size (as in
evaluation, by the same resampling), then cut at whole pixels: resampled once, and
separably. Labels never are: each cell of the label grid takes the native label under
its exact centre, computed in whole numbers, so a loss on a coarser grid sees no shift.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mess_tf.core.errors import MessError
from mess_tf.core.supernet_spec import Preprocessing
from mess_tf.data.sources import IGNORE_LABEL

# ITU-R BT.601, as in JPEG.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)

_ALIASING_BELOW = 0.7


@dataclass(frozen=True)
class Warp:
    """Where a crop of an image lies, in pixels of the rescaled image.

    Attributes:
        scaled: (height, width) of the whole image after rescaling.
        top, left: of the crop in the rescaled image; negative or beyond its border
            where the crop is larger than the image.
        size: (height, width) of the crop.
        flip: whether the crop is mirrored left to right, after it was cut.
    """

    scaled: tuple[int, int]
    top: int
    left: int
    size: tuple[int, int]
    flip: bool

    @classmethod
    def whole(cls, height: int, width: int) -> Warp:
        """The whole image at (height, width): what evaluation sees."""
        return cls((height, width), 0, 0, (height, width), False)


@dataclass(frozen=True)
class Augmentation:
    """How training samples are varied.

    Attributes:
        scale_min, scale_max: the image is rescaled by a uniform factor from this range,
            relative to the network's input size.
        crop: crop size relative to the network's input size.
        multiple: crop sides are rounded up to multiples of it (the output stride).
        flip: probability of mirroring left to right.
        jitter: brightness, contrast and saturation are each multiplied by a uniform
            factor from 1 - jitter to 1 + jitter; 0 = off.

    Raises:
        MessError: a value out of its range.
    """

    scale_min: float = 0.5
    scale_max: float = 2.0
    crop: float = 0.9
    multiple: int = 32
    flip: float = 0.5
    jitter: float = 0.0

    def __post_init__(self) -> None:
        for name, value, fits, accepted in (
            ("scale_min", self.scale_min, 0 < self.scale_min <= self.scale_max,
             f"above 0, up to scale_max ({self.scale_max})"),
            ("crop", self.crop, self.crop > 0, "above 0"),
            ("multiple", self.multiple, self.multiple >= 1, "1 or more"),
            ("flip", self.flip, 0 <= self.flip <= 1, "0 to 1"),
            ("jitter", self.jitter, 0 <= self.jitter < 1, "0 to below 1"),
        ):  # fmt: skip
            if not fits:
                raise MessError(
                    f"Augmentation {name} is {value}; accepted: {accepted}."
                )

    def crop_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of training crops for a network input of (height, width)."""

        def side(length: int) -> int:
            # Rounded first: 0.9 * 320 must not become 288.00000000000006.
            cells = -(-round(self.crop * length, 6) // self.multiple)
            return int(cells) * self.multiple

        return side(height), side(width)

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Warp:
        """A random warp for a network input of (height, width) pixels."""
        scale = rng.uniform(self.scale_min, self.scale_max)
        scaled = max(1, round(scale * height)), max(1, round(scale * width))
        size = self.crop_size(height, width)
        # Where the crop is the larger one, the image lies anywhere inside it.
        top, left = (
            int(rng.integers(min(0, s - c), max(0, s - c), endpoint=True))
            for s, c in zip(scaled, size, strict=True)
        )
        return Warp(scaled, top, left, size, bool(rng.random() < self.flip))

    def draw_colours(self, rng: np.random.Generator) -> np.ndarray | None:
        """A random change of colours for ``warp_image``, or None when jitter is off.

        Returns:
            float32 array of shape (3, 4), or None.
        """
        if not self.jitter:
            return None
        low, high = 1 - self.jitter, 1 + self.jitter
        brightness, contrast, saturation = rng.uniform(low, high, 3)
        matrix = saturation * np.eye(3) + (1 - saturation) * np.tile(_LUMA, (3, 1))
        # Contrast turns about mid-grey, so that the matrix needs no look at the image.
        offset = np.full((3, 1), (1 - contrast) * 127.5 * brightness)
        return np.hstack([matrix * contrast * brightness, offset]).astype(np.float32)


def warp_image(
    image: np.ndarray,
    warp: Warp,
    preprocessing: Preprocessing,
    out: np.ndarray,
    colours: np.ndarray | None = None,
) -> None:
    """Fills ``out`` with the network's input; outside the image with the mean colour.

    Args:
        image: uint8 array of shape (h, w, 3), RGB.
        warp: where the crop lies.
        preprocessing: of the network.
        out: float32 array of shape (*warp.size, 3).
        colours: float32 array of shape (3, 4): RGB -> matrix @ (R, G, B, 1), or None.
    """
    scaled = _resize(image, *warp.scaled)
    (height, width), (rows, cols) = warp.size, warp.scaled
    top, bottom = max(0, -warp.top), min(height, rows - warp.top)
    left, right = max(0, -warp.left), min(width, cols - warp.left)
    if (top, bottom, left, right) != (0, height, 0, width):
        out[...] = 0.0
    cut = scaled[
        warp.top + top : warp.top + bottom, warp.left + left : warp.left + right
    ]
    if colours is not None:
        cut = cv2.transform(np.ascontiguousarray(cut), colours)
    if warp.flip:
        cut = cut[:, ::-1]
        left, right = width - right, width - left
    # One pass of OpenCV; numpy's broadcasting over three channels takes 20x the time.
    normalised = cv2.transform(cut.astype(np.float32), _normalisation(preprocessing))
    out[top:bottom, left:right] = normalised


def warp_labels(labels: np.ndarray, warp: Warp, stride: int = 1) -> np.ndarray:
    """Labels on a grid of ``stride`` pixels per cell, each from its cell's centre.

    A centre that lies exactly between two native pixels (usual at even strides) takes
    the lower right one.

    Args:
        labels: uint8 array of shape (h, w).
        warp: where the crop lies; its size must be a multiple of ``stride``.

    Returns:
        int32 array of shape (height / stride, width / stride), ``IGNORE_LABEL`` where
            there is no image.
    """
    rows = _native(warp.size[0], warp.top, stride, warp.scaled[0], labels.shape[0])
    cols = _native(warp.size[1], warp.left, stride, warp.scaled[1], labels.shape[1])
    if warp.flip:
        cols = cols[::-1]
    found = labels[np.maximum(rows, 0)[:, None], np.maximum(cols, 0)].astype(np.int32)
    found[rows < 0] = IGNORE_LABEL
    found[:, cols < 0] = IGNORE_LABEL
    return found


def evaluation_image(
    image: np.ndarray, height: int, width: int, preprocessing: Preprocessing
) -> np.ndarray:
    """The network's input for a whole image.

    Args:
        image: uint8 array of shape (h, w, 3), RGB, any size.
        height, width: of the network's input.

    Returns:
        float32 array of shape (height, width, 3).
    """
    out = np.empty((height, width, 3), np.float32)
    warp_image(image, Warp.whole(height, width), preprocessing, out)
    return out


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear; area average where an image shrinks so far that it would alias."""
    if image.shape[:2] == (height, width):
        return image
    factors = height / image.shape[0], width / image.shape[1]
    # OpenCV averages areas only where no side grows, and takes 5x the time for it.
    area = min(factors) < _ALIASING_BELOW and max(factors) <= 1
    method = cv2.INTER_AREA if area else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)


def _normalisation(preprocessing: Preprocessing) -> np.ndarray:
    """float32 array of shape (3, 4) that turns (R, G, B, 1) into network input."""
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    return np.hstack([np.diag(1 / std), -(mean / std)[:, None]]).astype(np.float32)


def _native(
    length: int, start: int, stride: int, scaled: int, native: int
) -> np.ndarray:
    """Native index under the centre of every cell of one axis; -1 outside the image."""
    # Twice the centre's coordinate, to stay in whole numbers.
    centre = 2 * start + (2 * np.arange(length // stride) + 1) * stride
    index = centre * native // (2 * scaled)
    index[(index < 0) | (index >= native)] = -1
    return index
