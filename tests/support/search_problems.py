"""Small problems and a plain brute force, shared by the search's tests."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.piece_names import decision_name, head_name, output_name, segment_name
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import ExitPoint, HeadSpec, Preprocessing, SupernetSpec
from search.problem import Problem

HEADS = (HeadSpec("fcn", 1, 0), HeadSpec("dlb", 2, 0), HeadSpec("fcn", 4, 1))
POLICIES = ("mean", "eq7@0.9", "eq7+9@0.9")


def tiny_spec(heads_per_exit: tuple[int, ...], classes: int = 3) -> SupernetSpec:
    """Exit point 1 has stride 4, the others 8; logits leave at stride 4."""
    return SupernetSpec(
        backbone="tiny",
        backbone_options={},
        output_stride=8,
        image_height=32,
        image_width=48,
        classes=tuple("abcdefgh"[:classes]),
        ignore_label=255,
        exit_points=tuple(
            ExitPoint(i + 1, f"block_{i}", 4 if i == 0 else 8, 8, i)
            for i in range(len(heads_per_exit))
        ),
        heads=tuple(HEADS[:n] for n in heads_per_exit),
        output_stride_of_logits=4,
        head_options={},
        preprocessing=Preprocessing(),
    )


def tiny_latencies(spec: SupernetSpec, rng: np.random.Generator) -> dict[str, float]:
    """Small whole numbers of tenths of a millisecond, so that ties happen."""
    names = [segment_name(p.index) for p in spec.exit_points]
    for exit_index, head in spec.head_names():
        names.append(head_name(exit_index, head))
        size = spec.head_size(exit_index, HeadSpec.parse(head))
        names += [decision_name(policy, size) for policy in POLICIES]
        if size != spec.output_size:
            names.append(output_name(size))
    return {name: float(rng.integers(0, 12)) / 10 for name in dict.fromkeys(names)}


def tiny_statistics(
    spec: SupernetSpec,
    rng: np.random.Generator,
    calibration: int = 6,
    report: int = 4,
    policies: int = 2,
    levels: int = 6,
) -> Statistics:
    """Random areas of a few pixels and confidences on a few levels: ties abound.

    Some classes are missing from the labels, some predictions name such a class.
    """
    images, classes = calibration + report, len(spec.classes)
    names = spec.head_names()
    true = rng.integers(0, 8, (images, classes)) * rng.integers(0, 2, (images, classes))
    if rng.random() < 0.4:
        true[:, -1] = 0
    true[0, 0] += 3
    both = rng.binomial(true[:, None], rng.uniform(0.2, 1, (1, len(names), 1)))
    wrong = rng.integers(0, 4, both.shape) * (rng.random(both.shape) < 0.4)
    if rng.random() < 0.5:
        wrong[:, :, -1] = 0
    return Statistics(
        images=tuple(f"image_{i}" for i in range(images)),
        groups=tuple(f"scene_{i // 2}" for i in range(images)),
        parts=("calibration",) * calibration + ("report",) * report,
        heads=names,
        classes=spec.classes,
        true_area=true,
        predicted_area=both + wrong,
        intersection=both,
        confidence={
            policy: (rng.integers(1, levels + 1, (images, len(names))) / levels).astype(
                np.float32
            )
            for policy in POLICIES[:policies]
        },
        source="drawn",
    )


def plain_figures(
    statistics: Statistics,
    spec: SupernetSpec,
    latency_ms: Mapping[str, float],
    configuration: Configuration,
    images: list[int],
) -> tuple[float, float, float]:
    """Mean latency, p90 latency and mIoU, one image and one piece at a time."""
    sums = np.zeros((2, len(statistics.classes)))
    times = []
    for image in images:
        spent, done = 0.0, 0
        for position, choice in enumerate(configuration.exits):
            for index in range(done + 1, choice.exit + 1):
                spent += latency_ms[segment_name(index)]
            done = choice.exit
            spent += latency_ms[head_name(choice.exit, choice.head)]
            head = statistics.heads.index((choice.exit, choice.head))
            size = spec.head_size(choice.exit, HeadSpec.parse(choice.head))
            last = position == len(configuration.exits) - 1
            if not last:
                assert choice.policy is not None
                spent += latency_ms[decision_name(choice.policy, size)]
            if last or (
                statistics.confidence[choice.policy][image, head] >= choice.threshold
            ):
                spent += latency_ms.get(output_name(size), 0.0)
                both = statistics.intersection[image, head]
                sums[0] += both
                sums[1] += statistics.true_area[image]
                sums[1] += statistics.predicted_area[image, head] - both
                break
        times.append(spent)
    iou = [i / u for i, u in sums.T if u > 0]
    ordered = sorted(times)
    enough = next(t for n, t in enumerate(ordered, 1) if 10 * n >= 9 * len(ordered))
    return sum(times) / len(times), enough, sum(iou) / len(iou)


def tiny_bytes(
    spec: SupernetSpec, rng: np.random.Generator
) -> tuple[dict[str, float], dict[str, float]]:
    """Size and peak memory of every piece, whole numbers of millions of bytes."""
    names = list(tiny_latencies(spec, rng))
    sizes, peaks = (rng.integers(1, 9, len(names)) * 1e6 for _ in range(2))
    return (
        dict(zip(names, sizes.tolist(), strict=True)),
        dict(zip(names, peaks.tolist(), strict=True)),
    )


def plain_takes(
    spec: SupernetSpec,
    sizes: Mapping[str, float],
    peaks: Mapping[str, float],
    configuration: Configuration,
) -> tuple[float, float]:
    """Megabytes on disk and at the peak, piece by piece."""
    names = []
    for index in range(1, configuration.exits[-1].exit + 1):
        names.append(segment_name(index))
    for choice in configuration.exits:
        size = spec.head_size(choice.exit, HeadSpec.parse(choice.head))
        names += [head_name(choice.exit, choice.head), output_name(size)]
        if choice.policy is not None:
            names.append(decision_name(choice.policy, size))
    kept = [(sizes.get(n, 0.0), peaks.get(n, 0.0)) for n in names]
    return sum(s for s, _ in kept) / 1e6, max(p for _, p in kept) / 1e6


def all_configurations(
    statistics: Statistics, spec: SupernetSpec, max_early: int
) -> Iterator[Configuration]:
    """Every chain with every policy and every cut between different confidences."""
    images = [i for i, p in enumerate(statistics.parts) if p == "calibration"]
    early: dict[int, list[ExitChoice]] = {}
    last: dict[int, list[ExitChoice]] = {}
    for index, (exit_index, head) in enumerate(statistics.heads):
        last.setdefault(exit_index, []).append(ExitChoice(exit_index, head))
        for policy, values in statistics.confidence.items():
            told = values[images, index].tolist()
            levels = sorted({level for level in told if not np.isnan(level)})
            for low, high in itertools.pairwise(levels):
                early.setdefault(exit_index, []).append(
                    ExitChoice(exit_index, head, policy, (low + high) / 2)
                )
    for count in range(max_early + 1):
        for exits in itertools.combinations(sorted(last), count + 1):
            choices = [*(early.get(e, []) for e in exits[:-1]), last[exits[-1]]]
            for chain in itertools.product(*choices):
                yield Configuration(tuple(chain))


def draw_problem(
    seed: int, heads_per_exit: tuple[int, ...], images: int = 30, levels: int = 12
) -> Problem:
    """The solver's arrays of a small case that is drawn, calibration images only."""
    rng = np.random.default_rng(seed)
    spec = tiny_spec(heads_per_exit, classes=int(rng.integers(2, 6)))
    statistics = tiny_statistics(spec, rng, images, 0, 2, levels)
    return Problem.build(statistics, spec, tiny_latencies(spec, rng), 12)


def stopped_clock(looks: int) -> Callable[[], float]:
    """A clock that shows 0 s for some looks, and then that all time has passed.

    So a search is interrupted at the same point whatever the machine's speed.
    """
    counter = itertools.count()
    return lambda: 0.0 if next(counter) < looks else math.inf
