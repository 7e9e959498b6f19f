"""Every way to spend a run's exits, side by side: MACs and accuracy.

    python benchmarks/camvid/systems.py RUN
    python benchmarks/camvid/systems.py RUN --statistics float32 --precision int8
    python benchmarks/camvid/systems.py RUN RUN RUN    # seeds: head spaces in one table

RUN needs statistics: Keras' (`mess evaluate RUN --from keras`) or a precision's. Each
line is one system at one speed-up over the final exit, in counted MACs:

- `final`: the final exit alone; `static ...`: every exit alone, with its plain FCN head
  and with the head that is best on the calibration part;
- `uniform`: image-wise exits with plain FCN heads everywhere (Fig. 7's left side);
  `tailored`: with the paper's head space; `skips`: with ours too; each the
  configuration of the best mIoU on the calibration part that keeps the mean MACs (by
  mean confidence; a proven optimum unless it says otherwise), and beside it `...
  static`, the best single exit;
- `policy ...`: with the paper's head space and one policy, the fewest MACs at a drop of
  at most 1 pp;
- `cascade` (Deep Layer Cascade) and `masked` (ADP-C style): plain FCN heads before the
  final one, pixel by pixel, at the threshold of the best mIoU on the calibration part
  that keeps the mean MACs; `dense` is what they take where single cells cannot be
  skipped: all segments and all heads.

With `--precision` their dense latency is told from the run's measured pieces as well.
Several runs are compared by their head spaces alone.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mess_tf.core.tensorflow_environment import set_tensorflow_defaults

set_tensorflow_defaults()

from lines import Line, runs_table, steps_table
from piece_macs import piece_macs
from pixelwise import PLAIN, Head, cascade_heads, cascades, final_exit

from mess_tf.core.errors import MessError
from mess_tf.core.latency import PathLatency
from mess_tf.core.piece_names import decision_name, output_name
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import HeadSpec
from mess_tf.evaluation.accuracy import head_miou
from mess_tf.models.supernet import Supernet
from mess_tf.runs import Run
from search.evaluation import Figures
from search.parameters import SearchParameters
from search.requirement import Requirement
from search.run import search

SPEEDUPS = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5)
DROP_PP = 1.0
HEADER = "system           asked  MMACs  speed-up  calibration  report  setting"


def main() -> None:
    args = _arguments()
    runs = []
    for folder in args.runs:
        run = Run.open(folder)
        runs.append(systems(run, args.statistics, args.speedups, args.limit))
        print(f"{folder}\n{HEADER}")
        print_lines(runs[-1], runs[-1][0].mmacs)
    if len(runs) > 1:
        print(f"\n{runs_table(runs)}\n\n{steps_table(runs)}")
        return
    final = runs[0][0].mmacs
    lines, dense = cascades(run, args.statistics, args.speedups, final)
    print_lines(lines, final)
    print(f"dense cascade: {dense:.1f} MMACs, {dense / final:.2f} times the final exit")
    if args.precision:
        print(dense_latency(run, args.precision))


def print_lines(lines: Sequence[Line], final: float) -> None:
    for line in lines:
        print(
            f"{line.system:15s} {line.asked:5.1f}x {line.mmacs:7.1f}"
            f" {final / line.mmacs:6.2f}x {line.calibration:9.2f} %"
            f" {line.report:8.2f} %  {line.setting}"
        )


def systems(
    run: Run, source: str, speedups: Sequence[float], limit_s: float
) -> list[Line]:
    """All lines of a run that answer image by image, the final exit first.

    Args:
        source: of the statistics: ``keras`` or a precision.
        speedups: over the final exit, in MACs.
        limit_s: seconds per search.
    """
    statistics = Statistics.load(run.statistics(source))
    supernet = Supernet.load(run.folder).at_size()
    spec = supernet.spec
    costs = mega_macs(supernet)
    paths = PathLatency(spec, costs)
    final = final_exit(spec)
    lines = [_static("final", statistics, paths, final)]
    budget = lines[0].mmacs
    for point in spec.exit_points:
        own = [head for head in statistics.heads if head[0] == point.index]
        best = max(own, key=lambda head: head_miou(statistics, head, "calibration"))
        if (point.index, PLAIN) in own:
            head = (point.index, PLAIN)
            lines.append(_static("static plain", statistics, paths, head))
        lines.append(_static("static best", statistics, paths, best))
    for name, heads in spaces(statistics, final).items():
        own_statistics = only(statistics, heads, "mean")
        for speedup in speedups:
            asked = Requirement(max_latency_ms=budget / speedup)
            lines += _searched(
                name, speedup, own_statistics, supernet, costs, asked, limit_s
            )
    return lines + policy_lines(statistics, supernet, costs, final, limit_s)


def mega_macs(supernet: Supernet) -> dict[str, float]:
    """Millions of MACs by piece name, as the search takes costs."""
    spec = supernet.spec
    costs = {k: v / 1e6 for k, v in piece_macs(supernet.model, spec).items()}
    sizes = {spec.head_size(k, HeadSpec.parse(i)) for k, i in spec.head_names()}
    for size in sizes:  # decisions and resizes multiply next to nothing
        costs[output_name(size)] = 0.0
        for policy in ("mean", "eq7", "eq7+9", "entropy"):
            costs[decision_name(policy, size)] = 0.0
    return costs


def spaces(statistics: Statistics, final: Head) -> dict[str, list[Head]]:
    """Heads of each space: plain ones, the paper's, and ours with skips."""
    heads = statistics.heads
    return {
        "uniform": [h for h in heads if h[1] == PLAIN or h == final],
        "tailored": [h for h in heads if not HeadSpec.parse(h[1]).skips or h == final],
        "skips": list(heads),
    }


def only(statistics: Statistics, heads: Sequence[Head], family: str) -> Statistics:
    """Statistics of some heads and one policy family."""
    columns = [statistics.heads.index(head) for head in heads]
    return dataclasses.replace(
        statistics,
        heads=tuple(heads),
        predicted_area=statistics.predicted_area[:, columns],
        intersection=statistics.intersection[:, columns],
        confidence={
            key: values[:, columns]
            for key, values in statistics.confidence.items()
            if key.partition("@")[0] == family
        },
        parameters={k: v[columns] for k, v in statistics.parameters.items()},
    )


def _static(
    system: str, statistics: Statistics, paths: PathLatency, head: Head
) -> Line:
    return Line(
        system,
        0.0,
        f"{head[0]} {head[1]}",
        paths.segments_ms(head[0]) + paths.head_ms(*head),
        100 * head_miou(statistics, head, "calibration"),
        100 * head_miou(statistics, head, "report"),
    )


def _searched(
    system: str,
    asked: float,
    statistics: Statistics,
    supernet: Supernet,
    costs: Mapping[str, float],
    requirement: Requirement,
    limit_s: float,
) -> list[Line]:
    """The best configuration and the best single exit; none where nothing is so
    cheap."""
    try:
        result = search(
            statistics,
            supernet.spec,
            costs,
            requirement,
            SearchParameters(
                max_early_exits=2, time_limit_s=limit_s, thresholds_per_policy=12
            ),
        )
    except MessError:
        return []
    found = [(system, result.chosen, "" if result.proven else " (not proven)")]
    if result.best_static is not None:
        found.append((f"{system} static", result.best_static, ""))
    return [_line(name, asked, outcome, note) for name, outcome, note in found]


def _line(system: str, asked: float, outcome: Any, note: str) -> Line:
    report: Figures = outcome.report
    exits = outcome.configuration.exits
    setting = " > ".join(f"{c.exit} {c.head}" for c in exits)
    if exits[0].policy is not None:
        setting += f" by {exits[0].policy}"
    return Line(
        system,
        asked,
        setting + note,
        report.mean_ms,
        100 * outcome.calibration.miou,
        100 * report.miou,
    )


def policy_lines(
    statistics: Statistics,
    supernet: Supernet,
    costs: Mapping[str, float],
    final: Head,
    limit_s: float,
) -> list[Line]:
    """Per policy family, the fewest MACs at a drop of at most ``DROP_PP``."""
    heads = spaces(statistics, final)["tailored"]
    wish = Requirement(max_drop_pp=DROP_PP)
    lines: list[Line] = []
    for family in dict.fromkeys(k.partition("@")[0] for k in statistics.confidence):
        own = only(statistics, heads, family)
        both = _searched(f"policy {family}", 0.0, own, supernet, costs, wish, limit_s)
        lines += both[:1] if lines else both[::-1]
    return lines


def dense_latency(run: Run, precision: Any) -> str:
    """What a cascade of all exits takes on the device, single cells not skipped."""
    from mess_tf.commands.latencies import measured_latencies

    spec = Supernet.load(run.folder).spec
    costs = PathLatency(spec, measured_latencies(run, precision).by_piece)
    last = len(spec.exit_points)
    chain = cascade_heads(spec.head_names(), final_exit(spec))
    alone = costs.segments_ms(last) + costs.head_ms(*chain[-1])
    cascade = costs.segments_ms(last) + sum(costs.head_ms(*head) for head in chain)
    return (
        f"dense latency, {precision}: final exit {alone:.2f} ms, cascade"
        f" {cascade:.2f} ms ({cascade / alone:.2f} times)"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    parser.add_argument("--statistics", default="keras", help="or a precision")
    parser.add_argument("--speedups", type=float, nargs="+", default=SPEEDUPS)
    parser.add_argument("--precision", help="of measured pieces, for dense latency")
    parser.add_argument("--limit", type=float, default=20.0, help="seconds per search")
    return parser.parse_args()


if __name__ == "__main__":
    main()
