"""Exported files on a folder of photographs: accuracy, exit rates and time in turns.

    python benchmarks/photographs/check_files.py DATA [--split val] EXPORT...

DATA is a folder as in docs/data.md (images/SPLIT, masks/SPLIT, classes.txt); EXPORT are
folders with model.tflite and card.json, of linked files. Nothing is trained and nothing
chosen. Every file sees every image, one file after the other on each image, so that the
machine's drift meets all alike; times are those of LiteRT on this computer, the mean
over images of each image's median of three runs.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mess_tf.core.tensorflow_environment import set_tensorflow_defaults

set_tensorflow_defaults()

import numpy as np

from mess_tf.core.segmentation_metrics import Areas, count_areas, mean_iou
from mess_tf.core.supernet_spec import Preprocessing
from mess_tf.data.augment import evaluation_image
from mess_tf.data.folder import open_folder
from mess_tf.evaluation.predict import upsampled_classes
from mess_tf.runtime.linked_model import LinkedModel

RUNS = 3
RESAMPLES = 1000


@dataclass
class Tally:
    """What one file did on the images so far."""

    card: dict[str, Any]
    model: LinkedModel
    areas: list[Areas] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)

    def miou(self, chosen: np.ndarray) -> float:
        """mIoU over some images, by index."""
        total = self.areas[chosen[0]]
        for index in chosen[1:]:
            total = total + self.areas[index]
        return mean_iou(total)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("exports", type=Path, nargs="+")
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int, default=0, help="0 = all")
    given = parser.parse_args()
    source = open_folder(given.split, path=given.data, group="image")
    tallies = [
        Tally(
            json.loads((folder / "card.json").read_text(encoding="utf-8")),
            LinkedModel(folder / "model.tflite"),
        )
        for folder in given.exports
    ]
    count = min(given.images or len(source), len(source))
    chosen = np.unique(np.linspace(0, len(source) - 1, count).round().astype(int))
    for index in chosen.tolist():
        sample = source.load(index)
        for tally in tallies:
            run_one(tally, sample.image, sample.labels, len(source.classes))
    print(f"{len(chosen)} images of {given.split}, {processor()}, one thread")
    print_table(tallies)


def run_one(tally: Tally, image: np.ndarray, labels: np.ndarray, classes: int) -> None:
    """Runs a file on one image and adds what it did."""
    norm = tally.card["preprocessing"]
    preprocessing = Preprocessing(tuple(norm["mean"]), tuple(norm["std"]))
    _, height, width, _ = tally.card["input"]["shape"]
    given = evaluation_image(image, height, width, preprocessing)
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        prediction = tally.model.run(given)
        times.append(1000 * (time.perf_counter() - started))
    if prediction.logits is None:
        raise SystemExit("A file that gives no logits is not compared; export logits.")
    tally.exits.append(prediction.exit)
    tally.ms.append(statistics.median(times))
    predicted = upsampled_classes(prediction.logits, *labels.shape)
    tally.areas.append(count_areas(labels, predicted, classes))


def print_table(tallies: list[Tally]) -> None:
    """A line per file; changes against the first one, with 95 % intervals."""
    first = tallies[0]
    everything = np.arange(len(first.ms))
    rng = np.random.default_rng(0)
    draws = [
        rng.integers(0, len(everything), len(everything)) for _ in range(RESAMPLES)
    ]
    heading = ("file", "mIoU", "change, pp (95 %)", "ms", "speed-up", "exit rates")
    rows = [heading]
    for tally in tallies:
        change = [100 * (tally.miou(d) - first.miou(d)) for d in draws]
        low, high = np.percentile(change, [2.5, 97.5])
        miou = tally.miou(everything)
        mean_ms = statistics.fmean(tally.ms)
        exits = [row["exit"] for row in tally.card["exits"]]
        rates = "/".join(f"{np.mean(np.array(tally.exits) == e):.0%}" for e in exits)
        rows.append(
            (
                tally.card["name"],
                f"{miou:.2%}",
                f"{100 * (miou - first.miou(everything)):+.2f} ({low:+.2f} to"
                f" {high:+.2f})",
                f"{mean_ms:.2f}",
                f"{statistics.fmean(first.ms) / mean_ms:.2f}x",
                rates,
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, strict=True)
        print("  ".join(cell.ljust(width) for cell, width in cells).rstrip())


def processor() -> str:
    """The processor's name, as Linux tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
