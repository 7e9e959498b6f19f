"""Arrays of one search: gates' masks, heads' class areas, latencies and sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.errors import MessError
from mess_tf.core.latency import PathLatency
from mess_tf.core.piece_names import decision_name, segment_name
from mess_tf.core.routing import head_index
from mess_tf.core.segmentation_metrics import mean_iou_of_sums
from mess_tf.core.statistics import Statistics, part_images
from mess_tf.core.supernet_spec import HeadSpec, SupernetSpec
from search.evaluation import final_configuration
from search.resources import MB, Resources, head_pieces

# Confidences closer than this are one value: no threshold between them would survive
# the deployed graph's own rounding.
MIN_CONFIDENCE_GAP = 1e-6
_LARGEST_AREA = 1 << 24


@dataclass(frozen=True, eq=False)
class Gates:
    """Gates of one head: policies and thresholds with different sets of leaving images.

    Attributes:
        masks: bool array of shape (G, I), True where the image would leave.
        policies: per gate, the policy key.
        thresholds: float64 array of shape (G,).
        decision_ms: float64 array of shape (G,), cost of the decision.
        decision_bytes: float64 array of shape (G,), size of the decision's piece.
        grid_size: policy and threshold pairs before equal masks were merged and those
            that let none or all leave were dropped.
        parameters: per policy key, the head's own numbers; empty for most.
    """

    masks: np.ndarray
    policies: tuple[str, ...]
    thresholds: np.ndarray
    decision_ms: np.ndarray
    decision_bytes: np.ndarray
    grid_size: int
    parameters: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.policies)


@dataclass(frozen=True, eq=False)
class Problem:
    """Input of the solver, on the calibration images alone.

    H heads, I images, C classes. Areas are float32, which holds an image's pixels
    exactly (they are below 2^24); sums over images are taken in float64.

    Attributes:
        heads: (exit index, head id), H of them, in order of depth.
        exit_of: int64 array of shape (H,), 1-based exit index.
        segments_ms: float64 array of shape (H,), backbone up to the head's exit point.
        head_ms: float64 array of shape (H,).
        output_ms: float64 array of shape (H,), paid where the head answers.
        segments_bytes: float64 array of shape (H,), files of the backbone up to there.
        head_bytes: float64 array of shape (H,), files of the head and its output step.
        gates: per head.
        intersection: float32 array of shape (H, I, C).
        union: float32 array of shape (H, I, C).
        labelled: bool array of shape (C,), classes that the labels contain.
        reference: index of the final head; of the deepest allowed one where memory
            excludes it.
        reference_miou: data-set mIoU of the final head alone, 0..1.
    """

    heads: tuple[tuple[int, str], ...]
    exit_of: np.ndarray
    segments_ms: np.ndarray
    head_ms: np.ndarray
    output_ms: np.ndarray
    segments_bytes: np.ndarray
    head_bytes: np.ndarray
    gates: tuple[Gates, ...]
    intersection: np.ndarray
    union: np.ndarray
    labelled: np.ndarray
    reference: int
    reference_miou: float

    @classmethod
    def build(
        cls,
        statistics: Statistics,
        spec: SupernetSpec,
        latency_ms: Mapping[str, float],
        thresholds_per_policy: int = 24,
        with_gates: bool = True,
        resources: Resources | None = None,
        max_peak_bytes: float = math.inf,
    ) -> Problem:
        """Reads the calibration images' statistics and the latencies.

        Args:
            thresholds_per_policy: at most so many thresholds per head and policy, at
                evenly spread numbers of leaving images.
            with_gates: False leaves the decisions out (single exits only).
            resources: bytes of the pieces, where size or memory is limited.
            max_peak_bytes: heads and decisions that need more memory are left out.

        Raises:
            MessError: no calibration image or label, a head or a latency is missing, a
                confidence is not a number, or every head needs too much memory.
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
        reference = head_index(statistics, final_configuration(spec).exits[0])
        reference_miou = float(
            mean_iou_of_sums(
                *(a[reference].sum(0, dtype=np.float64) for a in (both, union))
            )
        )
        bytes_ = _Bytes(spec, resources or Resources(), max_peak_bytes)
        kept = [h for h, name in enumerate(statistics.heads) if bytes_.fits(*name)]
        if not kept:
            raise MessError(
                "Every head needs more memory than the"
                f" {max_peak_bytes / MB:g} MB allowed; raise max_memory_mb."
            )
        costs = PathLatency(spec, latency_ms)
        heads = tuple(statistics.heads[h] for h in kept)
        deepest = spec.exit_points[-1].index
        none = _no_gates(len(images))
        return cls(
            heads=heads,
            exit_of=np.array([e for e, _ in heads]),
            segments_ms=np.array([costs.segments_ms(e) for e, _ in heads]),
            head_ms=np.array([costs.head_ms(*h) for h in heads]),
            output_ms=np.array([costs.output_ms(*h) for h in heads]),
            segments_bytes=np.array([bytes_.segments(e) for e, _ in heads]),
            head_bytes=np.array([bytes_.head(*h) for h in heads]),
            gates=tuple(
                _gates(statistics, images, costs, bytes_, h, thresholds_per_policy)
                if with_gates and statistics.heads[h][0] != deepest
                else none
                for h in kept
            ),
            intersection=both[kept].astype(np.float32),
            union=union[kept].astype(np.float32),
            labelled=labelled,
            reference=kept.index(reference) if reference in kept else len(kept) - 1,
            reference_miou=reference_miou,
        )

    @property
    def images(self) -> int:
        return self.union.shape[1]

    def size_of(self, heads: tuple[int, ...], gates: np.ndarray) -> np.ndarray:
        """Bytes of the pieces of configurations that share their heads, shape (B,).

        Args:
            gates: int64 array of shape (B, n_heads - 1).
        """
        fixed = self.segments_bytes[heads[-1]] + self.head_bytes[list(heads)].sum()
        size = np.full(len(gates), fixed)
        for position, head in enumerate(heads[:-1]):
            size = size + self.gates[head].decision_bytes[gates[:, position]]
        return size

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
                self.gates[h].parameters[self.gates[h].policies[g]],
            )
            for h, g in zip(heads, gates, strict=False)
        )
        return Configuration((*early, ExitChoice(*self.heads[heads[-1]])))


def _no_gates(images: int) -> Gates:
    empty = np.zeros(0)
    return Gates(np.zeros((0, images), bool), (), empty, empty, empty, 0)


@dataclass(frozen=True)
class _Bytes:
    """Bytes of pieces, summed the way a head needs them."""

    spec: SupernetSpec
    resources: Resources
    max_peak_bytes: float

    def fits(self, exit_index: int, head: str) -> bool:
        """Whether the backbone up to here, the head and its output fit in memory."""
        names = [segment_name(i) for i in range(1, exit_index + 1)]
        return self._fit(names + head_pieces(self.spec, exit_index, head))

    def decision_fits(self, exit_index: int, head: str, policy: str) -> bool:
        return self._fit([self._decision(exit_index, head, policy)])

    def segments(self, exit_index: int) -> float:
        return self._size([segment_name(i) for i in range(1, exit_index + 1)])

    def head(self, exit_index: int, head: str) -> float:
        return self._size(head_pieces(self.spec, exit_index, head))

    def decision(self, exit_index: int, head: str, policy: str) -> float:
        return self._size([self._decision(exit_index, head, policy)])

    def _decision(self, exit_index: int, head: str, policy: str) -> str:
        grid = self.spec.head_size(exit_index, HeadSpec.parse(head))
        return decision_name(policy, grid)

    def _size(self, names: list[str]) -> float:
        return float(sum(self.resources.size_bytes.get(n, 0.0) for n in names))

    def _fit(self, names: list[str]) -> bool:
        peaks = self.resources.peak_bytes
        return all(peaks.get(n, 0.0) <= self.max_peak_bytes for n in names)


def _gates(
    statistics: Statistics,
    images: np.ndarray,
    costs: PathLatency,
    bytes_: _Bytes,
    head: int,
    limit: int,
) -> Gates:
    """A head's gates; of those that let the same images leave, the cheapest is kept.

    That is exact: with the same images leaving, a cheaper decision slows no image.
    """
    name = statistics.heads[head]
    masks, policies, cuts, prices, sizes = [], [], [], [], []
    for policy, values in statistics.confidence.items():
        confidence = values[:, head].astype(np.float64)
        missing = np.isnan(confidence)
        if missing.all() or not bytes_.decision_fits(*name, policy):
            continue
        if missing.any():
            raise MessError(
                f"Policy {policy!r} has no confidence for head {name}"
                f" on image {statistics.images[int(missing.argmax())]!r}, though it has"
                " for others; run `mess evaluate` again."
            )
        thresholds = choose_thresholds(confidence[images], limit)
        masks.append(confidence[images] >= thresholds[:, None])
        policies += [policy] * len(thresholds)
        cuts.append(thresholds)
        prices.append(np.full(len(thresholds), costs.decision_ms(*name, policy)))
        sizes.append(np.full(len(thresholds), bytes_.decision(*name, policy)))
    if not policies:
        return _no_gates(len(images))
    mask, price, cut, size = (
        np.concatenate(rows) for rows in (masks, prices, cuts, sizes)
    )
    kept = _cheapest(mask, price, size)
    return Gates(
        masks=mask[kept],
        policies=tuple(policies[g] for g in kept),
        thresholds=cut[kept],
        decision_ms=price[kept],
        decision_bytes=size[kept],
        grid_size=len(mask),
        parameters={p: statistics.parameters_of(p, head) for p in set(policies)},
    )


def _cheapest(masks: np.ndarray, prices: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Of rows alike in mask and size, the cheapest (the first of equal ones)."""
    size = sizes.reshape(-1, 1).view(np.uint8).reshape(len(sizes), -1)
    packed = np.concatenate([np.packbits(masks, axis=1), size], axis=1)
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
