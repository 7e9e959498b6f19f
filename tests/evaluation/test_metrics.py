"""Areas, mIoU and upsampling, by hand and against plain references."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

from mess_tf.core.segmentation_metrics import (
    count_areas,
    image_quality,
    iou,
    mean_iou,
)
from mess_tf.evaluation.predict import upsampled_classes


def test_areas_by_hand() -> None:
    labels = np.array([[0, 0, 1], [1, 2, 255]])
    predicted = np.array([[0, 1, 1], [1, 0, 2]])
    areas = count_areas(labels, predicted, 4)
    assert areas.true.tolist() == [2, 2, 1, 0]
    assert areas.predicted.tolist() == [2, 3, 0, 0]
    assert areas.intersection.tolist() == [1, 2, 0, 0]
    ious = iou(areas)
    assert ious[:3] == pytest.approx([1 / 3, 2 / 3, 0])
    assert math.isnan(ious[3])
    # The class that never occurs is left out, the one that is always missed is not.
    assert mean_iou(areas) == pytest.approx(1 / 3)


def test_the_first_value_that_is_no_class_is_ignored() -> None:
    areas = count_areas(np.array([[0, 1, 2]]), np.array([[0, 1, 1]]), 2)
    assert areas.true.tolist() == areas.predicted.tolist() == [1, 1]


def test_a_data_sets_miou_comes_from_sums() -> None:
    first = count_areas(np.zeros((1, 10), int), np.zeros((1, 10), int), 2)
    second = count_areas(np.ones((1, 2), int), np.array([[1, 0]]), 2)
    together = mean_iou(first + second)
    assert together == pytest.approx((10 / 11 + 1 / 2) / 2)
    assert together != pytest.approx((mean_iou(first) + mean_iou(second)) / 2)


def test_an_images_quality_leaves_out_classes_that_are_only_predicted() -> None:
    areas = count_areas(np.array([[0, 0, 1, 1]]), np.array([[0, 2, 1, 1]]), 3)
    assert mean_iou(areas) == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert image_quality(areas) == pytest.approx((1 / 2 + 1) / 2)
    unlabelled = count_areas(np.array([[255]]), np.array([[0]]), 3)
    assert math.isnan(image_quality(unlabelled))


def test_upsampling_is_keras_bilinear_resize_and_argmax() -> None:
    logits = np.random.default_rng(0).normal(size=(6, 8, 5)).astype(np.float32)
    got = upsampled_classes(logits, 33, 47)
    large = keras.ops.convert_to_numpy(
        keras.ops.image.resize(logits, (33, 47), interpolation="bilinear")
    )
    sure = np.diff(np.sort(large, axis=-1)[..., -2:]).squeeze(-1) > 1e-4
    assert sure.mean() > 0.99
    np.testing.assert_array_equal(got[sure], large.argmax(axis=-1)[sure])


def test_of_equal_logits_the_first_class_wins() -> None:
    assert upsampled_classes(np.zeros((2, 2, 3), np.float32), 4, 4).max() == 0
