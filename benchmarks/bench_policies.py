"""Policies against one another, on a run's statistics.

    python benchmarks/bench_policies.py runs/camvid --precision int8
    python benchmarks/bench_policies.py runs/camvid --block-images 20
    python benchmarks/bench_policies.py runs/camvid --rank-images 40

Three tables:

- **separation** (Table 9's question): the area under the ROC curve of "this exit is
  within x pp of the final one" per policy and exit, on the report part and on all
  images. A family with pixel thresholds is shown at the one that is best on the
  calibration part, on the mean over exits; heads are the best of their exits there.
  ``region`` is at each exit the one key that it has.
- **leave one sequence out**: for every family, thresholds (and exits and heads) are
  searched for on the other sequences and tried on the one left out; figures are of all
  left-out images together. The gain is over the best single exit found the same way.
  ``oracle`` is a decision that knows the labels: each image's true difference from
  the final exit, at the price of ``mean``; ``random`` knows nothing, at the same price.
  With ``--block-images N`` longer sequences are cut into blocks of about N frames.
- **rank agreement** (with ``--rank-images``): Spearman's correlation of Eq. 7 + 9 on
  the native grid with the paper's at image resolution, with label changes and with
  Canny.

What is fitted (cbt, gate) was fitted on training images, of the left-out sequence too,
as the network itself was.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path

from mess_tf.core.statistics import part_images
from mess_tf.core.tensorflow_environment import set_tensorflow_defaults
from mess_tf.policies.confidence import confidence_numpy

set_tensorflow_defaults()

import numpy as np
from blocks import blocks
from scipy.stats import spearmanr
from separation import (
    good_answers,
    head_separation,
    image_mious,
)

from mess_tf.commands.latencies import measured_latencies
from mess_tf.core.errors import MessError
from mess_tf.core.pieces import Pieces
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.data.augment import evaluation_image
from mess_tf.data.dataset import open_dataset
from mess_tf.evaluation.accuracy import head_miou
from mess_tf.evaluation.runners import PiecesRunner
from mess_tf.policies.full_resolution import Edges, full_size_confidence
from mess_tf.policies.registry import POLICIES, Policy, family_of
from mess_tf.runs import Run
from search.evaluation import RoutedEvaluation, final_configuration
from search.generalisation.parts import calibration_groups, leave_groups_out, with_parts
from search.parameters import SearchParameters
from search.requirement import Requirement
from search.run import search

RANK_THRESHOLD = 0.9
LEAST_GAIN = 0.01  # of the static exit's latency, that the oracle must win
EDGES: tuple[Edges, ...] = ("labels", "canny")
ORACLE, RANDOM = "oracle", "random"
Head = tuple[int, str]


def main() -> None:
    args = _arguments()
    run = Run.open(args.run)
    statistics = Statistics.load(run.statistics(args.precision))
    pieces = Pieces.load(run.pieces(args.precision))
    spec = pieces.part_of(SupernetSpec.load(run.supernet_structure))
    final = (spec.exit_points[-1].index, spec.final_head.id)
    heads = best_heads(statistics)
    for within in args.within:
        print_separation(one_key_each(statistics), heads, final, within)
    if args.rank_images:
        rank(run, spec, pieces, statistics, [*heads, final], args)
    latency_ms = measured_latencies(run, args.precision, threads=args.threads).by_piece
    compare_left_out(statistics, spec, latency_ms, final, args)


def best_heads(statistics: Statistics) -> list[Head]:
    """Per early exit, the head with the best mIoU on the calibration part."""
    last = max(exit_index for exit_index, _ in statistics.heads)
    return [
        max(
            (head for head in statistics.heads if head[0] == exit_index),
            key=lambda head: head_miou(statistics, head, "calibration"),
        )
        for exit_index in range(1, last)
    ]


def one_key_each(statistics: Statistics) -> Statistics:
    """Keys of a family that compares become one: every exit has one of them at most."""
    confidence: dict[str, np.ndarray] = {}
    for key, values in statistics.confidence.items():
        name = family_of(key) if POLICIES[family_of(key)].compares else key
        other = confidence.get(name, np.full_like(values, np.nan))
        confidence[name] = np.where(np.isnan(values), other, values)
    return dataclasses.replace(statistics, confidence=confidence)


def print_separation(
    statistics: Statistics, heads: list[Head], final: Head, within: float
) -> None:
    good = good_answers(statistics, final, within)
    found: dict[str, list[dict[str, float]]] = {
        part: [head_separation(statistics, head, good, part or None) for head in heads]
        for part in ("calibration", "report", "")
    }
    columns = [statistics.heads.index(head) for head in heads]
    share = ", ".join(f"{good[:, c].mean():.0%}" for c in columns)
    print(f"\nwithin {within:g} pp of the final exit: {share} of all images")
    names = "".join(f"  exit {exit_index}          " for exit_index, _ in heads)
    print(f"report / all  {names}  mean")
    for family, keys in _by_family(statistics).items():
        key = max(keys, key=lambda k: _mean([own[k] for own in found["calibration"]]))
        pairs = [
            (report[key], everything[key])
            for report, everything in zip(found["report"], found[""], strict=True)
        ]
        cells = "".join(f"  {r:6.2f} /{a:6.2f}  " for r, a in pairs)
        means = " / ".join(f"{_mean(list(v)):.2f}" for v in zip(*pairs, strict=True))
        print(f"{key if len(keys) > 1 else family:14s}{cells}  {means}")


def _mean(values: list[float]) -> float:
    there = [value for value in values if not np.isnan(value)]
    return float(np.mean(there)) if there else float("nan")


def _by_family(statistics: Statistics) -> dict[str, list[str]]:
    families: dict[str, list[str]] = {}
    for key in statistics.confidence:
        families.setdefault(family_of(key), []).append(key)
    return families


def compare_left_out(
    statistics: Statistics,
    spec: SupernetSpec,
    latency_ms: Mapping[str, float],
    final: Head,
    args: argparse.Namespace,
) -> None:
    """Every family's search on all sequences but one, tried on that one."""
    statistics = with_parts(statistics, ("calibration",) * len(statistics.images))
    if args.block_images:
        cut = blocks(statistics.groups, statistics.images, args.block_images)
        statistics = dataclasses.replace(statistics, groups=cut)
    statistics, latency_ms = with_yardsticks(statistics, latency_ms, final)
    groups = calibration_groups(statistics)
    print(f"\nleave one out: {len(statistics.images)} images, {len(groups)} sequences")
    print("drop_pp policy     promised pp    ms   kept pp    ms  gain  of the oracle's")
    for drop in args.drop:
        static = _left_out(statistics, spec, latency_ms, drop, "budgeted", args)
        print(f"{drop:5.1f}   {'static':10s} {_cells(static)}")
        gain_ms = {}
        families = _by_family(statistics)
        yardsticks = (ORACLE, RANDOM)
        families["any"] = [k for k in statistics.confidence if k not in yardsticks]
        for family in [ORACLE, *(f for f in families if f != ORACLE)]:
            only = dataclasses.replace(
                statistics,
                confidence={k: statistics.confidence[k] for k in families[family]},
            )
            kept = _left_out(only, spec, latency_ms, drop, "input-dependent", args)
            gain_ms[family] = static[3] - kept[3]
            # Of next to nothing there are no shares.
            worth = gain_ms[ORACLE] > LEAST_GAIN * static[3]
            share = f"{gain_ms[family] / gain_ms[ORACLE]:8.0%}" if worth else "       -"
            gain = static[3] / kept[3]
            print(f"{drop:5.1f}   {family:10s} {_cells(kept)} {gain:5.3f} {share}")


def _cells(row: tuple[float, float, float, float]) -> str:
    return f"{row[0]:10.2f} {row[1]:7.3f} {row[2]:8.2f} {row[3]:7.3f}"


def with_yardsticks(
    statistics: Statistics, latency_ms: Mapping[str, float], final: Head
) -> tuple[Statistics, dict[str, float]]:
    """Adds a policy that knows everything and one that knows nothing."""
    quality = np.nan_to_num(image_mious(statistics))
    behind = quality - quality[:, statistics.heads.index(final), None]
    chance = np.random.default_rng(0).random(quality.shape)
    drawn = {ORACLE: (behind + 1) / 2, RANDOM: chance}
    confidence = {k: v.astype(np.float32) for k, v in drawn.items()}
    prices = {
        name.replace("_mean_", f"_{family}_"): ms
        for family in drawn
        for name, ms in latency_ms.items()
        if name.startswith("decision_mean_")
    }
    return (
        dataclasses.replace(
            statistics, confidence={**statistics.confidence, **confidence}
        ),
        {**latency_ms, **prices},
    )


def _left_out(
    statistics: Statistics,
    spec: SupernetSpec,
    latency_ms: Mapping[str, float],
    drop: float,
    setting: str,
    args: argparse.Namespace,
) -> tuple[float, float, float, float]:
    """(promised drop, promised ms, kept drop, kept ms), folds taken together."""
    promised, kept = [], []
    for group in calibration_groups(statistics):
        rest = leave_groups_out(statistics, {group})
        wish = Requirement(max_drop_pp=drop)
        try:
            configuration = search(
                rest,
                spec,
                latency_ms,
                wish,
                SearchParameters(
                    setting="budgeted" if setting == "budgeted" else "input-dependent",
                    max_early_exits=args.early,
                    time_limit_s=args.limit,
                ),
            ).configuration
        except MessError:
            configuration = final_configuration(spec)
        evaluation = RoutedEvaluation.of(rest, spec, latency_ms, configuration)
        seen = evaluation.figures(part_images(rest, "calibration"), wish)
        promised.append((seen.drop_pp, seen.mean_ms))
        kept.append(evaluation.restricted(part_images(rest, "report")))
    together = RoutedEvaluation.joined(kept)
    images = np.arange(len(together.latency_ms))
    figures = together.figures(images, Requirement())
    means = np.mean(promised, axis=0)
    return float(means[0]), float(means[1]), figures.drop_pp, figures.mean_ms


def rank(
    run: Run,
    spec: SupernetSpec,
    pieces: Pieces,
    statistics: Statistics,
    heads: list[Head],
    args: argparse.Namespace,
) -> None:
    """Native grid against image resolution."""
    data = open_dataset(run.recipe.data).evaluation
    chosen = np.linspace(0, len(data) - 1, args.rank_images).round().astype(int)
    runner = PiecesRunner(spec, pieces, [], args.threads)
    columns = [statistics.heads.index(head) for head in heads]
    size = (spec.image_height, spec.image_width)
    values: dict[str, list[list[float]]] = {"native": [], "labels": [], "canny": []}
    policy = Policy("eq7+9", RANK_THRESHOLD)
    for index in np.unique(chosen):
        image = evaluation_image(data.load(index).image, *size, spec.preprocessing)
        outputs = list(runner.run(image))
        own = [outputs[column] for column in columns]
        values["native"].append(
            [confidence_numpy(policy, o.native[None])[0] for o in own]
        )
        for edges in EDGES:
            values[edges].append(
                [
                    full_size_confidence(o.native, *size, RANK_THRESHOLD, edges=edges)
                    for o in own
                ]
            )
    table = {name: np.array(v) for name, v in values.items()}
    count = len(table["native"])
    print(f"\nrank agreement of eq7+9@{RANK_THRESHOLD} on {count} images")
    for place, head in enumerate(heads):
        native, by_labels, by_canny = (table[name][:, place] for name in values)
        print(
            f"  exit {head[0]} {head[1]:18s} native / labels"
            f" {spearmanr(native, by_labels).statistic:.3f}, native / canny"
            f" {spearmanr(native, by_canny).statistic:.3f}, labels / canny"
            f" {spearmanr(by_labels, by_canny).statistic:.3f}"
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="run folder, evaluated and profiled")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--threads", type=int, help="None takes the recipe's")
    parser.add_argument("--within", type=float, nargs="+", default=[0.0, 1.0, 2.0])
    parser.add_argument("--drop", type=float, nargs="+", default=[0.0, 1.0, 2.0])
    parser.add_argument("--early", type=int, default=2, help="early exits at most")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds per search")
    parser.add_argument("--block-images", type=int, default=0)
    parser.add_argument("--rank-images", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
