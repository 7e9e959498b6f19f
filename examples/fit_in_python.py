"""From images to a file that stops early, by the library alone.

    python examples/fit_in_python.py [RUN]

Every function is the command of the same name (`mess train` is ``mess_tf.train``). The
settings are half of `mess quickstart`'s, so that it takes about two minutes on two idle
cores; leave ``changes`` out for the whole.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import mess_tf
from mess_tf.data.drawn import open_drawn

SMALL = (
    "data.count_train=400",
    "data.count_val=100",
    "training.stage1_epochs=8",
    "training.stage2_epochs=4",
    "training.warmup_steps=10",
    "statistics.policies=['mean']",
)
MAX_DROP_PP = 2.0


def fit(run: Path) -> Path:
    """Trains, measures on this computer and exports; gives the exported file."""
    trained = mess_tf.train(run, recipe="quickstart", changes=SMALL)
    print(f"final exit: mIoU {trained['final_miou']:.1%} on the calibration part")
    mess_tf.compile(run)
    mess_tf.evaluate(run)
    measured = mess_tf.profile(run)
    print(f"{len(measured['measured'])} pieces measured on this computer")

    found = mess_tf.search(run, mess_tf.Requirement(max_drop_pp=MAX_DROP_PP))
    result = found["devices"][0]["results"][0]
    for title in ("chosen", "reference"):
        figures = result[title]["calibration"]
        print(f"{title}: {figures['mean_ms']:.3f} ms, mIoU {figures['miou']:.1%}")

    form = mess_tf.ExportForm(input="uint8", answer="classes", resolution="image")
    exported = mess_tf.export(run, form)
    return Path(exported["exports"][0]["model"])


def segment(model: Path) -> None:
    """Runs the file on images it has never seen."""
    linked = mess_tf.LinkedModel(model)
    _, height, width, _ = linked.image.shape
    for sample in map(open_drawn("new", count=4, size=(height, width)).load, range(4)):
        answer = linked.run(sample.image)
        right = np.mean(answer.classes == sample.labels)
        print(f"left at exit point {answer.exit}; {right:.0%} of the pixels are right")


def main() -> None:
    run = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/in_python")
    try:
        segment(fit(run))
    except mess_tf.MessError as error:  # one line: what it is, and what to do
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
