"""Eq. 8 and 9 at image resolution: by hand, by Canny, and against the native grid."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.stats import spearmanr

from mess_tf.policies.confidence import confidence_numpy
from mess_tf.policies.full_resolution import edge_mask, full_size_confidence
from mess_tf.policies.registry import Policy

STRIDE, GRID = 4, (24, 30)
SIZE = (GRID[0] * STRIDE, GRID[1] * STRIDE)


def scene(seed: int) -> np.ndarray:
    """Logits of five classes in blobs, ever less sure and more broken up by number."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(4 + seed % 5, 5 + seed % 5, 5)).astype(np.float32)
    smooth = cv2.resize(coarse, GRID[::-1], interpolation=cv2.INTER_CUBIC)
    noise = rng.normal(0, rng.uniform(0.1, 0.6), smooth.shape)
    return ((smooth + noise) * rng.uniform(1, 6)).astype(np.float32)


def test_by_hand() -> None:
    # A sure half and a sure half; where they meet, upsampling mixes their logits.
    logits = np.zeros((4, 4, 2), np.float32)
    logits[:, :2, 0] = logits[:, 2:, 1] = 8
    mask = edge_mask(np.repeat([[0, 0, 0, 1, 1, 1, 1, 1]], 3, axis=0), stride=3)
    assert mask.tolist() == [[False, True, True, True, True, False, False, False]] * 3
    plain = full_size_confidence(logits, 16, 16, 0.99, smoothed=False)
    # Half-pixel upsampling by 4: two of 16 columns lie between -1 and 1.
    assert plain == pytest.approx(14 / 16)
    assert full_size_confidence(logits, 16, 16, 0.99) == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_canny_and_label_changes_mark_the_same_area(seed: int) -> None:
    large = cv2.resize(scene(seed), SIZE[::-1], interpolation=cv2.INTER_LINEAR)
    labels = large.argmax(axis=-1)
    by_labels = edge_mask(labels, STRIDE)
    by_canny = edge_mask(labels, STRIDE, "canny")
    assert 0.1 < by_labels.mean() < 0.9
    # Canny's edge is one pixel wide and a label change two, whatever they grow by.
    one_less = edge_mask(labels, STRIDE - 1)
    assert one_less.sum() * 0.97 < by_canny.sum() < by_labels.sum() * 1.03
    assert (by_canny & by_labels).sum() > 0.97 * by_canny.sum()


def test_the_native_grid_ranks_images_as_the_paper_does() -> None:
    logits = np.stack([scene(seed) for seed in range(24)])
    cheap = confidence_numpy(Policy("eq7+9", 0.8), logits)
    canny, labels = (
        [full_size_confidence(own, *SIZE, 0.8, edges=edges) for own in logits]
        for edges in ("canny", "labels")
    )
    assert spearmanr(cheap, labels).statistic > 0.95
    assert spearmanr(canny, labels).statistic > 0.99
