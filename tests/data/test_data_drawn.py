"""The drawn data set: the same everywhere, true labels, difficulty that is one."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from mess_tf.core.errors import MessError
from mess_tf.data.drawn import CLASSES, PALETTE, DrawnSource, draw


def digest(source: DrawnSource) -> str:
    total = hashlib.sha256()
    for i in range(len(source)):
        sample = source.load(i)
        total.update(sample.image.tobytes() + sample.labels.tobytes())
    return total.hexdigest()


def test_an_image_depends_on_seed_split_and_index_alone() -> None:
    source = DrawnSource("train", count=6, size=(48, 64), seed=7)
    longer = DrawnSource("train", count=9, size=(48, 64), seed=7)
    np.testing.assert_array_equal(longer.load(4).image, source.load(4).image)
    seen = {
        digest(DrawnSource(split, count=2, size=(48, 64), seed=seed))
        for split in ("train", "val")
        for seed in (7, 8)
    }
    assert len(seen) == 4


def test_another_process_draws_the_same() -> None:
    source = DrawnSource("train", count=3, size=(48, 64), seed=7)
    code = (
        "import hashlib; from mess_tf.data.drawn import DrawnSource;"
        "s = DrawnSource('train', count=3, size=(48, 64), seed=7);"
        "t = b''.join(p.tobytes() for i in range(3)"
        " for p in (s.load(i).image, s.load(i).labels));"
        "print(hashlib.sha256(t).hexdigest())"
    )
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert result.stdout.strip() == digest(source)


def test_samples_are_well_formed_and_every_class_occurs() -> None:
    source = DrawnSource("train", count=60, size=(64, 96), seed=0)
    pixels = np.zeros(256, np.int64)
    for i in range(len(source)):
        sample = source.load(i)
        assert sample.image.shape == (64, 96, 3) and sample.image.dtype == np.uint8
        assert sample.labels.shape == (64, 96) and sample.labels.dtype == np.uint8
        pixels += np.bincount(sample.labels.ravel(), minlength=256)
    assert pixels[len(CLASSES) :].sum() == 0
    share = pixels[: len(CLASSES)] / pixels.sum()
    assert share.min() > 0.015 and 0.45 < share[0] < 0.85
    assert len(set(source.groups)) == len(source)


def test_easy_images_show_their_labels_in_their_classes_colours() -> None:
    """Nearest palette colour labels nearly all of an easy image, not a hard one."""

    def accuracy(difficulty: float) -> float:
        right = total = 0
        for seed in range(12):
            sample = draw(np.random.default_rng(seed), 96, 96, difficulty)
            shapes = sample.labels > 0
            distance = np.abs(
                sample.image[shapes].astype(int)[:, None] - PALETTE.astype(int)[1:]
            ).sum(-1)
            right += (distance.argmin(-1) + 1 == sample.labels[shapes]).sum()
            total += shapes.sum()
        return right / total

    assert accuracy(0.0) > 0.97
    assert accuracy(1.0) < 0.6


def test_outlines_lie_where_the_labels_say() -> None:
    """On easy images the strongest edges are the label borders: no shift."""
    sample = draw(np.random.default_rng(1), 128, 128, 0.0)
    grey = cv2.cvtColor(sample.image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    edges = cv2.magnitude(cv2.Sobel(grey, -1, 1, 0), cv2.Sobel(grey, -1, 0, 1))
    labels = sample.labels.astype(np.float32)
    border = cv2.dilate(labels, np.ones((3, 3))) != cv2.erode(labels, np.ones((3, 3)))
    assert border[edges > 0.5 * edges.max()].mean() > 0.97


def test_difficulty_is_spread_evenly_and_is_the_one_drawn() -> None:
    source = DrawnSource("train", count=400, size=(32, 32), seed=0)
    values = np.array([source.difficulty(i) for i in range(400)])
    assert np.abs(np.sort(values) - np.linspace(0, 1, 400)).max() < 0.08
    hardest, easiest = int(values.argmax()), int(values.argmin())
    for index in (hardest, easiest):
        rng = np.random.default_rng(
            np.random.SeedSequence(0, spawn_key=(zlib.crc32(b"train"), index))
        )
        again = draw(rng, 32, 32, float(rng.random()))
        np.testing.assert_array_equal(source.load(index).image, again.image)


def test_hard_images_hold_more_and_smaller_things() -> None:
    def components(difficulty: float) -> tuple[float, float]:
        counts, areas = [], []
        for seed in range(20):
            labels = draw(np.random.default_rng(seed), 96, 96, difficulty).labels
            for c in range(1, len(CLASSES)):
                n, _, stats, _ = cv2.connectedComponentsWithStats(
                    (labels == c).astype(np.uint8)
                )
                counts.append(n - 1)
                areas += stats[1:, cv2.CC_STAT_AREA].tolist()
        return float(np.sum(counts)), float(np.median(areas))

    easy, hard = components(0.0), components(1.0)
    assert hard[0] > 2 * easy[0] and hard[1] < 0.5 * easy[1]


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(MessError, match="16x64 are too small"):
        DrawnSource("train", count=1, size=(16, 64), seed=0)
    with pytest.raises(MessError, match="'train' has 0 images"):
        DrawnSource("train", count=0, size=(64, 64), seed=0)
