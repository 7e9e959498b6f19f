"""What thresholds promise and keep where they were not chosen.

    python benchmarks/bench_thresholds.py --drop 1 2
    python benchmarks/bench_thresholds.py --statistics runs/x/statistics/int8.npz \
        --supernet runs/x/supernet.json --latencies latencies.json

Leave one sequence out: each group of the calibration part in turn is kept aside, a
configuration is chosen on the others, and tried on it. Ways of choosing:

- ``plain``: the optimum on the others;
- ``rate``: the same, its thresholds moved so that the same shares of the left-out
  sequence leave (its confidences are looked at, its labels are not);
- ``worst-group``, ``left-out``, ``upper-bound``: robust choices (``search.robust``);
- ``static``: the best single exit, which has no threshold.

``promised`` is on the images it was chosen on, ``kept`` on all left-out images together
(each answered by the choice that has not seen it); ``groups`` counts the sequences on
which the drop stays within the limit. ``fell back`` counts choices that could not be
made robust, where the final exit was taken. Without files the statistics are drawn: 16
sequences that differ in difficulty, and with ``--shift 0.5`` also in how sure the heads
are of what they know.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from drawn_statistics import draw_latencies, draw_spec, draw_statistics

from mess_tf.errors import MessError
from mess_tf.records import Configuration, Statistics, SupernetSpec
from search.evaluate import Evaluation, final_configuration, part_images
from search.parts import calibration_groups, with_parts, without_group
from search.refit import refit
from search.requirement import ROBUST, Requirement, Robust
from search.run import search

WAYS = ("plain", "rate", *ROBUST, "static")


@dataclass
class Tally:
    """What one way of choosing promised and kept, group by group."""

    promised_drop: list[float] = field(default_factory=list)
    promised_ms: list[float] = field(default_factory=list)
    kept: list[Evaluation] = field(default_factory=list)
    drops: list[float] = field(default_factory=list)
    fell_back: int = 0


def main() -> None:
    args = _arguments()
    statistics, spec, latency_ms = _inputs(args)
    # All sequences take part: the report part is needed for nothing here.
    parts = ("calibration",) * len(statistics.images)
    statistics = with_parts(statistics, parts)
    groups = calibration_groups(statistics)
    print(f"{len(statistics.images)} images in {len(groups)} sequences")
    print(
        "drop_pp  way          promised pp   ms    kept pp   ms    speed-up promised"
        " kept  groups within  fell back"
    )
    for drop in args.drop:
        _compare(statistics, spec, latency_ms, groups, drop, args)


def _compare(
    statistics: Statistics,
    spec: SupernetSpec,
    latency_ms: Mapping[str, float],
    groups: list[str],
    drop: float,
    args: argparse.Namespace,
) -> None:
    """All ways at one allowed drop."""
    start = time.monotonic()
    tallies = {way: Tally() for way in WAYS}
    for group in groups:
        rest = without_group(statistics, group)
        for way, configuration in _choices(rest, spec, latency_ms, drop, args).items():
            tally = tallies[way]
            if configuration is None:
                tally.fell_back += 1
                configuration = final_configuration(spec)
            _try(tally, rest, spec, latency_ms, configuration)
    final_ms = Evaluation(
        statistics, spec, latency_ms, final_configuration(spec)
    ).latency_ms[0]
    for way, tally in tallies.items():
        together = Evaluation.joined(tally.kept)
        images = np.arange(len(together.latency_ms))
        kept = together.figures(images, Requirement())
        promised = np.mean(tally.promised_drop), np.mean(tally.promised_ms)
        within = sum(d <= drop for d in tally.drops)
        print(
            f"{drop:7.1f}  {way:12s} {promised[0]:8.2f} {promised[1]:7.2f}"
            f" {kept.drop_pp:9.2f} {kept.mean_ms:7.2f} {final_ms / promised[1]:14.2f}"
            f" {final_ms / kept.mean_ms:8.2f} {within:9d} of {len(groups)}"
            f" {tally.fell_back:8d}",
            flush=True,
        )
    print(f"         ({time.monotonic() - start:.0f} s)")


def _choices(
    rest: Statistics,
    spec: SupernetSpec,
    latency_ms: Mapping[str, float],
    drop: float,
    args: argparse.Namespace,
) -> dict[str, Configuration | None]:
    """A configuration per way; None where a robust one cannot be made."""

    def find(robust: Robust | None) -> Configuration | None:
        wish = Requirement(max_drop_pp=drop, robust=robust)
        try:
            return search(
                rest,
                spec,
                latency_ms,
                wish,
                max_early_exits=args.early,
                time_limit_s=args.limit,
                thresholds_per_policy=args.thresholds,
            ).configuration
        except MessError:
            return None

    plain = find(None)
    fitted = part_images(rest, "calibration")
    left_out = part_images(rest, "report")
    static = search(
        rest, spec, latency_ms, Requirement(max_drop_pp=drop), "budgeted"
    ).configuration
    found: dict[str, Configuration | None] = {
        "plain": plain,
        "rate": None if plain is None else refit(rest, plain, fitted, left_out),
        "static": static,
    }
    return found | {way: find(way) for way in ROBUST}


def _try(
    tally: Tally,
    rest: Statistics,
    spec: SupernetSpec,
    latency_ms: Mapping[str, float],
    configuration: Configuration,
) -> None:
    evaluation = Evaluation(rest, spec, latency_ms, configuration)
    seen = evaluation.figures(part_images(rest, "calibration"), Requirement())
    left_out = part_images(rest, "report")
    tally.promised_drop.append(seen.drop_pp)
    tally.promised_ms.append(seen.mean_ms)
    tally.drops.append(evaluation.figures(left_out, Requirement()).drop_pp)
    tally.kept.append(evaluation.restricted(left_out))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--drop", type=float, nargs="+", default=[1.0])
    parser.add_argument("--early", type=int, default=1, help="early exits at most")
    parser.add_argument("--thresholds", type=int, default=20, help="per policy")
    parser.add_argument("--limit", type=float, default=20.0, help="seconds per search")
    parser.add_argument(
        "--shift", type=float, default=0.0, help="of confidence, where drawn"
    )
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
    spec = draw_spec(5, 4, 11)
    statistics = draw_statistics(spec, 320, 0, 4, args.seed, 16, args.shift)
    return statistics, spec, draw_latencies(spec, args.seed)


if __name__ == "__main__":
    main()
