"""Statistics and latencies that are drawn, but look like those of a real network.

No network of the sizes of interest (56 heads at each of five early exits, 1,449 or
5,000 images) can be trained here, so what the search reads is drawn:

- **Images.** Background and one to four object classes. How often a class occurs falls
  like 1/rank; its area is log-normal, so a few images hold most of a rare class's
  pixels. Every image has a difficulty, partly that of its scene.
- **Heads.** The logit of a class's recall on an image is a sum: the exit's level
  (deeper is better, with diminishing returns), the head's effect (more blocks, ASPP, no
  channel reduction are better, less so at depth), the class's level, minus the
  difficulty times a slope that falls with depth, plus noise. Four kinds of it: shared
  by all heads of an exit per image (and correlated 0.8 from one exit to the next), the
  same per image and class, and the head's own ones of both kinds, which are much
  smaller. The final exit has one head, a little better than its level.
- **Mistakes.** Missed pixels go to the background, to other classes of the image and to
  look-alikes (a fixed confusion matrix), so unions grow where intersections fall.
- **Confidences.** The logit of an image's mean confidence follows the logit of its
  pixel accuracy loosely (noise shared at the exit, and the head's own); the share of
  cells above a pixel threshold is a normal tail around it with a width of its own per
  image, rounded to whole cells of the head's grid. So policies with neighbouring pixel
  thresholds order images nearly alike, and heads of one exit rather alike.
- **Latencies.** Segments as on a phone-sized network; heads by their work, +-10 %.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit, ndtr

from mess_tf.core.piece_names import decision_name, head_name, output_name, segment_name
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import ExitPoint, HeadSpec, Preprocessing, SupernetSpec
from mess_tf.recipe.sections import head_space

SEGMENT_MS = (2.6, 0.5, 0.6, 1.1, 2.0, 4.0)
POLICY_PRICES = {"mean": 1.0, "entropy": 1.6, "eq7": 1.1, "eq7+9": 3.0}


def draw_spec(exits: int, heads: int, classes: int) -> SupernetSpec:
    """A network at 240x320.

    Args:
        exits: early exit points; the final one has one head, the reference.
        heads: candidate heads of each early exit point.
    """
    points = tuple(
        ExitPoint(i, f"block_{i}", 4 if i == 1 else 8 if i == 2 else 16, 32 * i, i)
        for i in range(1, exits + 2)
    )
    return SupernetSpec(
        backbone="drawn",
        backbone_options={},
        output_stride=16,
        image_height=240,
        image_width=320,
        classes=tuple(f"class_{c}" for c in range(classes)),
        ignore_label=255,
        exit_points=points,
        heads=(*(_some_heads(heads) for _ in points[:-1]), (HeadSpec("dlb", 1, 0),)),
        output_stride_of_logits=8,
        head_options={},
        preprocessing=Preprocessing(),
    )


def _some_heads(count: int) -> tuple[HeadSpec, ...]:
    """``count`` heads spread over the whole space of 56."""
    space = head_space()
    at = np.unique(np.linspace(0, len(space) - 1, count).round().astype(int))
    return tuple(space[i] for i in at)


def draw_policies(pixel_thresholds: int) -> tuple[str, ...]:
    """Mean, entropy, and Eq. 7 without and with Eq. 9 at every pixel threshold."""
    levels = [f"{t:.3f}" for t in np.linspace(0.5, 0.98, pixel_thresholds)]
    return (
        "mean",
        "entropy",
        *(f"eq7@{t}" for t in levels),
        *(f"eq7+9@{t}" for t in levels),
    )


def draw_statistics(
    spec: SupernetSpec,
    calibration: int,
    report: int,
    pixel_thresholds: int,
    seed: int,
    scenes: int = 0,
    shift: float = 0.0,
) -> Statistics:
    """Draws as the module's description says.

    Args:
        calibration, report: images of either part.
        scenes: groups that share difficulty; 0 makes each image its own group.
        shift: spread over the scenes of how sure the heads are beyond what they know,
            in logits.
    """
    rng = np.random.default_rng(seed)
    total, classes = calibration + report, len(spec.classes)
    pixels = spec.image_height * spec.image_width
    scene = np.arange(total) * scenes // total if scenes else np.arange(total)
    shared = rng.normal(size=scene.max() + 1)[scene]
    # Of its own generator, so that without a shift nothing else changes.
    surer = shift * np.random.default_rng(seed + 1).normal(size=total)[scene]
    hard = 0.7 * shared + 0.7 * rng.normal(size=total) if scenes else shared
    true = _draw_areas(rng, total, classes, pixels)
    names = spec.head_names()
    both = np.zeros((total, len(names), classes), np.int32)
    predicted = np.zeros_like(both)
    confidence = {
        policy: np.zeros((total, len(names)), np.float32)
        for policy in draw_policies(pixel_thresholds)
    }
    level = rng.normal(0, 0.5, classes)
    level[0] += 1.8
    confusion = _draw_confusion(rng, classes)
    spread = np.exp(rng.normal(0, 0.25, total))
    depth = len(spec.exit_points)
    noise: dict[str, np.ndarray] = {}
    for h, (exit_index, head) in enumerate(names):
        early = 1 - exit_index / depth
        if h == 0 or names[h - 1][0] != exit_index:
            noise = _next_noise(rng, noise, total, classes)
        skill = (
            2.0
            - 1.2 * early**1.6
            + 0.15 * (not early)
            + _head_effect(HeadSpec.parse(head), early)
        )
        skill += rng.normal(0, 0.03)
        recall = expit(
            skill
            + level
            + rng.normal(0, 0.05, classes)
            - (0.8 + 0.9 * early) * hard[:, None]
            + 0.3 * noise["image"]
            + 0.25 * noise["class"]
            + rng.normal(0, 0.10, (total, 1))
            + rng.normal(0, 0.12, (total, classes))
        )
        both[:, h] = np.round(true * recall)
        missed = true - both[:, h]
        present = true * (np.arange(classes) > 0)
        present = present / np.maximum(present.sum(1, keepdims=True), 1)
        wrong = missed[:, :1] * (0.6 * present) + missed @ confusion
        predicted[:, h] = both[:, h] + np.round(wrong)
        accuracy = both[:, h].sum(1) / true.sum(1)
        centre = 0.8 * logit(np.clip(accuracy, 0.01, 0.995)) + 0.9
        centre += surer + 0.35 * noise["confidence"] + rng.normal(0, 0.12, total)
        cells = np.prod(spec.head_size(exit_index, HeadSpec.parse(head)))
        for policy, values in confidence.items():
            values[:, h] = _confidence(rng, policy, centre, spread, int(cells))
    return Statistics(
        images=tuple(f"image_{i}" for i in range(total)),
        groups=tuple(f"scene_{s}" for s in scene),
        parts=("calibration",) * calibration + ("report",) * report,
        heads=names,
        classes=spec.classes,
        true_area=true,
        predicted_area=predicted,
        intersection=both,
        confidence=confidence,
        source=f"drawn, seed {seed}",
    )


def _draw_areas(
    rng: np.random.Generator, total: int, classes: int, pixels: int
) -> np.ndarray:
    """Labelled pixels per image and class, int32 array of shape (I, C)."""
    often = 1 / np.arange(1, classes) ** 0.8
    weight = np.zeros((total, classes))
    for image in range(total):
        count = min(classes - 1, 1 + rng.binomial(3, 0.25))
        chosen = rng.choice(classes - 1, count, False, often / often.sum())
        weight[image, 1 + chosen] = rng.lognormal(-1.6, 1.1, count)
    weight[:, 0] = rng.lognormal(0, 0.4, total)
    return np.round(pixels * weight / weight.sum(1, keepdims=True)).astype(np.int32)


def _draw_confusion(rng: np.random.Generator, classes: int) -> np.ndarray:
    """Share of a class's missed pixels that are predicted as another one."""
    alike = rng.dirichlet(np.full(classes, 0.3), classes) * 0.45
    alike[:, 0] += 0.55
    alike[0] = rng.dirichlet(np.full(classes, 1.0)) * 0.4
    np.fill_diagonal(alike, 0)
    return alike


def _next_noise(
    rng: np.random.Generator, old: dict[str, np.ndarray], total: int, classes: int
) -> dict[str, np.ndarray]:
    """Noise that an exit's heads share, correlated with that of the exit before."""
    new = {
        "image": rng.normal(size=(total, 1)),
        "class": rng.normal(size=(total, classes)),
        "confidence": rng.normal(size=total),
    }
    return {k: 0.8 * old[k] + 0.6 * v for k, v in new.items()} if old else new


def _head_effect(head: HeadSpec, early: float) -> float:
    """How much better a head is than a plain one without channel reduction."""
    gain = 0.16 * head.blocks**0.6 + 0.12 * (head.kind == "dlb")
    gain += 0.04 * head.rapid_dilation
    return (0.3 + early) * gain - 0.07 * float(np.log2(head.reduction))


def _confidence(
    rng: np.random.Generator,
    policy: str,
    centre: np.ndarray,
    spread: np.ndarray,
    cells: int,
) -> np.ndarray:
    family, _, level = policy.partition("@")
    if family == "mean":
        return expit(centre)
    if family == "entropy":
        return expit(centre + rng.normal(0, 0.1, len(centre)))
    width = spread * (1.6 if family == "eq7" else 1.35)
    shift = rng.normal(0, 0.03, len(centre)) + (0.1 if family == "eq7+9" else 0.0)
    share = ndtr((centre + shift - logit(float(level))) / width)
    return np.round(share * cells) / cells


def draw_latencies(spec: SupernetSpec, seed: int) -> dict[str, float]:
    """Milliseconds in the proportions that were seen on a phone-sized network."""
    rng = np.random.default_rng(seed)
    table = {}
    for point in spec.exit_points:
        table[segment_name(point.index)] = SEGMENT_MS[
            (point.index - 1) % len(SEGMENT_MS)
        ]
    for exit_index, head in spec.head_names():
        head_spec = HeadSpec.parse(head)
        work = (1 + 1.5 * head_spec.blocks) / head_spec.reduction
        ms = 0.15 + 0.5 * work + (0.6 if head_spec.kind == "dlb" else 0)
        table[head_name(exit_index, head)] = ms * float(rng.uniform(0.9, 1.1))
        size = spec.head_size(exit_index, head_spec)
        cells = size[0] * size[1]
        table[output_name(size)] = 0.05 + cells / 40_000
        for family, factor in POLICY_PRICES.items():
            table[decision_name(family, size)] = factor * (0.02 + cells / 50_000)
    return table
