"""What linking costs, and what the chosen configurations gain: measured side by side.

For every export of a run, one interleaved measurement of

* ``plain``: the single-exit network (final head alone) converted by
  ``TFLiteConverter.from_keras_model`` as it comes, without native dilations;
* ``ours``: the same network by our conversion;
* ``static``: the best single exit for the same requirement;
* ``leave <k>``: the linked file with its decisions forced to leave at exit k;
* ``static <k>``: the same heads up to exit k in one file without decisions.

The latency of a configuration is the mean of its ``leave`` figures weighted by its
exit rates on the report part. Every ratio is the median over rounds of ratios within a
round, with an interval of 95 %.

    python benchmarks/bench_linked.py runs/camvid --precision int8 --threads 1
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path

from mess_tf.core.tensorflow_environment import set_tensorflow_defaults

set_tensorflow_defaults()

import numpy as np

from android_bench.compare import Comparison, Ratio, compare, median_interval
from android_bench.devices import open_device
from android_bench.records import MeasureSettings, ModelFile
from mess_tf.commands.compile import calibration_images
from mess_tf.core.configuration import Configuration
from mess_tf.core.json_files import read_json
from mess_tf.core.pieces import Pieces
from mess_tf.core.precisions import Precision
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.exporting.linking import link_configuration, link_static
from mess_tf.flatbuffer.reader import Graph, read_file
from mess_tf.runs import Run

NEVER, ALWAYS = 2.0, -1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--precision", default="int8", choices=("float32", "int8"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--export", action="append", help="only this export")
    arguments = parser.parse_args()
    run = Run.open(arguments.run)
    spec = SupernetSpec.load(run.supernet_structure)
    pieces = Pieces.load(run.pieces(arguments.precision))
    settings = dataclasses.replace(
        MeasureSettings.preset("compare", arguments.threads), rounds=arguments.rounds
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain = folder / "plain.tflite"
        plain.write_bytes(plain_single_exit(run, spec, arguments.precision))
        whole = pieces.path("probe_whole")
        print("operators of the plain conversion:", dilation_operators(plain))
        print("operators of ours:", dilation_operators(whole))
        for export in run.exports():
            card = read_json(export / "card.json", "card")
            wanted = arguments.export is None or export.name in arguments.export
            if card["precision"] != arguments.precision or not wanted:
                continue
            files = {"plain": plain, "ours": whole}
            files |= forced_files(folder / export.name, pieces, spec, card)
            models = [ModelFile.read(path, key) for key, path in files.items()]
            with open_device("host") as device:
                compared = compare(device, models, settings)
            report(export.name, card, compared)


def plain_single_exit(run: Run, spec: SupernetSpec, precision: Precision) -> bytes:
    """The final exit's network, converted as a user would without this project."""
    import keras

    from mess_tf.converting.calibrate import Calibration
    from mess_tf.converting.convert import convert_plain
    from mess_tf.models.supernet import Supernet
    from mess_tf.training.losses import resize_to

    supernet = Supernet.load(run.folder).at_size()
    last = spec.exit_points[-1].index
    tensors = supernet.exit_tensors()
    inputs = supernet.head_inputs(last, [spec.final_head.id])
    logits = supernet.heads(last, [spec.final_head.id])(
        [tensors[i - 1] for i in inputs]
    )
    logits = logits[0] if isinstance(logits, list) else logits
    model = keras.Model(supernet.model.inputs, resize_to(logits, *spec.output_size))
    images = calibration_images(run, spec, run.recipe.compile.calibration_images)
    samples = Calibration([[image[None]] for image in images])
    return convert_plain(model, precision, samples)


def dilation_operators(path: Path) -> dict[str, int]:
    graph = Graph(read_file(path))
    names = [graph.operator_name(i) for i in range(len(graph.operators))]
    kinds = ("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", "CONV_2D", "DEPTHWISE_CONV_2D")
    return {kind: names.count(kind) for kind in kinds} | {"all": len(names)}


def forced_files(
    folder: Path, pieces: Pieces, spec: SupernetSpec, card: dict
) -> dict[str, Path]:
    """Linked files that always leave at one exit, and their static counterparts."""
    folder.mkdir()
    configuration = Configuration.from_json(card["promise"]["configuration"])
    files = {}
    for place, choice in enumerate(configuration.exits):
        forced = Configuration(
            tuple(
                dataclasses.replace(c, threshold=NEVER if i < place else ALWAYS)
                if c.policy is not None
                else c
                for i, c in enumerate(configuration.exits)
            )
        )
        files[f"leave {choice.exit}"] = folder / f"leave_{choice.exit}.tflite"
        link_configuration(pieces, spec, forced, files[f"leave {choice.exit}"])
        files[f"static {choice.exit}"] = folder / f"static_{choice.exit}.tflite"
        path = files[f"static {choice.exit}"]
        link_static(pieces, spec, configuration, path, upto=choice.exit)
    if card["best_static"] is not None:
        static = Configuration.from_json(card["best_static"]["configuration"])
        files["static"] = folder / "static.tflite"
        link_configuration(pieces, spec, static, files["static"])
    return files


def report(name: str, card: dict, compared: Comparison) -> None:
    figures = card["promise"]["report"] or card["promise"]["calibration"]
    exits = [choice["exit"] for choice in card["promise"]["configuration"]]
    mixture = sum(
        rate * np.array(compared.medians_us[f"leave {k}"])
        for rate, k in zip(figures["exit_rates"], exits, strict=True)
    )
    print(f"\n## {name}: exits {exits}, rates {np.round(figures['exit_rates'], 3)}")
    print(f"promised {figures['mean_ms']:.3f} ms, drop {figures['drop_pp']:+.2f} pp")
    print(f"measured {np.median(mixture) / 1000:.3f} ms (weighted paths)")
    for other in ("plain", "ours", "static"):
        if other in compared.medians_us:
            ratio = median_interval(np.array(compared.medians_us[other]) / mixture)
            print(
                f"speed-up over {other} ({compared.median_ms(other):.3f} ms):"
                f" {shown(ratio)}"
            )
    for k in exits:
        ratio = compared.ratio(f"leave {k}", f"static {k}")
        print(
            f"leave {k} {compared.median_ms(f'leave {k}'):.3f} ms over static {k}"
            f" {compared.median_ms(f'static {k}'):.3f} ms: {shown(ratio)}"
        )
    print(json.dumps({n: compared.median_ms(n) for n in compared.medians_us}))


def shown(ratio: Ratio) -> str:
    return f"{ratio.median:.3f}x [{ratio.low:.3f}, {ratio.high:.3f}]"


if __name__ == "__main__":
    main()
