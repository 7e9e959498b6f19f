"""Pixel-wise propagation through a run's plain heads: MACs and accuracy."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from cascade import (
    CascadeAnswer,
    Fill,
    answer,
    build_cascade,
    total_areas,
)
from lines import Line

from mess_tf.core.segmentation_metrics import mean_iou
from mess_tf.core.statistics import Statistics, part_images
from mess_tf.core.supernet_spec import HeadSpec, SupernetSpec
from mess_tf.data.augment import evaluation_image
from mess_tf.data.dataset import open_dataset
from mess_tf.models.supernet import Supernet
from mess_tf.runs import Run

PLAIN = HeadSpec().id
THRESHOLDS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.94, 0.97, 0.99, 0.997, 1.01)
FILLS: dict[str, Fill] = {"cascade": "zero", "masked": "mean"}
STARTS = (2, 1)  # first exit of a cascade: the first exit point's answers are weak
BATCH = 16
Head = tuple[int, str]


def cascades(
    run: Run, source: str, speedups: Sequence[float], budget: float
) -> tuple[list[Line], float]:
    """All lines of a run that answer pixel by pixel, and a dense cascade's MMACs.

    Args:
        source, speedups: as ``systems`` takes them.
        budget: the final exit's MMACs.
    """
    statistics = Statistics.load(run.statistics(source))
    supernet = Supernet.load(run.folder).at_size()
    lines: list[Line] = []
    dense = 0.0
    for system, fill in FILLS.items():
        found: list[Line] = []
        for start in STARTS:  # the whole chain last: its dense MACs are told
            heads = cascade_heads(statistics.heads, final_exit(supernet.spec))
            more, dense = cascade_lines(
                run, supernet, statistics, heads[start - 1 :], system, fill
            )
            found += more
        lines += within_budgets(found, budget, speedups)
    return lines, dense


def final_exit(spec: SupernetSpec) -> Head:
    return len(spec.exit_points), spec.final_head.id


def cascade_heads(heads: Sequence[Head], final: Head) -> list[Head]:
    """Plain heads at the early exits that have one, then the final head."""
    return [h for h in heads if h[1] == PLAIN and h[0] < final[0]] + [final]


def cascade_lines(
    run: Run,
    supernet: Supernet,
    statistics: Statistics,
    heads: Sequence[Head],
    system: str,
    fill: Fill,
) -> tuple[list[Line], float]:
    """A cascade at every threshold, and its dense MMACs."""
    cascade = build_cascade(supernet, heads, fill)
    data = open_dataset(run.recipe.data)
    size = (supernet.spec.image_height, supernet.spec.image_width)
    answers: dict[float, list[CascadeAnswer]] = {t: [] for t in THRESHOLDS}
    for start in range(0, len(data.evaluation), BATCH):
        indices = range(start, min(start + BATCH, len(data.evaluation)))
        samples = [data.evaluation.load(i) for i in indices]
        images = np.stack(
            [
                evaluation_image(s.image, *size, supernet.spec.preprocessing)
                for s in samples
            ]
        )
        labels = [sample.labels for sample in samples]
        for threshold, own in answers.items():
            own += answer(cascade, images, labels, threshold)
    lines = []
    for threshold, own in answers.items():
        seen, unseen = (
            [own[i] for i in part_images(statistics, part)]
            for part in ("calibration", "report")
        )
        lines.append(
            Line(
                system,
                0.0,
                f"from exit {heads[0][0]}, threshold {threshold:g}",
                float(np.mean([a.macs for a in unseen])) / 1e6,
                100 * mean_iou(total_areas(seen)),
                100 * mean_iou(total_areas(unseen)),
            )
        )
    return lines, cascade.dense_macs / 1e6


def within_budgets(
    found: Sequence[Line], budget: float, speedups: Sequence[float]
) -> list[Line]:
    """Per speed-up, the line of the best calibration mIoU that keeps its budget.

    Kept on the report part, in favour of the cascades: a searched configuration has to
    keep it on the calibration part.
    """
    lines = []
    for speedup in speedups:
        kept = [line for line in found if line.mmacs <= budget / speedup]
        if kept:
            best = max(kept, key=lambda line: line.calibration)
            lines.append(dataclasses.replace(best, asked=speedup))
    return lines
