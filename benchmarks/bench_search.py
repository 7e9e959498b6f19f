"""The proven optimum of the whole space: how long it takes, what gap is left.

    python benchmarks/bench_search.py --size voc --early 1 2 3 --rivals
    python benchmarks/bench_search.py --size coco --early 1 2
    python benchmarks/bench_search.py --front --size camvid
    python benchmarks/bench_search.py --statistics runs/x/statistics/int8.npz \
        --supernet runs/x/supernet.json --latencies latencies.json

Sizes: ``camvid`` (104 images, 11 classes, 8 heads per exit), ``voc`` (1,449 images, 21
classes, 56 heads) and ``coco`` (5,000 images, otherwise as voc); five early exits and a
final one, 22 policies (mean, entropy, Eq. 7 without and with Eq. 9 at ten pixel
thresholds) and 20 image thresholds each. What is drawn, and how, stands in
``drawn_statistics.py``. ``--latencies`` is JSON: milliseconds by piece name.

``cpu_s`` is processor time of all threads, ``peak_MB`` the process's so far.
``--rivals`` gives random search, evolutionary search and greedy the wall-clock time
that the exact search took.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from drawn_statistics import draw_latencies, draw_spec, draw_statistics
from search_rivals import Rivals

from mess_tf.core.latency import PathLatency
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import SupernetSpec
from search.evaluation import final_configuration
from search.parameters import SearchParameters
from search.pareto import hypervolume, pareto_front
from search.problem import Problem
from search.solver.branch_and_bound import BranchAndBound, Progress
from search.solver.space import space_size
from search.solver.target import Target

SIZES = {"camvid": (104, 11, 8), "voc": (1449, 21, 56), "coco": (5000, 21, 56)}
EXITS = 5
PIXEL_THRESHOLDS = 10


def main() -> None:
    args = _arguments()
    statistics, spec, latency_ms = _inputs(args)
    if args.front:
        _front(statistics, spec, latency_ms, args)
        return
    start = time.monotonic()
    problem = Problem.build(statistics, spec, latency_ms, args.thresholds)
    print(
        f"{problem.images} calibration images, {problem.union.shape[2]} classes,"
        f" {len(problem.heads)} heads, {sum(map(len, problem.gates))} different gates"
        f" ({sum(g.grid_size for g in problem.gates)} before equal ones were merged);"
        f" arrays made in {time.monotonic() - start:.1f} s"
    )
    exits = len(set(problem.exit_of.tolist()))
    print(f"whole space, any number of exits: {space_size(problem, exits - 1):.2e}")
    print(
        "early drop_pp    space  found_ms  bound_ms  gap_ms proven static_ms   wall_s"
        "    cpu_s  peak_MB  nodes"
    )
    for early in args.early:
        for drop in args.drop:
            _exact(problem, early, drop, args)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", choices=SIZES, default="camvid")
    parser.add_argument("--images", type=int, help="calibration images, if not size's")
    parser.add_argument("--heads", type=int, help="per early exit, if not the size's")
    parser.add_argument("--thresholds", type=int, default=20, help="per policy")
    parser.add_argument("--early", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--drop", type=float, nargs="+", default=[1.0])
    parser.add_argument("--limit", type=float, default=120.0, help="seconds per search")
    parser.add_argument("--trace", type=float, nargs="*", default=[10.0, 60.0])
    parser.add_argument("--rivals", action="store_true")
    parser.add_argument("--front", action="store_true", help="the Pareto front instead")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--statistics", type=Path, help="of a run, instead of drawn")
    parser.add_argument("--supernet", type=Path, help="supernet.json of that run")
    parser.add_argument("--latencies", type=Path, help="ms by piece name, JSON")
    args = parser.parse_args()
    given = [args.statistics, args.supernet, args.latencies]
    if any(given) and not all(given):
        parser.error("--statistics, --supernet and --latencies belong together")
    return args


def _inputs(
    args: argparse.Namespace,
) -> tuple[Statistics, SupernetSpec, Mapping[str, float]]:
    if args.statistics:
        spec = SupernetSpec.load(args.supernet)
        latency_ms = json.loads(args.latencies.read_text(encoding="utf-8"))
        return Statistics.load(args.statistics), spec, latency_ms
    images, classes, heads = SIZES[args.size]
    spec = draw_spec(EXITS, args.heads or heads, classes)
    images = args.images or images
    scenes = 12 if args.size == "camvid" else 0
    statistics = draw_statistics(
        spec, images, images // 4, PIXEL_THRESHOLDS, args.seed, scenes
    )
    return statistics, spec, draw_latencies(spec, args.seed)


class _Trace:
    """Prints the gap at some moments of a search."""

    def __init__(self, moments: list[float]) -> None:
        self._moments = sorted(moments)

    def __call__(self, state: Progress) -> None:
        while self._moments and state.elapsed_s >= self._moments[0]:
            self._moments.pop(0)
            value = "nothing" if state.value is None else f"{state.value:.4f}"
            print(
                f"      after {state.elapsed_s:5.1f} s: found {value}, bound"
                f" {state.bound:.4f}, {state.nodes} nodes",
                flush=True,
            )


def _exact(problem: Problem, early: int, drop: float, args: argparse.Namespace) -> None:
    """One search, its row, and what the rivals find in the same time."""
    min_miou = problem.reference_miou - drop / 100
    target = Target(minimise_latency=True, min_miou=min_miou)
    start, start_cpu = time.monotonic(), time.process_time()
    search = BranchAndBound(
        problem, target, early, start + args.limit, _Trace(args.trace)
    )
    found = search.run()
    wall, cpu = time.monotonic() - start, time.process_time() - start_cpu
    static = BranchAndBound(problem, target, 0, float("inf")).run()
    if found.incumbent is None or static.incumbent is None:
        sys.exit(f"nothing keeps a drop of {drop} pp")
    value = found.incumbent.latency_ms
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{early:5d} {drop:7.1f} {space_size(problem, early):8.2e} {value:9.4f}"
        f" {found.bound:9.4f} {value - found.bound:7.4f} {found.proven!s:>6s}"
        f" {static.incumbent.latency_ms:9.4f} {wall:8.1f} {cpu:8.1f} {peak:8.0f}"
        f" {found.nodes:6d}",
        flush=True,
    )
    if not args.rivals:
        return
    for name in ("random", "evolve", "greedy"):
        rivals = Rivals(problem, min_miou, early, wall, args.seed)
        best = getattr(rivals, name)()
        print(
            f"      {name:7s} {best.latency_ms:9.4f} ms"
            f" ({best.latency_ms / value - 1:+.2%}), found after"
            f" {best.after_s:.1f} s, {best.tried} tried",
            flush=True,
        )


def _front(
    statistics: Statistics,
    spec: SupernetSpec,
    latency_ms: Mapping[str, float],
    args: argparse.Namespace,
) -> None:
    start, start_cpu = time.monotonic(), time.process_time()
    front = pareto_front(
        statistics,
        spec,
        latency_ms,
        SearchParameters(
            max_early_exits=max(args.early),
            time_limit_s=args.limit,
            thresholds_per_policy=args.thresholds,
        ),
    )
    wall, cpu = time.monotonic() - start, time.process_time() - start_cpu
    print("mean_ms   mIoU    budget_ms  proven")
    for point in front:
        seen = point.outcome.calibration
        print(
            f"{seen.mean_ms:7.3f} {seen.miou:.4f} {point.budget_ms:9.3f}"
            f"  {point.proven}"
        )
    final_ms = PathLatency(spec, latency_ms).path_ms(final_configuration(spec))[0]
    points = [
        (p.outcome.calibration.mean_ms, p.outcome.calibration.miou) for p in front
    ]
    print(
        f"{len(front)} points in {wall:.1f} s ({cpu:.1f} s of processor time);"
        f" hypervolume up to the final exit's {final_ms:.2f} ms:"
        f" {hypervolume(points, float(final_ms)):.4f}"
    )


if __name__ == "__main__":
    main()
