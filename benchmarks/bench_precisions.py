"""One configuration in every precision: latency of each exit, measured in turns.

The linked files of all precisions that a run has pieces of are measured in one go, each
forced to leave at each of its exits. ``configuration`` is the mean over exits, weighted
by the exit rates on the report part that it has in the precision it was searched for.
Ratios are medians over rounds of ratios within a round, with an interval of 95 %.

    python benchmarks/bench_precisions.py runs/camvid --choice drop1 --threads 1
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from mess_tf.core.statistics import part_images
from mess_tf.core.tensorflow_environment import set_tensorflow_defaults

set_tensorflow_defaults()

import numpy as np
from bench_forms import chosen, forced, parser_of

from android_bench.compare import compare, median_interval
from android_bench.devices import open_device
from android_bench.records import MeasureSettings, ModelFile
from mess_tf.core.pieces import Pieces
from mess_tf.core.precisions import PRECISIONS
from mess_tf.core.routing import exit_position_per_image
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.exporting.linking import link_configuration
from mess_tf.runs import Run


def main() -> None:
    arguments = parser_of(__doc__).parse_args()
    run = Run.open(arguments.run)
    spec = SupernetSpec.load(run.supernet_structure)
    configuration = chosen(run, arguments)
    statistics = Statistics.load(run.statistics(arguments.like))
    place = exit_position_per_image(statistics, configuration)[
        part_images(statistics, "report")
    ]
    exits = [choice.exit for choice in configuration.exits]
    rates = [float(np.mean(place == i)) for i in range(len(exits))]
    settings = dataclasses.replace(
        MeasureSettings.preset("compare", arguments.threads), rounds=arguments.rounds
    )
    own = [p for p in PRECISIONS if (run.pieces(p) / "pieces.json").is_file()]
    with tempfile.TemporaryDirectory() as name:
        models = []
        for precision in own:
            pieces = Pieces.load(run.pieces(precision))
            for exit_index in exits:
                key = f"{precision} {exit_index}"
                path = Path(name) / f"{precision}_{exit_index}.tflite"
                link_configuration(
                    pieces, spec, forced(configuration, exit_index), path
                )
                models.append(ModelFile.read(path, key))
        with open_device("host") as device:
            compared = compare(device, models, settings)

    times = {
        precision: np.array([compared.medians_us[f"{precision} {k}"] for k in exits])
        for precision in own
    }
    shown = " ".join(f"{k} ({rate:.0%})" for k, rate in zip(exits, rates, strict=True))
    print(f"exits {shown}, {arguments.threads} threads; times as fast as {own[0]}")
    print(f"| precision | {' | '.join(f'exit {k}' for k in exits)} | configuration |")
    print(f"|{'---|' * (len(exits) + 2)}")
    for precision, by_exit in times.items():
        cells = []
        pairs = [(by_exit[i], times[own[0]][i]) for i in range(len(exits))]
        pairs.append((np.array(rates) @ by_exit, np.array(rates) @ times[own[0]]))
        for mine, first in pairs:
            ratio = median_interval(first / mine)
            cells.append(
                f"{np.median(mine) / 1000:.2f} ms, {ratio.median:.3f}x"
                f" [{ratio.low:.3f}, {ratio.high:.3f}]"
            )
        print(f"| {precision} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
