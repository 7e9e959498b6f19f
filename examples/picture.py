"""Draws the picture of the README: images, and at which exit one file let them leave.

    python examples/picture.py MODEL.tflite PICTURE.png

MODEL is an export with early exits of the network that `make demo` trains. Of drawn
images the first two that leave at each exit are shown.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from PIL import Image

import mess_tf
from mess_tf.data.drawn import open_drawn

SIDE, GAP, TRIED, OF_EACH = 132, 6, 240, 2


def main() -> None:
    model, target = Path(sys.argv[1]), Path(sys.argv[2])
    source = open_drawn("picture", count=TRIED, size=SIDE)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{index:03d}.png") for index in range(TRIED)]
        for index, path in enumerate(paths):
            Image.fromarray(source.load(index).image).save(path)
        rows = mess_tf.run(model, paths, output=Path(folder, "overlays"))["images"]
        columns = []
        for exit_point in sorted({row["exit_point"] for row in rows}):
            own = [row for row in rows if row["exit_point"] == exit_point]
            columns += [(row["image"], row["overlay"]) for row in own[:OF_EACH]]
        step = SIDE + GAP
        sheet = Image.new("RGB", (len(columns) * step - GAP, 2 * step - GAP), "white")
        for column, files in enumerate(columns):
            for row, file in enumerate(files):
                sheet.paste(Image.open(file), (column * step, row * step))
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(64).save(target, optimize=True)


if __name__ == "__main__":
    main()
