"""What thresholds promise and keep where they were not chosen.

    python benchmarks/bench_thresholds.py runs/camvid --drop 0 1 2
    python benchmarks/bench_thresholds.py runs/camvid --drop 0 1 2 --block-images 20
    python benchmarks/bench_thresholds.py --drop 1 2 --shift 0.5

Leave one sequence out: each group in turn is kept aside, a configuration is chosen on
the others, and tried on it. Ways of choosing:

- ``plain``: the optimum on the others;
- ``rate``: the same, its thresholds moved so that the same shares of the left-out
  sequence leave (its confidences are looked at, its labels are not);
- ``worst-group``, ``left-out``, ``upper-bound``: robust choices
  (``search.generalisation.robust``);
- ``guarantee``: at most 5 % of new images are hurt, with 95 %
  (``search.generalisation.guarantees``), tested on groups; ``by image``
  takes every image for a group of its own, which
  neighbouring frames are not.

``promised`` is on the images it was chosen on, ``kept`` on all left-out images together
(each answered by the choice that has not seen it); ``x`` is how many times as fast as
the final exit. ``within`` counts the sequences on which the drop stays within the
limit, ``hurt`` the left-out images whose own mIoU is more than 10 pp below the final
exit's. ``static`` is the best single exit, chosen in the same way, and ``gain`` the
speed-up over it. ``fell back`` counts choices that could not be made, where the final
exit was taken; a guarantee falls back by itself.

With a run folder all its images take part, ``--block-images N`` cuts longer sequences
into blocks of about N frames. Without one the statistics are drawn: 16 sequences that
differ in difficulty, and with ``--shift 0.5`` also in how sure the heads are of what
they know.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from blocks import blocks
from drawn_statistics import draw_latencies, draw_spec, draw_statistics

from mess_tf.commands.latencies import measured_latencies
from mess_tf.core.configuration import Configuration
from mess_tf.core.errors import MessError
from mess_tf.core.pieces import Pieces
from mess_tf.core.statistics import Statistics, part_images
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.runs import Run
from search.evaluation import RoutedEvaluation, final_configuration
from search.generalisation.guarantees import Guarantee
from search.generalisation.parts import calibration_groups, leave_groups_out, with_parts
from search.generalisation.threshold_transfer import transfer_thresholds
from search.parameters import SearchParameters
from search.requirement import ROBUST, OneAnswerSetting, Requirement, Robust
from search.run import search

PLAIN, RATE, BY_GROUP, BY_IMAGE = "plain", "rate", "guarantee", "by image"
WAYS = (PLAIN, RATE, *ROBUST, BY_GROUP, BY_IMAGE)
STATIC: OneAnswerSetting = "budgeted"
DYNAMIC: OneAnswerSetting = "input-dependent"
PROMISE = Guarantee()


@dataclass
class Tally:
    """What one way of choosing promised and kept, group by group."""

    promised_drop: list[float] = field(default_factory=list)
    promised_ms: list[float] = field(default_factory=list)
    kept: list[RoutedEvaluation] = field(default_factory=list)
    drops: list[float] = field(default_factory=list)
    fell_back: int = 0

    def take(
        self, rest: Statistics, chosen: RoutedEvaluation, used: RoutedEvaluation
    ) -> None:
        """What was promised by the choice, and kept by what the left-out part uses."""
        seen = chosen.figures(part_images(rest, "calibration"), Requirement())
        left_out = part_images(rest, "report")
        self.promised_drop.append(seen.drop_pp)
        self.promised_ms.append(seen.mean_ms)
        self.drops.append(used.figures(left_out, Requirement()).drop_pp)
        self.kept.append(used.restricted(left_out))

    def together(self) -> tuple[float, float, float]:
        """(drop in pp, mean ms, share of images hurt) of all left-out images."""
        joined = RoutedEvaluation.joined(self.kept)
        figures = joined.figures(np.arange(len(joined.latency_ms)), Requirement())
        own, final = joined.image_quality()
        hurt = float(np.mean(final - own > PROMISE.max_image_drop_pp / 100))
        return figures.drop_pp, figures.mean_ms, hurt


def main() -> None:
    args = _arguments()
    statistics, spec, latency_ms = _inputs(args)
    groups = calibration_groups(statistics)
    print(f"{len(statistics.images)} images in {len(groups)} sequences")
    print(
        "drop_pp  way          promised pp      x   kept pp      x  within   hurt"
        "  static kept pp   gain  fell back"
    )
    for drop in args.drop:
        start = time.monotonic()
        for way in WAYS:
            _left_out(statistics, spec, latency_ms, drop, way, args)
        print(f"         ({time.monotonic() - start:.0f} s)")


def _left_out(
    statistics: Statistics,
    spec: SupernetSpec,
    latency_ms: Mapping[str, float],
    drop: float,
    way: str,
    args: argparse.Namespace,
) -> None:
    """One way at one allowed drop: every group answered by a choice without it."""
    tallies = {DYNAMIC: Tally(), STATIC: Tally()}
    groups = calibration_groups(statistics)
    for group in groups:
        rest = leave_groups_out(statistics, {group})
        for setting, tally in tallies.items():
            chosen = _chosen(rest, spec, latency_ms, drop, way, setting, args)
            tally.fell_back += chosen is None
            chosen = chosen or final_configuration(spec)
            used = _on_sight(rest, chosen) if way == RATE else chosen
            tally.take(
                rest,
                *(
                    RoutedEvaluation.of(rest, spec, latency_ms, own)
                    for own in (chosen, used)
                ),
            )
    final = RoutedEvaluation.of(statistics, spec, latency_ms, final_configuration(spec))
    final_ms = final.latency_ms[0]
    tally = tallies[DYNAMIC]
    drop_pp, mean_ms, hurt = tally.together()
    static_drop_pp, static_ms, _ = tallies[STATIC].together()
    within = sum(d <= drop for d in tally.drops)
    print(
        f"{drop:7.1f}  {way:12s} {np.mean(tally.promised_drop):11.2f}"
        f" {final_ms / np.mean(tally.promised_ms):6.2f} {drop_pp:9.2f}"
        f" {final_ms / mean_ms:6.2f} {within:4d}/{len(groups):<2d} {hurt:6.1%}"
        f" {static_drop_pp:15.2f} {static_ms / mean_ms:6.2f} {tally.fell_back:10d}",
        flush=True,
    )


def _chosen(
    rest: Statistics,
    spec: SupernetSpec,
    latency_ms: Mapping[str, float],
    drop: float,
    way: str,
    setting: OneAnswerSetting,
    args: argparse.Namespace,
) -> Configuration | None:
    """The configuration chosen this way; None where there is none."""
    robust: Robust | None = next((name for name in ROBUST if name == way), None)
    if way == BY_IMAGE:
        rest = dataclasses.replace(rest, groups=rest.images)
    try:
        return search(
            rest,
            spec,
            latency_ms,
            Requirement(max_drop_pp=drop, robust=robust),
            SearchParameters(
                setting=setting,
                max_early_exits=args.early,
                time_limit_s=args.limit,
                thresholds_per_policy=args.thresholds,
                guarantee=PROMISE if way in (BY_GROUP, BY_IMAGE) else None,
            ),
        ).configuration
    except MessError:
        return None


def _on_sight(rest: Statistics, chosen: Configuration) -> Configuration:
    """The choice with thresholds moved to the left-out images, unlabelled."""
    fitted, left_out = (part_images(rest, part) for part in ("calibration", "report"))
    return transfer_thresholds(rest, chosen, fitted, left_out)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, nargs="?", help="evaluated and profiled")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--threads", type=int, help="None takes the recipe's")
    parser.add_argument("--block-images", type=int, default=0)
    parser.add_argument("--drop", type=float, nargs="+", default=[1.0])
    parser.add_argument("--early", type=int, default=1, help="early exits at most")
    parser.add_argument("--thresholds", type=int, default=24, help="per policy")
    parser.add_argument("--limit", type=float, default=20.0, help="seconds per search")
    parser.add_argument(
        "--shift", type=float, default=0.0, help="of confidence, where drawn"
    )
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    return parser.parse_args()


def _inputs(
    args: argparse.Namespace,
) -> tuple[Statistics, SupernetSpec, Mapping[str, float]]:
    """Statistics with all images for calibration, their network and latencies."""
    if args.run is None:
        spec = draw_spec(5, 4, 11)
        statistics = draw_statistics(spec, 320, 0, 4, args.seed, 16, args.shift)
        return statistics, spec, draw_latencies(spec, args.seed)
    run = Run.open(args.run)
    pieces = Pieces.load(run.pieces(args.precision))
    spec = pieces.part_of(SupernetSpec.load(run.supernet_structure))
    latency_ms = measured_latencies(run, args.precision, threads=args.threads).by_piece
    statistics = Statistics.load(run.statistics(args.precision))
    parts = ("calibration",) * len(statistics.images)
    statistics = with_parts(statistics, parts)
    if args.block_images:
        cut = blocks(statistics.groups, statistics.images, args.block_images)
        statistics = dataclasses.replace(statistics, groups=cut)
    return statistics, spec, latency_ms


if __name__ == "__main__":
    main()
