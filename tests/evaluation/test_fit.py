"""Numbers of fitted policies: by hand, and found again where they were put in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from scipy.stats import spearmanr

from mess_tf.core.errors import MessError
from mess_tf.core.segmentation_metrics import Areas, mean_iou
from mess_tf.core.supernet_spec import ExitPoint, HeadSpec, Preprocessing, SupernetSpec
from mess_tf.data.sources import Sample
from mess_tf.evaluation.fit import (
    LEAST_PART,
    class_strictness,
    fit_policies,
    miou_gains,
)
from mess_tf.evaluation.runners import HeadOutput
from mess_tf.policies.confidence import confidences_numpy

CLASSES = 3
SPEC = SupernetSpec(
    backbone="mobilenet_v2",
    backbone_options={},
    output_stride=8,
    image_height=32,
    image_width=32,
    classes=("a", "b", "c"),
    ignore_label=255,
    exit_points=(ExitPoint(1, "x", 4, 8, 10), ExitPoint(2, "y", 4, 8, 20)),
    heads=((HeadSpec(),), (HeadSpec(),)),
    output_stride_of_logits=4,
    head_options={},
    preprocessing=Preprocessing(),
)


class Source:
    """Images whose value is their number; the last row of labels is ignored."""

    names = tuple(f"{i:03d}" for i in range(40))
    groups = tuple(f"sequence_{i // 8}" for i in range(40))
    classes = SPEC.classes
    ignore_label = 255
    palette = np.zeros((CLASSES, 3), np.uint8)

    def __len__(self) -> int:
        return len(self.names)

    def load(self, index: int) -> Sample:
        labels = np.random.default_rng(index).integers(0, CLASSES, (8, 8), np.uint8)
        labels[7:] = 255
        return Sample(np.full((32, 32, 3), index, np.uint8), labels)


class Fake:
    """The final head is right; the early one is wrong just where it is unsure."""

    source = "fake"
    parameters: Mapping[str, np.ndarray] = {}

    def run(self, image: np.ndarray) -> Iterator[HeadOutput]:
        number = round(float(image[0, 0, 0]) * 127.5 + 127.5)
        labels = Source().load(number).labels.copy()
        labels[7:] = 0
        sure = np.eye(CLASSES, dtype=np.float32)[labels] * 6
        rng = np.random.default_rng(100 + number)
        wrong = rng.random(labels.shape) < rng.uniform(0, 0.7)
        early = sure.copy()
        early[wrong] = np.roll(sure[wrong], 1, axis=-1) / 6
        for logits in (early, sure):
            yield HeadOutput(logits, logits, {})


def test_the_easiest_class_has_the_widest_gap() -> None:
    summed = np.array(
        [
            [90, 5, 5, 0],  # of 100 cells: gap 0.85
            [20, 25, 5, 0],  # of 50: gap 0.1
            [0, 0, 0, 0],  # never there
            [0, 3, 0, 7],  # of 10: gap 0.4
        ]
    )
    strictness = class_strictness(summed)
    middle = LEAST_PART + (1 - LEAST_PART) * (0.4 - 0.1) / (0.85 - 0.1)
    expected = [1, 1 / LEAST_PART, 1 / LEAST_PART, 1 / middle]
    assert strictness == pytest.approx(expected, rel=1e-6)
    # The paper's range: thresholds from 0.9 for the easiest to 0.998 for the hardest.
    assert 1 - (1 - 0.9) / strictness[[0, 1]] == pytest.approx([0.9, 0.998])
    assert class_strictness(np.eye(3)).tolist() == [1, 1, 1]


def test_the_gate_ranks_images_by_their_quality_and_sees_a_perfect_exit() -> None:
    done: list[int] = []
    fitted = fit_policies(
        Fake(), SPEC, Source(), ["gate", "cbt"], 30, lambda n: done.append(n)
    )
    assert {family: values.shape for family, values in fitted.items()} == {
        "gate": (2, 1 + 4 + 1 + 3 * CLASSES + 1),
        "cbt": (2, CLASSES),
    }
    assert sum(done) == 30
    rng = np.random.default_rng(0)
    gate, wrong = [], []
    for number in rng.permutation(40):
        image = np.full((1, 1, 1), (number - 127.5) / 127.5)
        early, final = Fake().run(image)
        labels = Source().load(int(number)).labels
        wrong.append((early.native.argmax(-1) != labels)[:7].mean())
        own = {"gate": fitted["gate"][0]}
        gate.append(confidences_numpy(early.native[None], ["gate"], own)["gate"][0])
        own = {"gate": fitted["gate"][1]}
        # The final exit is as good as itself, whatever it shows.
        even = confidences_numpy(final.native[None], ["gate"], own)["gate"][0]
        assert even == pytest.approx(0.5, abs=1e-6)
    assert spearmanr(gate, wrong).statistic < -0.9


def test_images_without_labels_fit_nothing() -> None:
    class Blank(Source):
        def load(self, index: int) -> Sample:
            sample = super().load(index)
            return Sample(sample.image, np.full_like(sample.labels, 255))

    with pytest.raises(MessError, match="fitted on 0 labelled training images"):
        fit_policies(Fake(), SPEC, Blank(), ["gate"], 5, lambda n: None)


def test_gains_add_up_to_the_change_of_the_miou() -> None:
    """To first order: on many images, of which each changes next to nothing."""
    rng = np.random.default_rng(0)
    images, classes = 2000, 4
    true = rng.integers(50, 100, (images, classes))
    true[:, 3] = 0  # a class that never occurs
    final = rng.binomial(true, 0.9)
    early = np.minimum(final, rng.binomial(true, 0.895))
    areas = [
        [Areas(t, f, f), Areas(t, e, e)]
        for t, f, e in zip(true, final, early, strict=True)
    ]
    gains = miou_gains(areas, final=0)
    assert (gains[:, 0] == 0).all()
    before, after = (
        mean_iou(Areas(*(v.sum(axis=0) for v in (true, i, i)))) for i in (final, early)
    )
    assert after < before
    assert gains[:, 1].mean() == pytest.approx(after - before, rel=0.05)
    # By hand: 1 of 10 right cells lost in one image of two; unions stay.
    hand = [
        [Areas(*(np.array([v]) for v in row)) for row in ((10, 10, 10), (10, 9, 9))],
        [Areas(*(np.array([v]) for v in row)) for row in ((10, 10, 10), (10, 10, 10))],
    ]
    assert miou_gains(hand, final=0)[:, 1].tolist() == pytest.approx([-2 / 20, 0])
