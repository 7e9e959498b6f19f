"""Precision x form: size, latency of the deepest and shallowest path, memory, accuracy.

All precisions of a run that have pieces and statistics are made into the same
configuration (same exits, heads and policies), in every form. Per form and path:

* ``ms``: median, measured in turns with all other files of the precision;
* ``ratio``: over the static prefix: the same segments, heads and decisions up to there
  in one file without branches. Median over rounds of ratios within a round, with an
  interval of 95 %;
* ``peak``: memory that loading the file and running its deepest path adds to a fresh
  process, MiB, and the same of the static network.

Which path is run is forced by thresholds that everything or nothing reaches. A path of
``stages`` is the sum of its files. Of files with further signatures or with thresholds
as input the latency is that of ``serve``; the latter's path cannot be forced by random
inputs, so only its size is told.

mIoU is of the report part; the dynamic one with thresholds set on each precision's own
confidences, on the calibration part, to the exit rates of the configuration there.

    python benchmarks/bench_forms.py runs/camvid --choice drop1 --threads 1
    python benchmarks/bench_forms.py RUN --exits 2:fcn_r1_b0_s1 6:dlb_r2_b0_s2_s1

To be run on a quiet machine: foreign load is printed with the result.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mess_tf.core.statistics import part_images
from mess_tf.core.tensorflow_environment import set_tensorflow_defaults

set_tensorflow_defaults()

import numpy as np

from android_bench.compare import Comparison, compare
from android_bench.devices import open_device
from android_bench.records import MeasureSettings, ModelFile
from mess_tf.core.configuration import Configuration, ExitChoice
from mess_tf.core.pieces import Pieces
from mess_tf.core.precisions import PRECISIONS, Precision, has_int8_activations
from mess_tf.core.routing import exit_position_per_image
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.evaluation.accuracy import head_miou
from mess_tf.exporting.linking import link_configuration, link_static
from mess_tf.exporting.options import ExportForm
from mess_tf.exporting.staged_export import link_stages, stage_files
from mess_tf.quantising.thresholds import routed
from mess_tf.runs import Run
from search.result import load_results

NEVER, ALWAYS = 2.0, -1.0
PEAK_PROCESSES = 3

# Alone in a fresh process, so that nothing but the file adds to the peak.
MEMORY = """
import json, re, sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before = peak()
model = Interpreter(sys.argv[1], num_threads=int(sys.argv[2]))
model.allocate_tensors()
for detail in model.get_input_details():
    model.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
for _ in range(3):
    model.invoke()
print(json.dumps((peak() - before) / 1024))
"""


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--precision", action="append", choices=PRECISIONS)
    arguments = parser.parse_args()
    run = Run.open(arguments.run)
    spec = SupernetSpec.load(run.supernet_structure)
    configuration = chosen(run, arguments)
    settings = dataclasses.replace(
        MeasureSettings.preset("compare", arguments.threads), rounds=arguments.rounds
    )
    print("exits:", " > ".join(f"{c.exit}:{c.head}" for c in configuration.exits))
    for precision in arguments.precision or PRECISIONS:
        if (run.pieces(precision) / "pieces.json").is_file():
            pieces = Pieces.load(run.pieces(precision))
            with tempfile.TemporaryDirectory() as folder:
                report(Path(folder), pieces, spec, configuration, settings)
            accuracy(run, precision, configuration)


def parser_of(text: str) -> argparse.ArgumentParser:
    """Options that say which configuration is measured, and how."""
    parser = argparse.ArgumentParser(description=text.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--choice", help="name of a search result of --like")
    parser.add_argument("--like", default="int8", choices=PRECISIONS)
    parser.add_argument("--exits", nargs="+", metavar="EXIT:HEAD", help="instead")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    return parser


def chosen(run: Run, arguments: argparse.Namespace) -> Configuration:
    """The configuration of a search result, or the exits given, all asked by ``mean``.

    Thresholds of given exits let half of the calibration images leave at each.
    """
    if arguments.exits:
        pairs = [text.split(":") for text in arguments.exits]
        *early, last = [(int(index), head) for index, head in pairs]
        statistics = Statistics.load(run.statistics(arguments.like))
        choices = [ExitChoice(*head, "mean", ALWAYS) for head in early]
        configuration = Configuration((*choices, ExitChoice(*last)))
        shares = [0.5**k for k in range(1, len(pairs))]
        return with_rates(statistics, configuration, [*shares, 0.0])
    path = run.search("host", arguments.like) / "chosen.json"
    results = {result.name: result for result in load_results(path)}
    if arguments.choice not in results:
        sys.exit(f"--choice must be one of {', '.join(results)} (or give --exits)")
    return results[arguments.choice].configuration


def with_rates(
    statistics: Statistics, configuration: Configuration, rates: Sequence[float]
) -> Configuration:
    """The configuration with thresholds that give these exit rates in calibration."""
    going = part_images(statistics, "calibration")
    total, choices = len(going), []
    for choice, rate in zip(configuration.exits[:-1], rates, strict=False):
        column = statistics.heads.index((choice.exit, choice.head))
        values = statistics.confidence[str(choice.policy)][:, column]
        count = min(round(rate * total), len(going))
        ordered = going[np.argsort(-values[going], kind="stable")]
        limit = float(values[ordered[count - 1]]) if count else NEVER
        choices.append(dataclasses.replace(choice, threshold=limit))
        going = going[values[going] < np.float32(limit)]
    return Configuration((*choices, configuration.exits[-1]))


def forced(configuration: Configuration, exit_index: int) -> Configuration:
    """The configuration with thresholds that lead every image to one exit."""
    return Configuration(
        tuple(
            c
            if c.policy is None
            else dataclasses.replace(
                c, threshold=NEVER if c.exit < exit_index else ALWAYS
            )
            for c in configuration.exits
        )
    )


def forms(precision: Precision) -> dict[str, ExportForm]:
    result = {
        "linked": ExportForm(),
        "linked, pixels in": ExportForm(input="uint8"),
        "linked, class ids": ExportForm(answer="classes"),
        "linked, ids at image size": ExportForm(answer="classes", resolution="image"),
        "linked, exit_k": ExportForm(exit_signatures=True),
    }
    if has_int8_activations(precision):
        result["linked, float ends"] = ExportForm(input="float32", output="float32")
    return result


def report(
    folder: Path,
    pieces: Pieces,
    spec: SupernetSpec,
    configuration: Configuration,
    settings: MeasureSettings,
) -> None:
    """Writes, measures and prints all forms of one precision."""
    ends = {
        "deepest": configuration.exits[-1].exit,
        "shallowest": configuration.exits[0].exit,
    }
    files: dict[str, Path] = {}
    for path, exit_index in ends.items():
        files[f"static {path}"] = folder / f"static_{path}.tflite"
        link_static(
            pieces,
            spec,
            configuration,
            files[f"static {path}"],
            upto=exit_index,
            decisions=True,
        )
        for name, form in forms(pieces.precision).items():
            file = folder / f"{name}_{path}.tflite".replace(" ", "_")
            files[f"{name} {path}"] = file
            link_configuration(
                pieces, spec, forced(configuration, exit_index), file, form
            )
    files["single"] = folder / "single.tflite"
    single = Configuration(configuration.exits[-1:])
    link_configuration(pieces, spec, single, files["single"])
    plan = link_stages(pieces, spec, configuration, folder / "stages")
    files |= {name: folder / "stages" / name for name in stage_files(plan)}
    knob = folder / "knob.tflite"
    link_configuration(
        pieces, spec, configuration, knob, ExportForm(threshold_input=True)
    )

    models = [ModelFile.read(path, name) for name, path in files.items()]
    with open_device("host") as device:
        compared = compare(device, models, settings)
    static = files["static deepest"]
    load = max(
        r.conditions.foreign_load or 0.0
        for taken in compared.rounds.values()
        for r in taken
    )
    print(
        f"\n## {pieces.precision} ({settings.threads} threads, foreign load {load:.2f})"
    )
    print("| form | MB | of static | deepest | shallowest | peak MiB (of static) |")
    print("|---|---|---|---|---|---|")
    base = peak_mib(static, settings.threads)
    paths = {
        name: ([f"{name} deepest"], [f"{name} shallowest"])
        for name in forms(pieces.precision)
    }
    for name, (deep, shallow) in paths.items():
        line(name, [files[deep[0]]], static, compared, deep, shallow)
        print(memory(files[deep[0]], base, settings.threads))
    deep = [n for s in plan.stages for n in (s.file, s.decision) if n is not None]
    last, first = plan.stages[-1], plan.stages[0]
    deep += [last.answer] if last.answer else []
    shallow = [n for n in (first.file, first.decision, first.answer) if n is not None]
    whole = [folder / "stages" / name for name in stage_files(plan)]
    line("stages", whole, static, compared, deep, shallow)
    print(" |")
    line("linked, thresholds in", [knob], static, compared, [], [])
    print(" |")
    line("single", [files["single"]], static, compared, ["single"], [])
    print(memory(files["single"], base, settings.threads))
    print(f"static deepest {compared.median_ms('static deepest'):.3f} ms, shallowest")
    print(f"  {compared.median_ms('static shallowest'):.3f} ms, peak {base:.1f} MiB")
    print(json.dumps({name: compared.median_ms(name) for name in compared.medians_us}))


def line(
    name: str,
    files: Sequence[Path],
    static: Path,
    compared: Comparison,
    deep: Sequence[str],
    shallow: Sequence[str],
) -> None:
    size = sum(file.stat().st_size for file in files)
    cells = [name, f"{size / 1e6:.3f}", f"{size / static.stat().st_size:.4f}x"]
    for names, other in ((deep, "static deepest"), (shallow, "static shallowest")):
        if not names:
            cells.append("")
            continue
        ratio = compared.ratio(list(names), other)
        ms = sum(compared.median_ms(n) for n in names)
        cells.append(
            f"{ms:.3f} ms, {ratio.median:.3f}x [{ratio.low:.3f}, {ratio.high:.3f}]"
        )
    print(f"| {' | '.join(cells)} |", end="")


def memory(file: Path, base: float, threads: int) -> str:
    peak = peak_mib(file, threads)
    return f" {peak:.1f} ({peak / base:.2f}x) |" if base else f" {peak:.1f} |"


def peak_mib(file: Path, threads: int) -> float:
    """Least of a few fresh processes: what else they do only adds."""
    command = [sys.executable, "-c", MEMORY, str(file), str(threads)]
    peaks = []
    for _ in range(PEAK_PROCESSES):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=True
        )
        peaks.append(float(json.loads(done.stdout.splitlines()[-1])))
    return min(peaks)


def accuracy(run: Run, precision: Precision, configuration: Configuration) -> None:
    """Prints mIoU per exit and dynamic on the report part."""
    if not run.statistics(precision).is_file():
        print(f"{precision}: not evaluated")
        return
    statistics = Statistics.load(run.statistics(precision))
    place = exit_position_per_image(statistics, configuration)
    calibration = place[part_images(statistics, "calibration")]
    rates = [float(np.mean(calibration == i)) for i in range(len(configuration.exits))]
    own = with_rates(statistics, configuration, rates)
    final = (configuration.exits[-1].exit, configuration.exits[-1].head)
    alone = ", ".join(
        f"exit {c.exit} {head_miou(statistics, (c.exit, c.head), 'report'):.2%}"
        for c in configuration.exits
    )
    dynamic = routed(
        statistics, own, exit_position_per_image(statistics, own), final, "report"
    )
    told = (
        ""
        if dynamic is None
        else f"; dynamic {dynamic.miou:.2%} at exit rates "
        + ("/".join(f"{rate:.0%}" for rate in dynamic.exit_rates))
    )
    print(f"mIoU on the report part: {alone}{told}")


if __name__ == "__main__":
    main()
