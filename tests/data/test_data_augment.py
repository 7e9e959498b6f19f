"""Geometry of the augmentation against slow, plain references."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mess_tf.core.errors import MessError
from mess_tf.core.supernet_spec import Preprocessing
from mess_tf.data.augment import (
    Augmentation,
    Warp,
    evaluation_image,
    warp_image,
    warp_labels,
)

RAW = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def reference_labels(labels: np.ndarray, warp: Warp, stride: int) -> np.ndarray:
    """Cell by cell, in fractions: where its centre lies in the native image."""
    height, width = warp.size[0] // stride, warp.size[1] // stride
    found = np.full((height, width), 255)
    for i in range(height):
        for j in range(width):
            y = (i + Fraction(1, 2)) * stride
            x = (j + Fraction(1, 2)) * stride
            if warp.flip:
                # The mirror of a grid of cells is the grid of the mirrored cells.
                x = width * stride - x
            row = (warp.top + y) * labels.shape[0] / warp.scaled[0]
            col = (warp.left + x) * labels.shape[1] / warp.scaled[1]
            if 0 <= row < labels.shape[0] and 0 <= col < labels.shape[1]:
                found[i, j] = labels[int(row), int(col)]
    return found


@st.composite
def warps(draw: st.DrawFn) -> tuple[Warp, int]:
    stride = draw(st.sampled_from([1, 2, 3, 4]))
    side = st.integers(1, 30)
    cells = st.integers(1, 6)
    offset = st.integers(-12, 12)
    warp = Warp(
        scaled=(draw(side), draw(side)),
        top=draw(offset),
        left=draw(offset),
        size=(draw(cells) * stride, draw(cells) * stride),
        flip=draw(st.booleans()),
    )
    return warp, stride


@given(warps(), st.integers(1, 15), st.integers(1, 15))
@settings(max_examples=300)
def test_labels_are_those_under_the_exact_centres(
    data: tuple[Warp, int], height: int, width: int
) -> None:
    warp, stride = data
    labels = np.arange(height * width, dtype=np.uint8).reshape(height, width)
    found = warp_labels(labels, warp, stride)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, reference_labels(labels, warp, stride))


def ramp(height: int, width: int) -> np.ndarray:
    """An image whose red is its column's centre and green its row's, times 4."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = (np.arange(width) + 0.5) * 4
    image[..., 1] = (np.arange(height)[:, None] + 0.5) * 4
    image[..., 2] = 200
    return image


@pytest.mark.parametrize("scaled", [(20, 25), (31, 47), (40, 50), (57, 70), (80, 100)])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("top", "left"), [(0, 0), (3, 5), (-6, -4)])
def test_pixels_show_the_place_that_the_warp_says(
    scaled: tuple[int, int], flip: bool, top: int, left: int
) -> None:
    """A linear image stays linear under any good resampling: values are positions."""
    native = (40, 50)
    warp = Warp(scaled, top, left, (16, 18), flip)
    out = np.full((16, 18, 3), np.nan, np.float32)
    warp_image(ramp(*native), warp, RAW, out)
    x = np.arange(18) + 0.5
    x = (18 - x) if flip else x
    col = (left + x) * native[1] / scaled[1]
    row = (top + np.arange(16) + 0.5) * native[0] / scaled[0]
    # Within a pixel of the border the image is continued, not extrapolated.
    rows, cols = (row > 1) & (row < 39), (col > 1) & (col < 49)
    inside = out[rows][:, cols]
    np.testing.assert_allclose(
        inside[..., 0], np.tile(col[cols] * 4, (rows.sum(), 1)), atol=1.0
    )
    np.testing.assert_allclose(
        inside[..., 1], np.tile(row[rows, None] * 4, (1, cols.sum())), atol=1.0
    )
    outside = (row < 0)[:, None] | (col < 0)
    assert (out[outside] == 0).all() and (out[~outside][:, 2] == 200).all()


def test_pixels_and_labels_of_a_random_warp_belong_together() -> None:
    """Flat patches, one colour per label: image and label say the same everywhere."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 16, (6, 8)).repeat(12, 0).repeat(12, 1).astype(np.uint8)
    image = np.stack([ids * 16] * 3, -1)
    augmentation = Augmentation(multiple=4)
    for _ in range(60):
        warp = augmentation.draw(rng, 72, 96)
        out = np.empty((*warp.size, 3), np.float32)
        warp_image(image, warp, RAW, out)
        labels = warp_labels(ids, warp, 1)
        valid = labels != 255
        assert (out[~valid] == 0).all()
        # Resampled borders between patches differ; they are a small part.
        same = np.abs(out[..., 0] - labels * 16) < 1
        assert same[valid].mean() > 0.7
        # A shift of one pixel would show first in the patches' inner part.
        inner = cv2.erode(valid.astype(np.uint8), np.ones((3, 3))) > 0
        floor = cv2.erode(labels.astype(np.float32), np.ones((3, 3)))
        ceiling = cv2.dilate(labels.astype(np.float32), np.ones((3, 3)))
        # What lies just outside the crop is not seen here, but resampled in.
        inner[[0, -1]] = inner[:, [0, -1]] = False
        assert same[inner & (floor == ceiling)].all()


def test_padding_is_the_mean_colour_and_ignored() -> None:
    image = np.full((10, 10, 3), 255, np.uint8)
    preprocessing = Preprocessing(mean=(100.0, 110.0, 120.0), std=(50.0, 60.0, 70.0))
    warp = Warp((5, 5), -2, -3, (10, 12), False)
    out = np.full((10, 12, 3), np.nan, np.float32)
    warp_image(image, warp, preprocessing, out)
    expected = np.zeros((10, 12, 3))
    expected[2:7, 3:8] = [155 / 50, 145 / 60, 135 / 70]
    np.testing.assert_allclose(out, expected, atol=1e-5)
    labels = warp_labels(np.zeros((10, 10), np.uint8), warp)
    assert (labels == np.where(expected[..., 0] > 0, 0, 255)).all()


def test_drawn_warps_cover_what_is_asked() -> None:
    augmentation = Augmentation(0.5, 2.0, 0.9, 32, 0.3)
    rng = np.random.default_rng(0)
    drawn = [augmentation.draw(rng, 240, 320) for _ in range(3000)]
    assert {w.size for w in drawn} == {(224, 288)}
    scales = np.array([w.scaled[0] / 240 for w in drawn])
    assert 0.49 < scales.min() < 0.52 and 1.97 < scales.max() <= 2.0
    assert abs(scales.mean() - 1.25) < 0.03
    assert abs(np.mean([w.flip for w in drawn]) - 0.3) < 0.03
    for warp in drawn:
        for side, start, crop in zip(
            warp.scaled, (warp.top, warp.left), warp.size, strict=True
        ):
            # The crop never leaves the image on one side while it could be inside.
            assert min(0, side - crop) <= start <= max(0, side - crop)
    starts: list[float] = [w.top for w in drawn if w.scaled[0] == 480]
    starts += [w.top / (w.scaled[0] - 224) for w in drawn if w.scaled[0] > 300]
    assert min(starts) < 0.02 and max(starts) > 0.98


@pytest.mark.parametrize(
    ("crop", "multiple", "expected"),
    [(0.9, 32, (224, 288)), (1.0, 32, (256, 320)), (0.9, 1, (216, 288)),
     (0.9, 16, (224, 288)), (0.5, 8, (120, 160))],
)  # fmt: skip
def test_crop_sides_are_rounded_up_to_the_multiple(
    crop: float, multiple: int, expected: tuple[int, int]
) -> None:
    assert Augmentation(crop=crop, multiple=multiple).crop_size(240, 320) == expected


def test_jitter_changes_brightness_contrast_and_saturation_within_range() -> None:
    augmentation = Augmentation(jitter=0.2)
    rng = np.random.default_rng(0)
    grey = np.array([127.5, 127.5, 127.5, 1.0])
    black, red = np.array([0.0, 0, 0, 1]), np.array([180.0, 60, 60, 1])
    levels, slopes, colour = [], [], []
    for _ in range(500):
        matrix = augmentation.draw_colours(rng)
        assert matrix is not None
        levels.append((matrix @ grey)[0] / 127.5)
        # Grey stays grey.
        assert np.ptp(matrix @ grey) < 1e-3 and np.ptp(matrix @ black) < 1e-3
        slopes.append((matrix @ grey - matrix @ black)[0] / 127.5 / levels[-1])
        value = matrix @ red
        colour.append((value[0] - value[1]) / 120 / levels[-1] / slopes[-1])
    for factors in (levels, slopes, colour):
        assert 0.8 - 1e-3 < min(factors) < 0.82 and 1.18 < max(factors) < 1.2 + 1e-3
    assert Augmentation().draw_colours(rng) is None


def test_jittered_pixels_follow_the_matrix() -> None:
    image = np.full((4, 4, 3), (180, 60, 60), np.uint8)
    matrix = np.array(
        [[0.5, 0.1, 0, 10], [0, 1, 0, -20], [0, 0, 9, 0]], dtype=np.float32
    )
    out = np.empty((4, 4, 3), np.float32)
    warp_image(image, Warp.whole(4, 4), RAW, out, matrix)
    assert out[2, 2].tolist() == [106, 40, 255]


def test_evaluation_image_has_no_aliasing_and_no_shift() -> None:
    stripes = np.zeros((40, 60, 3), np.uint8)
    stripes[:, ::2] = 254
    out = evaluation_image(stripes, 20, 30, Preprocessing())
    np.testing.assert_allclose(out, (127 - 127.5) / 127.5, atol=1e-3)
    image = ramp(40, 50)
    np.testing.assert_array_equal(evaluation_image(image, 40, 50, RAW), image)


@pytest.mark.parametrize(
    "options",
    [{"scale_min": 0.0}, {"scale_min": 2.0, "scale_max": 1.0}, {"crop": 0.0},
     {"multiple": 0}, {"flip": 1.1}, {"jitter": 1.0}],
)  # fmt: skip
def test_values_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(MessError, match=f"Augmentation {next(iter(options))} is"):
        Augmentation(**options)  # type: ignore[arg-type]
