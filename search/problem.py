"""The search's arrays: what leaves at each gate, what each head answers and costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mess_tf.errors import MessError
from mess_tf.records import Configuration, ExitChoice, Statistics, SupernetSpec
from search.costs import PieceCosts
from search.evaluate import final_configuration, head_index, miou_of, part_images

# Confidences closer than this are one value: no threshold between them would survive
# the deployed graph's own rounding.
MIN_CONFIDENCE_GAP = 1e-6
_LARGEST_AREA = 1 << 24


@dataclass(frozen=True, eq=False)
class Gates:
    """All different ways to let images leave at one head.

    Attributes:
        masks: bool array of shape (G, I), True where the image would leave.
        policies: per gate, the policy key.
        thresholds: float64 array of shape (G,).
        decision_ms: float64 array of shape (G,), cost of asking.
        grid_size: policy and threshold pairs before equal masks were merged and those
            that let none or all leave were dropped.
    """

    masks: np.ndarray
    policies: tuple[str, ...]
    thresholds: np.ndarray
    decision_ms: np.ndarray
    grid_size: int

    def __len__(self) -> int:
        return len(self.policies)


@dataclass(frozen=True, eq=False)
class Problem:
    """Everything the search may look at: the calibration images alone.

    H heads, I images, C classes. Areas are float32, which holds an image's pixels
    exactly (they are below 2^24); sums over images are taken in float64.

    Attributes:
        heads: (exit index, head id), H of them, in order of depth.
        exit_of: int64 array of shape (H,), 1-based exit index.
        segments_ms: float64 array of shape (H,), backbone up to the head's exit point.
        head_ms: float64 array of shape (H,).
        output_ms: float64 array of shape (H,), paid where the head answers.
        gates: per head.
        intersection: float32 array of shape (H, I, C).
        union: float32 array of shape (H, I, C).
        labelled: bool array of shape (C,), classes that the labels contain.
        reference: index of the final head.
    """

    heads: tuple[tuple[int, str], ...]
    exit_of: np.ndarray
    segments_ms: np.ndarray
    head_ms: np.ndarray
    output_ms: np.ndarray
    gates: tuple[Gates, ...]
    intersection: np.ndarray
    union: np.ndarray
    labelled: np.ndarray
    reference: int

    @classmethod
    def build(
        cls,
        statistics: Statistics,
        spec: SupernetSpec,
        latency_ms: Mapping[str, float],
        thresholds_per_policy: int = 24,
        with_gates: bool = True,
    ) -> Problem:
        """Reads the calibration images' statistics and the latencies.

        Args:
            thresholds_per_policy: at most so many thresholds per head and policy, at
                evenly spread numbers of leaving images.
            with_gates: False leaves the decisions out (single exits only).

        Raises:
            MessError: no calibration image or label, a head or a latency is missing, or
                a confidence is not a number.
        """
        if thresholds_per_policy < 1:
            raise MessError(
                f"thresholds_per_policy is {thresholds_per_policy}; it must be at least"
                " 1."
            )
        images = part_images(statistics, "calibration")
        if not len(images):
            raise MessError(
                "The statistics have no image of the part 'calibration'; run"
                " `mess evaluate` with a calibration part."
            )
        true = statistics.true_area[images]
        labelled = true.sum(0) > 0
        if not labelled.any():
            raise MessError(
                "The calibration images have no labelled pixel; check their masks."
            )
        both = statistics.intersection[images].swapaxes(0, 1)
        union = true[None] + statistics.predicted_area[images].swapaxes(0, 1) - both
        if union.max() >= _LARGEST_AREA:
            raise MessError(
                f"An image has {union.max()} pixels; the search takes images of fewer"
                f" than {_LARGEST_AREA}."
            )
        if (both < 0).any() or (union < true).any():
            raise MessError(
                "The statistics contradict themselves (an intersection larger than the"
                " predicted area, or negative); run `mess evaluate` again."
            )
        costs = PieceCosts(spec, latency_ms)
        heads = statistics.heads
        deepest = spec.exit_points[-1].index
        return cls(
            heads=heads,
            exit_of=np.array([e for e, _ in heads]),
            segments_ms=np.array([costs.segments(e) for e, _ in heads]),
            head_ms=np.array([costs.head(*h) for h in heads]),
            output_ms=np.array([costs.output(*h) for h in heads]),
            gates=tuple(
                _gates(statistics, images, costs, h, thresholds_per_policy)
                if with_gates and heads[h][0] != deepest
                else _no_gates(len(images))
                for h in range(len(heads))
            ),
            intersection=both.astype(np.float32),
            union=union.astype(np.float32),
            labelled=labelled,
            reference=head_index(statistics, final_configuration(spec).exits[0]),
        )

    @property
    def images(self) -> int:
        return self.union.shape[1]

    @property
    def reference_miou(self) -> float:
        """Data-set mIoU of the final head alone, 0..1."""
        chosen = self.reference
        areas = (
            area[chosen].sum(0, dtype=np.float64)
            for area in (self.intersection, self.union)
        )
        return float(miou_of(*areas))

    def path_ms(self, heads: tuple[int, ...]) -> np.ndarray:
        """Cost of leaving at each head of a chain, its decisions left out.

        Returns:
            float64 array of shape (n_heads,), milliseconds.
        """
        chain = list(heads)
        return (
            self.segments_ms[chain]
            + np.cumsum(self.head_ms[chain])
            + self.output_ms[chain]
        )

    def configuration(
        self, heads: tuple[int, ...], gates: tuple[int, ...]
    ) -> Configuration:
        """The record of a chain of heads with a gate on each but the last."""
        early = (
            ExitChoice(
                *self.heads[h],
                self.gates[h].policies[g],
                float(self.gates[h].thresholds[g]),
            )
            for h, g in zip(heads, gates, strict=False)
        )
        return Configuration((*early, ExitChoice(*self.heads[heads[-1]])))


def _no_gates(images: int) -> Gates:
    empty = np.zeros(0)
    return Gates(np.zeros((0, images), bool), (), empty, empty, 0)


def _gates(
    statistics: Statistics,
    images: np.ndarray,
    costs: PieceCosts,
    head: int,
    limit: int,
) -> Gates:
    """A head's gates; of those that let the same images leave, the cheapest is kept.

    That is exact: with the same images leaving, a cheaper decision slows no image.
    """
    masks, policies, cuts, prices = [], [], [], []
    for policy, values in statistics.confidence.items():
        confidence = values[:, head].astype(np.float64)
        missing = np.isnan(confidence)
        if missing.all():
            continue
        if missing.any():
            raise MessError(
                f"Policy {policy!r} has no confidence for head {statistics.heads[head]}"
                f" on image {statistics.images[int(missing.argmax())]!r}, though it has"
                " for others; run `mess evaluate` again."
            )
        thresholds = choose_thresholds(confidence[images], limit)
        masks.append(confidence[images] >= thresholds[:, None])
        policies += [policy] * len(thresholds)
        cuts.append(thresholds)
        price = costs.decision(*statistics.heads[head], policy)
        prices.append(np.full(len(thresholds), price))
    if not policies:
        return _no_gates(len(images))
    mask, price, cut = (np.concatenate(rows) for rows in (masks, prices, cuts))
    kept = _cheapest(mask, price)
    return Gates(
        masks=mask[kept],
        policies=tuple(policies[g] for g in kept),
        thresholds=cut[kept],
        decision_ms=price[kept],
        grid_size=len(mask),
    )


def _cheapest(masks: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """Of rows that are alike, the index of the cheapest (the first of equal ones)."""
    packed = np.packbits(masks, axis=1)
    keys = np.ascontiguousarray(packed).view(f"V{packed.shape[1]}").ravel()
    order = np.argsort(prices, kind="stable")
    _, first = np.unique(keys[order], return_index=True)
    return np.sort(order[first])


def choose_thresholds(confidence: np.ndarray, limit: int) -> np.ndarray:
    """Thresholds midway between neighbouring different confidences.

    Midway, so that the deployed graph's rounding moves no calibration image to the
    other side. None lets all or no image leave: the first is a configuration that ends
    here, the second one without this exit, both cheaper.

    Args:
        confidence: float64 array of shape (I,).
        limit: if there are more, those nearest to ``limit`` evenly spread numbers of
            leaving images are taken.

    Returns:
        float64 array, falling (ever more images leave); its values are float32 numbers,
        as the deployed graph compares them: an image right at a threshold, of the
        report part or in use, must leave there too.
    """
    values = np.sort(confidence)[::-1]
    leaving = np.flatnonzero(values[:-1] - values[1:] > MIN_CONFIDENCE_GAP) + 1
    if len(leaving) > limit:
        wanted = np.arange(1, limit + 1) * len(values) / (limit + 1)
        nearest = np.abs(leaving[None] - wanted[:, None]).argmin(1)
        leaving = leaving[np.unique(nearest)]
    middle = (values[leaving - 1] + values[leaving]) / 2
    return middle.astype(np.float32).astype(np.float64)
