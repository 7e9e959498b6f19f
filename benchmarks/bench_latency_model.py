"""How well are pieces, and whole configurations, predicted from a fifth of the pieces?

Compiles a supernet with random weights (five early exits with all 56 heads each), links
40 drawn configurations of one to three heads into one file each, measures everything on
this computer, and then predicts the pieces that `mess profile --share` would not have
measured. The 40 take turns with the probes, so that the machine's drift is not taken
for an error of their sums. A second pass, over them and 60 drawn pieces, tells the
measurement noise. What is in the folder already is not made or measured again.

    python benchmarks/bench_latency_model.py /tmp/mnv2 --precision int8 --threads 1
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path

from mess_tf.core.tensorflow_environment import set_tensorflow_defaults

set_tensorflow_defaults()

import numpy as np

from android_bench.latency_model.choose import choose
from android_bench.latency_model.features import operators_of
from android_bench.latency_model.model import LatencyModel, Models, fit
from android_bench.profile import profile
from android_bench.records import Measurement, MeasureSettings
from mess_tf.commands.latencies import (
    always_measured,
    compared_with_probes,
    predictable,
)
from mess_tf.compiling.latency_composition import compose_latencies
from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.piece_names import head_name, output_name, segment_name
from mess_tf.core.pieces import Pieces
from mess_tf.core.supernet_spec import (
    EXTRA_BLOCKS,
    KINDS,
    REDUCTIONS,
    HeadSpec,
    SupernetSpec,
)

CONFIGURATIONS = 40
REPEATED = 60
# Shorter than `quick`, and unsteady pieces are not measured again: what there is of
# noise is to be seen.
SHORTER = MeasureSettings(rounds=4, min_seconds_per_round=0.1, max_spread=10.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--size", type=int, nargs=2, default=(240, 320))
    parser.add_argument("--classes", type=int, default=11)
    parser.add_argument("--output-stride", type=int, default=16)
    parser.add_argument("--precision", default="int8", choices=("float32", "int8"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--seeds", type=int, default=20, help="drawn instead of chosen")
    options = parser.parse_args()
    if not (options.folder / options.precision / "pieces.json").is_file():
        compile_all(options)
    pieces = Pieces.load(options.folder / options.precision)
    spec = pieces.part_of(SupernetSpec.load(options.folder / "supernet.json"))
    whole = link_drawn(pieces, spec)
    first = measure(options, pieces, spec, whole, 1)
    second = measure(options, pieces, spec, whole, 2)
    report(options, pieces, spec, whole, first, second)


def compile_all(options: argparse.Namespace) -> None:
    from mess_tf.compiling.pieces import compile_supernet
    from mess_tf.models.supernet import build_supernet, design_supernet

    heads = [
        HeadSpec(kind, reduction, blocks, rapid)
        for kind in KINDS
        for reduction in REDUCTIONS
        for blocks in EXTRA_BLOCKS
        for rapid in ([False, True] if blocks else [False])
    ]
    spec = design_supernet(
        options.backbone,
        [f"class_{number}" for number in range(options.classes)],
        image_size=tuple(options.size),
        final_heads=[HeadSpec("dlb")],
        early_heads=heads,
        output_stride=options.output_stride,
    )
    rng = np.random.default_rng(0)
    shape = (*options.size, 3)
    images = [rng.normal(size=shape).clip(-1, 1).astype(np.float32) for _ in range(4)]
    target = options.folder / options.precision
    policies = ["mean", "eq7", "eq7+9"]
    compile_supernet(build_supernet(spec), target, options.precision, images, policies)
    spec.save(options.folder / "supernet.json")


def link_drawn(pieces: Pieces, spec: SupernetSpec) -> dict[str, Configuration]:
    """Drawn configurations by the name of their file, linked where not done yet."""
    from mess_tf.exporting.linking import link_static

    rng = np.random.default_rng(7)
    drawn = {}
    for number in range(CONFIGURATIONS):
        count = int(rng.integers(1, 4))
        exits = sorted(rng.choice(len(spec.exit_points), count, replace=False) + 1)
        choices = []
        for exit_index in exits:
            heads = spec.heads[exit_index - 1]
            head = heads[int(rng.integers(len(heads)))].id
            last = exit_index == exits[-1]
            gate = () if last else ("mean", 0.5)
            choices.append(ExitChoice(int(exit_index), head, *gate))
        drawn[f"whole_{number}"] = Configuration(tuple(choices))
    for name, configuration in drawn.items():
        path = whole_path(pieces, name)
        if not path.is_file():
            link_static(pieces, spec, configuration, path)
    return drawn


def whole_path(pieces: Pieces, name: str) -> Path:
    return pieces.folder / "whole" / f"{name}.tflite"


def measure(
    options: argparse.Namespace,
    pieces: Pieces,
    spec: SupernetSpec,
    whole: Mapping[str, Configuration],
    number: int,
) -> dict[str, Measurement]:
    """Measurements by name; of pass 2 only of some pieces and the drawn files."""
    files = {piece.name: pieces.path(piece.name) for piece in pieces.pieces}
    if number == 2:
        names = np.random.default_rng(0).choice(sorted(files), REPEATED, replace=False)
        files = {name: files[name] for name in names}
    files |= {name: whole_path(pieces, name) for name in whole}
    together = compared_with_probes(pieces, spec) | set(whole)
    run = profile(
        files,
        store=options.folder / f"pass_{number}.sqlite",
        settings=dataclasses.replace(SHORTER, threads=options.threads, seed=number),
        groups=dict.fromkeys(together & set(files), "probes"),
    )[0]
    return {row.name: row for row in run.measurements if not row.failed}


def report(
    options: argparse.Namespace,
    pieces: Pieces,
    spec: SupernetSpec,
    whole: Mapping[str, Configuration],
    first: Mapping[str, Measurement],
    second: Mapping[str, Measurement],
) -> None:
    true_ms = {name: median_ms(row) for name, row in first.items()}
    models = {n: operators_of(path) for n, path in predictable(pieces).items()}
    always = always_measured(pieces, spec)
    kept = [name for name in models if name in always]
    count = int(options.share * len(pieces.pieces)) - len(always)
    flagged = sum("disturbed" in row.flags for row in first.values())
    print(
        f"{pieces.precision}, {options.threads} threads: {len(pieces.pieces)} pieces,"
        f" {len(always) + count} measured, {len(models) - len(kept) - count} predicted;"
        f" {flagged} of {len(first)} figures were disturbed by other work"
    )
    for title, names in (
        ("pieces", [name for name in second if name not in whole]),
        ("whole", list(whole)),
    ):
        repeated = np.array([median_ms(second[n]) / true_ms[n] - 1 for n in names])
        drift = float(np.median(repeated))
        shown(f"{title}, a second measurement", (1 + repeated) / (1 + drift) - 1)
        print(f"  (its drift of {drift:+.1%} taken out)")
    start = time.perf_counter()
    chosen = [*kept, *choose(models, count, kept)]
    choosing_s = time.perf_counter() - start
    start = time.perf_counter()
    model, errors, inside = predicted(models, true_ms, chosen)
    shown("chosen pieces", errors)
    print(
        f"  in the interval {inside:.1%}, its ends"
        f" {model.interval_scale:.2f} deviations away; {choosing_s:.2f} s to choose,"
        f" {time.perf_counter() - start:.2f} s to learn"
    )
    every, insides = [], []
    left = [name for name in models if name not in kept]
    for seed in range(options.seeds):
        rng = np.random.default_rng(seed)
        names = [*kept, *rng.choice(left, count, replace=False).tolist()]
        _, errors, inside = predicted(models, true_ms, names)
        every.append(errors)
        insides.append(inside)
    shown(f"drawn pieces, {options.seeds} times", np.concatenate(every))
    print(f"  in the interval {np.mean(insides):.1%}")
    by_piece = {piece.name: true_ms[piece.name] for piece in pieces.pieces}
    others = {n: used for n, used in models.items() if n not in chosen}
    guessed = {n: row.latency_ms for n, row in model.predict(others).items()}
    rounds_ms = {
        piece.name: [taken.median_us / 1000 for taken in first[piece.name].rounds]
        for piece in pieces.pieces
    }
    for title, table in (
        ("whole, sums of measured pieces", by_piece),
        (
            "whole, composed of measured pieces",
            compose_latencies(by_piece, spec, rounds_ms),
        ),
        (
            "whole, composed with predictions",
            compose_latencies(by_piece | guessed, spec, rounds_ms),
        ),
    ):
        promised = {name: path_ms(spec, table, c) for name, c in whole.items()}
        shown(title, np.array([promised[n] / true_ms[n] - 1 for n in whole]))
    minutes = {
        title: sum(seconds(first[name]) for name in names) / 60
        for title, names in (
            ("all", [piece.name for piece in pieces.pieces]),
            ("share", [*always, *chosen]),
        )
    }
    print(
        f"running all pieces takes {minutes['all']:.1f} min, the share"
        f" {minutes['share']:.1f} min (opening them not counted)"
    )


def predicted(
    models: Models, true_ms: Mapping[str, float], measured: list[str]
) -> tuple[LatencyModel, np.ndarray, float]:
    """A model of the measured ones; relative errors and coverage of the others."""
    model = fit({name: models[name] for name in measured}, true_ms)
    rest = {name: used for name, used in models.items() if name not in measured}
    found = model.predict(rest)
    errors = np.array([found[n].latency_ms / true_ms[n] - 1 for n in rest])
    inside = [found[n].low_ms <= true_ms[n] <= found[n].high_ms for n in rest]
    return model, errors, float(np.mean(inside))


def path_ms(
    spec: SupernetSpec, by_piece: Mapping[str, float], configuration: Configuration
) -> float:
    """A configuration without decisions: segments, heads, the last one's output."""
    last = configuration.exits[-1]
    names = [segment_name(k) for k in range(1, last.exit + 1)]
    names += [head_name(choice.exit, choice.head) for choice in configuration.exits]
    size = spec.head_size(last.exit, HeadSpec.parse(last.head))
    if size != spec.output_size:
        names.append(output_name(size))
    return sum(by_piece[name] for name in names)


def median_ms(row: Measurement) -> float:
    """Median of the rounds' medians: one disturbed round of four moves it little."""
    return float(np.median([taken.median_us for taken in row.rounds])) / 1000


def seconds(row: Measurement) -> float:
    return sum(taken.runs * taken.median_us for taken in row.rounds) / 1e6


def shown(title: str, errors: np.ndarray) -> None:
    off = np.abs(errors)
    print(
        f"  {title:38s} within 5 %: {np.mean(off <= 0.05):6.1%}, within 10 %:"
        f" {np.mean(off <= 0.1):6.1%}, median {np.median(off):5.1%}, mean"
        f" {np.mean(errors):+5.1%}, largest {off.max():5.1%} (n = {len(off)})"
    )


if __name__ == "__main__":
    main()
