"""How long the exact search takes, and what gap is left, on realistic statistics.

    python benchmarks/bench_search.py --exits 5 --heads 8 --images 100 --drop 1

The statistics are drawn: images of one latent difficulty per class and scene, heads
whose quality grows with depth, confidences that follow quality loosely and agree among
policies. Times are wall-clock on the machine at hand.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from mess_tf.records import (
    ExitPoint,
    HeadSpec,
    Preprocessing,
    Statistics,
    SupernetSpec,
    decision_name,
    head_name,
    output_name,
    segment_name,
)

_HEADS = [
    HeadSpec(kind, reduction, blocks)
    for blocks in (0, 1, 2)
    for reduction in (1, 2, 4, 8)
    for kind in ("fcn", "dlb")
]


def draw_spec(exits: int, heads: int, classes: int) -> SupernetSpec:
    """A network of ``exits`` early exit points and a final one at 240x320."""
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
        heads=tuple(tuple(_HEADS[:heads]) for _ in points),
        output_stride_of_logits=8,
        head_options={},
        preprocessing=Preprocessing(),
    )


def draw_statistics(
    spec: SupernetSpec, images: int, policies: int, seed: int
) -> Statistics:
    """Statistics of 2 x ``images`` images, half for calibration, half to report on."""
    rng = np.random.default_rng(seed)
    names = spec.head_names()
    total, classes = 2 * images, len(spec.classes)
    scene = np.arange(total) // max(1, total // 12)
    share = rng.dirichlet(np.linspace(3, 0.15, classes), total)
    share *= rng.random((total, classes)) < 0.85
    pixels = 240 * 320
    true = np.round(share / share.sum(1, keepdims=True) * pixels).astype(np.int64)
    hardness = 0.6 * rng.normal(size=scene.max() + 1)[scene] + 0.8 * rng.normal(
        size=total
    )
    class_level = rng.normal(0, 0.9, classes)
    depth = len(spec.exit_points)
    both = np.zeros((total, len(names), classes), np.int64)
    quality = np.zeros((total, len(names)))
    for h, (exit_index, head) in enumerate(names):
        early = 1 - exit_index / depth
        kind = HeadSpec.parse(head)
        better = 0.06 * (kind.kind == "dlb") + 0.03 * kind.blocks
        skill = 1.75 - 1.1 * early**1.7 + better - 0.02 * kind.reduction
        skill += 0.12 * ((exit_index, head) == names[-len(spec.heads[-1])])
        own = rng.normal(0, 0.25, (total, classes)) + rng.normal(0, 0.06, classes)
        harm = (0.45 + 0.5 * early) * hardness[:, None]
        both[:, h] = np.round(true / (1 + np.exp(-(skill + class_level - harm + own))))
        quality[:, h] = both[:, h].sum(1) / true.sum(1)
    missed = (true[:, None] - both).sum(-1)
    spread = rng.dirichlet(np.full(classes, 2.0), len(names))
    wrong = np.round(missed[:, :, None] * (0.5 * spread + 0.5 * share.mean(0)))
    confidence = {}
    for p in range(policies):
        family = ("mean", "eq7", "eq7+9")[min(p, 1 + p % 2)]
        key = family if p == 0 else f"{family}@{0.5 + 0.49 * p / policies:.3f}"
        noise = rng.normal(0, 0.02 + 0.03 * p / policies, quality.shape)
        shared = np.random.default_rng(seed + 1).normal(0, 0.05, quality.shape)
        confidence[key] = np.clip(quality + shared + noise, 0, 1).astype(np.float32)
    return Statistics(
        images=tuple(f"image_{i}" for i in range(total)),
        groups=tuple(f"scene_{s}" for s in scene),
        parts=tuple("report" if s % 2 else "calibration" for s in scene),
        heads=names,
        classes=spec.classes,
        true_area=true,
        predicted_area=both + wrong.astype(np.int64),
        intersection=both,
        confidence=confidence,
        source="drawn",
    )


def draw_latencies(spec: SupernetSpec, seed: int) -> dict[str, float]:
    """Milliseconds in the proportions that were seen on a phone-sized network."""
    rng = np.random.default_rng(seed)
    table = {}
    steps = [2.6, 0.5, 0.6, 1.1, 2.0, 4.0]
    for point in spec.exit_points:
        table[segment_name(point.index)] = steps[(point.index - 1) % len(steps)]
    for exit_index, head in spec.head_names():
        head_spec = HeadSpec.parse(head)
        work = (1 + 1.5 * head_spec.blocks) / head_spec.reduction
        ms = 0.15 + 0.5 * work + (0.6 if head_spec.kind == "dlb" else 0)
        table[head_name(exit_index, head)] = ms * float(rng.uniform(0.9, 1.1))
        size = spec.head_size(exit_index, head_spec)
        cells = size[0] * size[1]
        table[output_name(size)] = 0.05 + cells / 40_000
        for family, factor in (("mean", 1.0), ("eq7", 1.1), ("eq7+9", 3.0)):
            table[decision_name(family, size)] = factor * (0.02 + cells / 50_000)
    return table


def main() -> None:
    from search.requirement import Requirement
    from search.run import search

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--exits", type=int, default=5, help="early exit points")
    parser.add_argument("--heads", type=int, default=8, help="heads per exit point")
    parser.add_argument("--images", type=int, default=100, help="calibration images")
    parser.add_argument("--classes", type=int, default=11)
    parser.add_argument("--policies", type=int, default=20)
    parser.add_argument("--thresholds", type=int, default=24, help="per policy")
    parser.add_argument("--early", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--drop", type=float, nargs="+", default=[0.0, 1.0, 2.0])
    parser.add_argument("--limit", type=float, default=120.0, help="seconds per search")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    spec = draw_spec(args.exits, args.heads, args.classes)
    statistics = draw_statistics(spec, args.images, args.policies, args.seed)
    latency_ms = draw_latencies(spec, args.seed)
    print(
        "early  drop_pp  space     found_ms  bound_ms  gap_ms  static_ms  time_s  cpu_s"
    )
    for early in args.early:
        for drop in args.drop:
            start, start_cpu = time.monotonic(), time.process_time()
            result = search(
                statistics,
                spec,
                latency_ms,
                Requirement(max_drop_pp=drop),
                max_early_exits=early,
                time_limit_s=args.limit,
                thresholds_per_policy=args.thresholds,
            )
            took = time.monotonic() - start
            cpu = time.process_time() - start_cpu
            static = result.best_static.calibration.mean_ms
            print(
                f"{early:5d} {drop:8.1f}  {result.space_size:8.2e} {result.value:9.4f}"
                f" {result.bound:9.4f} {result.gap:7.4f} {static:10.4f} {took:8.1f}"
                f" {cpu:8.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
